create or replace view vobiz.billing_account_day as
  select k.day, date_trunc('month', k.day::timestamp)::date as month, k.billing_zone, o.account_id, k.from_at, k.to_at
  from vobiz.billing_calendar() k
  cross join vobiz.call_owner o;

comment on view   vobiz.billing_account_day is 'The billing days of each account that owns calls. The views below read the calls of one of these at a time, by its two instants, so a condition on day, month or account_id reads only the days that it names.';
comment on column vobiz.billing_account_day.day is 'Day in the billing zone.';
comment on column vobiz.billing_account_day.month is 'First day of its month.';
comment on column vobiz.billing_account_day.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.billing_account_day.account_id is 'Account that owns calls, on this day or another.';
comment on column vobiz.billing_account_day.from_at is 'First instant of the day.';
comment on column vobiz.billing_account_day.to_at is 'First instant after the day.';
