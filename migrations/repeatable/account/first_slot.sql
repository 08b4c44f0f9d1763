-- Nobody reserves further ahead than half a second (src/account/mod.rs), or its like at a slow rate, and one slot more: what lies further
-- ahead than twice that was written under a clock that was wrong.
create or replace function vobiz.first_slot(a vobiz.account, rate double precision) returns timestamptz
  language sql stable parallel safe
  as $$
    select case when a.next_slot <= vobiz.now() + vobiz.reserved_within(interval '1 second', rate) + make_interval(secs => 1 / rate)
                then greatest(a.next_slot, vobiz.now()) else vobiz.now() end
  $$;
comment on function vobiz.first_slot(vobiz.account, double precision) is
  'The first instant at which a further request may be sent, at a rate in requests a second.';
