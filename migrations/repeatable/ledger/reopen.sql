-- Whatever changes a call of a day that was checked reopens the day, by whichever writer. The row of the day is also the fence
-- between a check that ends and a writer that comes late: the one that is second waits, and sees what the first one did. A day
-- that is reopened already, and that nobody is checking, needs no second word.
create or replace function vobiz.reopen(
    call_account text, list_account text, first timestamptz, last timestamptz, known boolean) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    touched date[];
    whose   text[];
  begin
    -- With an older snapshot, a check that has begun meanwhile would not be seen.
    perform vobiz.need_read_committed();
    select array_agg(d.account_id), array_agg(d.day) into whose, touched
    from vobiz.provider_day d
    -- The list of a parent may have shown a call of its sub-account, under whichever account it was stored last.
    where (d.account_id in (call_account, list_account)
           or known and d.account_id in (select o.account_id from vobiz.listed_owner o where o.owner = call_account))
      -- Days of Vobiz are never further than this from those of UTC.
      and d.day between (first at time zone 'UTC')::date - 1 and (last at time zone 'UTC')::date + 1
      and d.from_at <= last and d.to_at > first
      and d.began_at is not null
      -- One that is reopened already, and that nobody is checking, needs no second word.
      and (d.reopened_at is null or d.checked_at is null or d.began_at > d.checked_at);
    if touched is null then
      return;
    end if;
    -- Always in this order: two writers of the same days seldom wait for each other in a ring. If two calls of theirs do it
    -- nevertheless, Postgres ends one of them, and it tries again.
    perform from vobiz.provider_day d
    join unnest(whose, touched) as t (account_id, day) on d.account_id = t.account_id and d.day = t.day
    order by d.account_id, d.day for no key update of d;
    update vobiz.provider_day d
    set reopened_at = coalesce(d.reopened_at, vobiz.now()),
        -- What changes in one go is checked in one go: 10 minutes later, and if that goes on four times as late each time, up to a
        -- day.
        check_at = case when d.reopened_at is not null then d.check_at
                        else least(d.check_at, vobiz.now() + least(interval '24 hours',
                                                                   interval '10 minutes' * 4 ^ least(d.reopenings, 4))) end
    from unnest(whose, touched) as t (account_id, day)
    where d.account_id = t.account_id and d.day = t.day;
  end $$;
comment on function vobiz.reopen(text, text, timestamptz, timestamptz, boolean) is
  'Reopens the checked days in which a call lies whose times lie between these; known: it was stored before.';
