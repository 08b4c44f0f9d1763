-- Written under a clock that was ahead, and nobody writes them anew.
create or replace function vobiz.mend_instants(account text) returns void
  language plpgsql
  as $$
  begin
    update vobiz.account a set
      ledger_since = least(a.ledger_since, vobiz.now()), registered_at = least(a.registered_at, vobiz.now())
    where a.account_id = account and greatest(a.ledger_since, a.registered_at) > vobiz.now();
    -- A pause that is on goes on with its next probe.
    update vobiz.account_pause h set until_at = greatest(vobiz.now(), h.started_at)
    where h.account_id = account and h.until_at > vobiz.now() + interval '61 minutes' and h.until_at > h.started_at;
  end $$;
comment on function vobiz.mend_instants(text) is
  'Brings back instants of an account that lie later than their own rules can write them, where nothing else does.';
