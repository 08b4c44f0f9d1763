-- A pause that is on already is extended, never shortened. Its reason is that of the newest failure, since what to do goes by it: an API that
-- was away and then refuses the token needs a token. It never goes back to throttled.
create or replace function vobiz.begin_pause(account text, reason text, length interval) returns void
  language plpgsql
  as $$
  begin
    with present as (
      select a.account_id, a.pause_reason, a.paused_since, vobiz.is_paused(a) as paused, vobiz.rate_in_force(a) as share
      from vobiz.account a where a.account_id = account for no key update
    ), paused as (
      update vobiz.account a set
        paused_since = case when p.paused then least(p.paused_since, vobiz.now()) else vobiz.now() end,
        -- What lies further ahead than any pause lasts was written under a clock that was wrong.
        paused_until = case when p.paused and a.paused_until <= vobiz.now() + interval '61 minutes'
                            then greatest(a.paused_until, vobiz.now() + length) else vobiz.now() + length end,
        pause_reason = case when p.paused and reason = 'throttled' then p.pause_reason else reason end,
        -- Halved once a pause; 0.02 is the floor: even a limit of 1 request a second still moves.
        rate_share = case when reason = 'throttled' and not p.paused then greatest(0.02, p.share / 2) else a.rate_share end,
        rate_share_at = case when reason = 'throttled' and not p.paused then vobiz.now() else a.rate_share_at end
      from present p where a.account_id = p.account_id
      returning a.account_id, a.paused_since, a.paused_until, a.pause_reason
    )
    insert into vobiz.account_pause as h (account_id, started_at, until_at, reason)
    select account_id, paused_since, paused_until, pause_reason from paused
    on conflict (account_id, started_at) do update set until_at = greatest(h.until_at, excluded.until_at);
  end $$;
comment on function vobiz.begin_pause(text, text, interval) is
  'Pauses an account for all replicas, or goes on with its pause, and keeps the history. A new throttling pause halves the rate, once.';
