create or replace function vobiz.rule_is_valid(valid_from timestamptz, valid_to timestamptz, at timestamptz) returns boolean
  language sql immutable parallel safe
  as $$ select valid_from <= at and valid_to > at $$;
comment on function vobiz.rule_is_valid(timestamptz, timestamptz, timestamptz) is
  'Whether a rule with this validity is about calls of this billing instant. Planned as the conditions that it consists of.';
