create or replace function vobiz.provider_day_start(account text, day date) returns timestamptz
  language sql stable parallel safe
  as $$
    select case when a.day_offset is null then vobiz.billing_day_start(day, s.billing_zone)
                else (day::timestamp at time zone 'UTC') - a.day_offset end
    from vobiz.setting s left join vobiz.account a on a.account_id = account
  $$;
comment on function vobiz.provider_day_start(text, date) is
  'The first instant of a provider day of this account: at the offset inferred from its lists, else as in the billing zone.';
