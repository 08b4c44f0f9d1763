-- Such a stretch is written two minutes ahead at most: one that ends later was written under a clock that was wrong.
create or replace function vobiz.unfetched_since(account text) returns timestamptz
  language sql stable parallel safe
  as $$
    select max(h.started_at) from vobiz.account_pause h
    where h.account_id = account and h.reason = 'unfetched' and h.started_at <= vobiz.now()
      and h.until_at > vobiz.now() and h.until_at <= vobiz.now() + interval '3 minutes'
  $$;
comment on function vobiz.unfetched_since(text) is
  'Since when no process has fetched calls of the account, though one is configured with it; NULL while one does.';
