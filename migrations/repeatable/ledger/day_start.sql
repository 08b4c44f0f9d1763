create or replace function vobiz.day_start(account text, day date) returns timestamptz
  language sql stable parallel safe
  as $$
    select case when a.day_offset is null then day::timestamp at time zone s.billing_zone
                else (day::timestamp at time zone 'UTC') - a.day_offset end
    from vobiz.setting s left join vobiz.account a on a.account_id = account
  $$;
comment on function vobiz.day_start(text, date) is
  'The first instant of a provider day of this account: by what its lists told, else in the billing zone.';
