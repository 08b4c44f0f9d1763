create or replace function vobiz.billing_start(day date) returns timestamptz
  language sql stable parallel safe
  as $$ select vobiz.day_begins(day, (select s.billing_zone from vobiz.setting s)) $$;
comment on function vobiz.billing_start(date) is
  'First instant of a day in the billing zone. March is: day_at >= vobiz.billing_start(''2026-03-01'') and day_at < vobiz.billing_start(''2026-04-01'').';
