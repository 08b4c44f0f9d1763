create or replace function vobiz.customer_of(account_id text, trunk_id text, campaign_id text, our_number text, at timestamptz) returns text
  language sql stable parallel safe
  as $$
    select vobiz.first_rule(
      (select r.customer from vobiz.customer_rule r
       where r.field = 'our_number' and r.forms @> array[customer_of.our_number]
         and vobiz.rule_is_valid(r.valid_from, r.valid_to, customer_of.at)),
      (select r.customer from vobiz.customer_rule r where vobiz.rule_holds(r, 'campaign_id', customer_of.campaign_id, customer_of.at)),
      (select r.customer from vobiz.customer_rule r where vobiz.rule_holds(r, 'trunk_id', customer_of.trunk_id, customer_of.at)),
      (select r.customer from vobiz.customer_rule r where vobiz.rule_holds(r, 'account_id', customer_of.account_id, customer_of.at)))
  $$;
comment on function vobiz.customer_of(text, text, text, text, timestamptz) is
  'The customer of a call with this sub-account, trunk, campaign and own number at this billing instant (day_at), by vobiz.customer_rule; ''unassigned'' where no rule fits. For many calls read vobiz.customer_cdr instead.';
