create or replace function vobiz.end_pause(account text) returns void
  language plpgsql
  as $$
  begin
    with resumed as (
      update vobiz.account a set paused_since = null, paused_until = null, pause_reason = null
      from (select x.account_id, x.paused_since from vobiz.account x
            where x.account_id = account and x.pause_reason is not null for no key update) was
      where a.account_id = was.account_id
      returning was.account_id, was.paused_since
    )
    update vobiz.account_pause h set until_at = greatest(vobiz.now(), h.started_at)
    from resumed r where h.account_id = r.account_id and h.started_at = r.paused_since;
  end $$;
comment on function vobiz.end_pause(text) is
  'Ends the pause of an account for all replicas now, and its stretch of history with it.';
