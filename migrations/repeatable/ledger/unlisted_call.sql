create or replace function vobiz.unlisted_call(account text, day_of text, from_at timestamptz, to_at timestamptz)
  returns setof vobiz.cdr language sql stable
  as $$
    select c.*
    from vobiz.compared_owner o
    cross join lateral (
      -- By whatever time its day is decided, a call began not much earlier …
      select c.* from vobiz.cdr c
      where c.account_id = o.owner and c.day_at >= from_at - interval '1 day' and c.day_at < to_at
      union all
      -- … but for one that lasted longer than a day.
      select c.* from vobiz.cdr c
      where c.account_id = o.owner and c.day_at < from_at - interval '1 day'
        and c.end_time - c.start_time > interval '1 day' and c.end_time >= from_at - interval '1 day' and c.end_time < to_at) c
    cross join lateral (select vobiz.deciding_instant(day_of, c.day_at, c.end_time, c.created_at) as instant) i
    where o.account_id = account and (o.owner = account or c.listed_by = account)
      and i.instant >= from_at and i.instant < to_at
      and not exists (select from vobiz.listed_call l where l.account_id = account and l.call_id = c.call_id)
  $$;
comment on function vobiz.unlisted_call(text, text, timestamptz, timestamptz) is
  'Calls stored here that the list of a day ought to show and that no list of the check under way showed.';
