create or replace function vobiz.recompute_provider_day(account text, start_decides boolean) returns void
  language plpgsql set lock_timeout = '5s'
  as $$
  begin
    -- A writer reopens the day in which its call lies: those that go by the old days end first.
    lock table vobiz.cdr in share mode;
    with owner as materialized (
      select o.owner as id from vobiz.compared_owner o where o.account_id = account
    ), recomputed as (
      select d.day, d.from_at as old_from, d.to_at as old_to,
             vobiz.provider_day_start(account, d.day) as from_at, vobiz.provider_day_start(account, d.day + 1) as to_at
      from vobiz.provider_day d where d.account_id = account
    ), moved as (
      select n.day, n.from_at, n.to_at,
             exists (
               select from (values (least(n.old_from, n.from_at), greatest(n.old_from, n.from_at)),
                                   (least(n.old_to, n.to_at), greatest(n.old_to, n.to_at))) as strip (first, last)
               cross join owner o
               join vobiz.cdr c on c.account_id = o.id and c.day_at < strip.last
                 and c.day_at >= strip.first - case when start_decides then interval '0' else interval '1 day' end
               where (o.id = account or c.listed_by = account)
                 -- By its end or its creation a call may belong to a later day than by its start.
                 and (start_decides or greatest(c.day_at, c.end_time, c.created_at) >= strip.first))
             or start_decides is false and exists (
               -- One that lasted longer than a day.
               select from owner o
               join vobiz.cdr c on c.account_id = o.id and c.end_time - c.start_time > interval '1 day'
                 and c.end_time >= n.from_at and c.day_at < n.to_at
               where o.id = account or c.listed_by = account) as changes
      from recomputed n where start_decides is false or (n.old_from, n.old_to) is distinct from (n.from_at, n.to_at)
    )
    update vobiz.provider_day d set
      from_at = m.from_at, to_at = m.to_at,
      reopened_at = case when m.changes and d.checked_at is not null then coalesce(d.reopened_at, vobiz.now())
                         else d.reopened_at end,
      -- At once, but where lists contradict one another, so that days move to and fro, four times as late each time, up to a day.
      check_at = case when m.changes and d.checked_at is not null or d.checked_at is null and d.check_at is not null
                      then greatest(m.to_at + interval '1 hour',
                                    vobiz.now() + case when d.reopenings = 0 then interval '0'
                                                       else least(interval '24 hours', interval '10 minutes' * 4 ^ least(d.reopenings - 1, 4)) end)
                      else d.check_at end
    from moved m where d.account_id = account and d.day = m.day;
  end $$;
comment on function vobiz.recompute_provider_day(text, boolean) is
  'Moves the days of an account to where they lie by what is inferred now, and reopens those between which a call changes over. start_decides: so it did, and does.';
