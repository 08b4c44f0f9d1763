create or replace function vobiz.day_begins(day date, zone text) returns timestamptz
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
comment on function vobiz.day_begins(date, text) is
  'The first instant of a day in a zone: when its clocks show midnight first, or leap over it. A day ends where the next one begins, so it has 23, 24 or 25 hours.';
