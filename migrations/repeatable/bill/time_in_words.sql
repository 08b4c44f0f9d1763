create or replace function vobiz.time_in_words(instant timestamptz, zone text) returns text
  language sql stable parallel safe
  as $$ select to_char(instant at time zone zone, 'YYYY-MM-DD HH24:MI ') || zone $$;
comment on function vobiz.time_in_words(timestamptz, text) is
  'An instant for a sentence, to the minute, with its zone: 2026-11-20 06:30 Asia/Kolkata.';
