-- A reservation is a minute (src/sweep/drain.rs): one that ends later was written under a clock that was wrong.
create or replace function vobiz.reserved_to(a vobiz.account) returns timestamptz
  language sql stable parallel safe
  as $$ select case when a.listing_until > vobiz.now() and a.listing_until <= vobiz.now() + interval '2 minutes'
                    then a.listed_due_to end $$;
comment on function vobiz.reserved_to(vobiz.account) is
  'Calls that fell due up to here are kept for the reader of the list; NULL where there is no reservation.';
