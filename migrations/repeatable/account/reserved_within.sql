create or replace function vobiz.reserved_within(ahead interval, rate double precision) returns interval
  language sql immutable parallel safe
  -- Four a second: a slot every 250 ms, as far ahead as a fetch reserves. Eight times that far is 2 s.
  as $$ select ahead * least(greatest(1, 4 / rate), 8) $$;
comment on function vobiz.reserved_within(interval, double precision) is
  'How far ahead a request may be reserved at a rate, in requests a second. At a slow one the next slot lies further ahead than a fetch reserves: the reader of a list, which may reserve further, would take every one.';
