-- Where nobody at all was there, nobody could note that nobody fetches: it is known afterwards, when the first one that does comes back. A
-- restart is nobody's matter.
create or replace function vobiz.note_fetcher_back(account text) returns void
  language plpgsql
  as $$
  declare
    last_at timestamptz;
    noted   timestamptz;
  begin
    -- One writes the history at a time.
    perform from vobiz.account a where a.account_id = account for no key update;
    if exists (select from vobiz.account_replica r where r.account_id = account and r.duty = 'fetch' and vobiz.is_there(r)) then return; end if;
    select greatest(
             (select max(r.seen_at) from vobiz.account_replica r where r.account_id = account and r.duty = 'fetch' and r.seen_at <= vobiz.now()),
             (select a.fetcher_left_at from vobiz.account a where a.account_id = account and a.fetcher_left_at <= vobiz.now()))
    into last_at;
    -- Others that are there have noted the rest.
    noted := coalesce(vobiz.unfetched_since(account), vobiz.now());
    insert into vobiz.account_pause as h (account_id, started_at, until_at, reason)
    select a.account_id, last_at, noted, 'unfetched'
    from vobiz.account a where a.account_id = account and last_at < noted - interval '150 seconds'
    on conflict (account_id, started_at) do update set until_at = greatest(h.until_at, excluded.until_at) where h.reason = 'unfetched';
  end $$;
comment on function vobiz.note_fetcher_back(text) is
  'Writes down the stretch in which no process fetched calls of the account because none was there at all (vobiz.account_pause, unfetched).';
