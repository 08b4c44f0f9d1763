create or replace function vobiz.reserved_within(ahead interval, rate double precision) returns interval
  language sql immutable parallel safe
  -- One and a half slots where that is 250 ms, as a fetch reserves. A lease must not run out while it waits for its slot.
  as $$ select least(ahead * greatest(1, 6 / rate), greatest(ahead, interval '10 seconds')) $$;
comment on function vobiz.reserved_within(interval, double precision) is
  'How far ahead a request may be reserved at a rate, in requests a second. At a slow one the next slot lies further ahead than a fetch reserves: the reader of a list, which may reserve further, would take every one.';
