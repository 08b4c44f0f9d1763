create or replace function vobiz.customer_of(account_id text, trunk_id text, campaign_id text, our_number text, at timestamptz) returns text
  language sql stable parallel safe
  as $$
    select coalesce((
      select r.customer from vobiz.customer_rule r
      where (r.field, r.value) in (('our_number', customer_of.our_number), ('campaign_id', customer_of.campaign_id),
                                   ('trunk_id', customer_of.trunk_id), ('account_id', customer_of.account_id))
        and r.valid_from <= customer_of.at and r.valid_to > customer_of.at
      order by array_position('{our_number,campaign_id,trunk_id,account_id}', r.field)
      limit 1), 'unassigned')
  $$;
comment on function vobiz.customer_of(text, text, text, text, timestamptz) is
  'The customer of a call with this sub-account, trunk, campaign and own number at this billing instant (day_at), by vobiz.customer_rule; ''unassigned'' where no rule fits. For many calls read vobiz.customer_cdr instead.';
