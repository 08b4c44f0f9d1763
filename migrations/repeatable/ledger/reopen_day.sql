create or replace function vobiz.reopen_day() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  -- Whichever time of a call decides its day.
  if tg_op <> 'INSERT' then
    perform vobiz.reopen(old.account_id, old.listed_by, least(old.day_at, old.end_time, old.created_at),
                         greatest(old.day_at, old.end_time, old.created_at), true);
  end if;
  if tg_op <> 'DELETE' then
    perform vobiz.reopen(new.account_id, new.listed_by, least(new.day_at, new.end_time, new.created_at),
                         greatest(new.day_at, new.end_time, new.created_at), tg_op = 'UPDATE');
  end if;
  return null;
end $$;
comment on function vobiz.reopen_day() is 'Trigger on vobiz.cdr: a change to a call of a checked day reopens that day.';
