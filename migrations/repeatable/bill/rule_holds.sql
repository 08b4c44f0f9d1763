create or replace function vobiz.rule_holds(r vobiz.customer_rule, field text, value text, at timestamptz) returns boolean
  language sql immutable parallel safe
  as $$ select r.field = rule_holds.field and r.value = rule_holds.value and vobiz.rule_is_valid(r.valid_from, r.valid_to, at) $$;
comment on function vobiz.rule_holds(vobiz.customer_rule, text, text, timestamptz) is
  'Whether a rule is about calls of which this field says this, at this billing instant; own numbers have several forms, and are asked of vobiz.number_rule. Planned as the conditions that it consists of.';
