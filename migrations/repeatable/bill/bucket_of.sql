create or replace function vobiz.bucket_of(at timestamptz) returns timestamptz
  language sql immutable parallel safe
  -- An origin before all calls: older Postgres bins what lies before it one bin too early.
  as $$ select date_bin('15 minutes', at, timestamptz '0001-01-01 00:00:00+00') $$;
comment on function vobiz.bucket_of(timestamptz) is
  'Start of the quarter of an hour in which an instant lies. All zones have been whole quarters off UTC since 1972, so quarters fold into the days of any of them; one of before that may lie in two days, and counts for the day in which it begins.';
