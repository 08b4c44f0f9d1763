create or replace function vobiz.listed_twice(account text, day_of text, day date)
  returns table (call_id text, other_day date, own_day date) language sql stable
  as $$
    select l.call_id, o.list_day,
           vobiz.provider_day_of(account, vobiz.deciding_instant(day_of, l.start_time, l.end_time, l.created_at))
    from vobiz.listed_call l
    join vobiz.listed_call o on o.account_id = l.account_id and o.call_id = l.call_id and o.list_day <> l.list_day
    where l.account_id = account and l.list_day = day
  $$;
comment on function vobiz.listed_twice(text, text, date) is
  'Calls in the list of a day that another list of the check under way shows as well: which day''s, and the day in which the call lies.';
