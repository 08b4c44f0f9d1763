-- Written under a clock that was ahead, and nobody writes them anew.
create or replace function vobiz.mend_instants(account text) returns void
  language plpgsql
  as $$
  begin
    update vobiz.account a set
      ledger_since = least(a.ledger_since, vobiz.now()), registered_at = least(a.registered_at, vobiz.now()),
      last_answer_at = case when a.last_answer_at > vobiz.now() then vobiz.now() else a.last_answer_at end,
      rate_share_at = least(a.rate_share_at, vobiz.now())
    where a.account_id = account and greatest(a.ledger_since, a.registered_at, a.last_answer_at, a.rate_share_at) > vobiz.now();
    -- What nobody believes.
    update vobiz.account a set paused_since = null, paused_until = null, pause_reason = null
    where a.account_id = account and a.pause_reason = 'throttled' and not vobiz.is_paused(a) and vobiz.now() < a.paused_until;
    update vobiz.account a set listed_due_to = null, listing_until = null
    where a.account_id = account and a.listing_until > vobiz.now() and vobiz.reserved_to(a) is null;
    -- A pause that is on goes on with its next probe.
    update vobiz.account_pause h set until_at = greatest(vobiz.now(), h.started_at)
    where h.account_id = account and h.until_at > vobiz.now() + interval '61 minutes' and h.until_at > h.started_at;
  end $$;
comment on function vobiz.mend_instants(text) is
  'Brings back instants of an account that lie later than their own rules can write them, where nothing else does.';
