create or replace function vobiz.pulse_minutes(billsec integer) returns bigint
  language sql immutable parallel safe
  as $$ select (billsec::bigint + 59) / 60 $$;
comment on function vobiz.pulse_minutes(integer) is 'Seconds talked as minutes, each begun one counted as whole: the 60 s pulse. 0 for 0.';
