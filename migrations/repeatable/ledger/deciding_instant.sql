create or replace function vobiz.deciding_instant(
    day_of text, start_time timestamptz, end_time timestamptz, created_at timestamptz) returns timestamptz
  language sql immutable parallel safe
  as $$
    select case day_of when 'end_time' then coalesce(end_time, start_time, created_at)
                       when 'created_at' then coalesce(created_at, start_time, end_time)
                       else coalesce(start_time, end_time, created_at) end
  $$;
comment on function vobiz.deciding_instant(text, timestamptz, timestamptz, timestamptz) is
  'The instant that decides in which provider day a call lies: the time by which Vobiz cuts its days, or what its record says instead. Of a stored call start_time is day_at, which is never missing.';
