create or replace function vobiz.provider_day_of(account text, instant timestamptz) returns date
  language sql stable parallel safe
  as $$
    select case when a.day_offset is null then vobiz.billing_day_of(instant, s.billing_zone)
                else ((instant at time zone 'UTC') + a.day_offset)::date end
    from vobiz.setting s left join vobiz.account a on a.account_id = account
  $$;
comment on function vobiz.provider_day_of(text, timestamptz) is
  'The provider day of this account in which an instant lies: at the offset inferred from its lists, else as in the billing zone.';
