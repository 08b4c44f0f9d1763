create or replace function vobiz.unlisted_call(account text, day_of text, from_at timestamptz, to_at timestamptz)
  returns setof vobiz.cdr language sql stable
  as $$
    select c.*
    from vobiz.compared_owner o
    -- No call lasts longer than a day: by whatever time its day is decided, it began not much earlier.
    join vobiz.cdr c on c.account_id = o.owner and c.day_at >= from_at - interval '1 day' and c.day_at < to_at
    cross join lateral (
      select case day_of when 'end_time' then coalesce(c.end_time, c.day_at)
                         when 'created_at' then coalesce(c.created_at, c.day_at) else c.day_at end as instant) i
    where o.account_id = account and (o.owner = account or c.listed_by = account)
      and i.instant >= from_at and i.instant < to_at
      and not exists (select from vobiz.listed_call l where l.account_id = account and l.call_id = c.call_id)
  $$;
comment on function vobiz.unlisted_call(text, text, timestamptz, timestamptz) is
  'Calls stored here that the list of a day ought to show and that no list of the check under way showed.';
