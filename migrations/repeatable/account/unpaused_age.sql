-- Stretches may overlap: nobody fetched, and then all were paused.
create or replace function vobiz.unpaused_age(account text, since timestamptz) returns interval
  language sql stable parallel safe
  as $$
    select (vobiz.now() - since) - coalesce(sum(upper(stretch) - lower(stretch)), '0')
    from unnest((
      select range_agg(tstzrange(greatest(p.started_at, since), least(p.until_at, vobiz.now())))
      from vobiz.account_pause p
      where p.account_id = account and p.until_at > since and p.started_at < vobiz.now() and since < vobiz.now())) stretch
  $$;
comment on function vobiz.unpaused_age(text, timestamptz) is
  'Time from `since` to now without the pauses of the account, and without the time in which no process fetched its calls.';
