create or replace function vobiz.unpaused_age(account text, since timestamptz) returns interval
  language sql stable parallel safe
  as $$
    select (vobiz.now() - since) - coalesce(sum(least(p.until_at, vobiz.now()) - greatest(p.started_at, since)), '0')
    from vobiz.account_pause p
    where p.account_id = account and p.until_at > since and p.started_at < vobiz.now()
  $$;
comment on function vobiz.unpaused_age(text, timestamptz) is
  'Time from `since` to now without the pauses of the account.';
