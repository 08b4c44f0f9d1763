create or replace function vobiz.day_on(account text, instant timestamptz) returns date
  language sql stable parallel safe
  as $$
    select case when a.day_offset is null then (instant at time zone s.billing_zone)::date
                else ((instant at time zone 'UTC') + a.day_offset)::date end
    from vobiz.setting s left join vobiz.account a on a.account_id = account
  $$;
comment on function vobiz.day_on(text, timestamptz) is
  'The provider day of this account in which an instant lies: by what its lists told, else in the billing zone.';
