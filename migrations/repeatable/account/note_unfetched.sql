-- Others may work, so the account is not paused: they sweep, or take callbacks. What nobody asked for does not age, and it must be said.
create or replace function vobiz.note_unfetched(account text) returns void
  language plpgsql
  as $$
  declare
    fetched boolean;
    last_at timestamptz;
    since   timestamptz;
  begin
    fetched := exists (
      select from vobiz.account_replica r
      join vobiz.account a on a.account_id = r.account_id
      where r.account_id = account and r.duty = 'fetch' and vobiz.is_there(r)
        -- Where all are paused, the pause has its own history.
        and (vobiz.is_paused(a) or not vobiz.is_paused_alone(r)));
    if fetched and vobiz.unfetched_since(account) is null then return; end if;
    -- One writes the history at a time.
    perform from vobiz.account a where a.account_id = account for no key update;
    since := vobiz.unfetched_since(account);
    if fetched then
      update vobiz.account_pause h set until_at = vobiz.now()
      where h.account_id = account and h.started_at = since and h.reason = 'unfetched';
      return;
    end if;
    -- A process that was killed is missed a while later.
    select max(r.seen_at) into last_at from vobiz.account_replica r
    where r.account_id = account and r.duty = 'fetch' and r.seen_at between vobiz.now() - interval '3 minutes' and vobiz.now();
    insert into vobiz.account_pause as h (account_id, started_at, until_at, reason)
    select a.account_id, coalesce(since, last_at, vobiz.now()), vobiz.now() + interval '2 minutes', 'unfetched'
    from vobiz.account a where a.account_id = account
    on conflict (account_id, started_at) do update set until_at = excluded.until_at where h.reason = 'unfetched';
  end $$;
comment on function vobiz.note_unfetched(text) is
  'Begins, goes on with or ends the stretch in which no process fetches calls of the account (vobiz.account_pause, unfetched), by what each of them does (vobiz.account_replica).';
