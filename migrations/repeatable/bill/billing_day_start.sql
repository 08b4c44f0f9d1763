-- One definition of where a day begins, for the calendar of the bill and, where nothing else is inferred, for that of the provider.
create or replace function vobiz.billing_day_start(day date, zone text) returns timestamptz
  language sql immutable parallel safe
  as $$
    -- Where a change of the clock shows midnight twice, Postgres takes the second one: the first is midnight by the offset of
    -- six hours before.
    select least(
      day::timestamp at time zone zone,
      case when ((day::timestamp at time zone 'UTC'
                  - (((day::timestamp at time zone zone) - interval '6 hours') at time zone zone
                     - ((day::timestamp at time zone zone) - interval '6 hours') at time zone 'UTC')) at time zone zone)
                = day::timestamp
           then day::timestamp at time zone 'UTC'
                - (((day::timestamp at time zone zone) - interval '6 hours') at time zone zone
                   - ((day::timestamp at time zone zone) - interval '6 hours') at time zone 'UTC') end)
  $$;
comment on function vobiz.billing_day_start(date, text) is
  'The first instant of a day in a zone: when its clocks show midnight first, or leap over it. A day ends where the next one begins, so it has 23, 24 or 25 hours.';

create or replace function vobiz.billing_day_start(day date) returns timestamptz
  language sql stable parallel safe
  as $$ select vobiz.billing_day_start(day, (select s.billing_zone from vobiz.setting s)) $$;
comment on function vobiz.billing_day_start(date) is
  'First instant of a day in the billing zone. March is: day_at >= vobiz.billing_day_start(''2026-03-01'') and day_at < vobiz.billing_day_start(''2026-04-01'').';
