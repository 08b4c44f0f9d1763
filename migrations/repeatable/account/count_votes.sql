-- What one replica sees counts for that replica. The account is paused for all where nobody is left who might work, or where two that had
-- good answers before agree, unless another has had one since, or within the last minute. So a replica with a wrong URL or an old token stops
-- nobody, and in an outage a third one need not fail twenty times to know.
create or replace function vobiz.count_votes(account text) returns void
  language plpgsql
  as $$
  declare
    present vobiz.account;
    votes   bigint;
    proven  bigint;
    since   timestamptz;
    first   text;
    works   boolean;
  begin
    select * into present from vobiz.account a where a.account_id = account for no key update;
    select count(*), count(*) filter (where r.last_answer_at is not null),
           max(r.paused_since) filter (where r.last_answer_at is not null),
           (array_agg(r.pause_reason order by r.paused_since, r.replica))[1]
      into votes, proven, since, first
    from vobiz.account_replica r
    where r.account_id = account and r.pause_reason <> 'throttled' and vobiz.is_live(r);
    -- A pause of replicas that are gone stays until a probe ends it.
    if votes = 0 then return; end if;
    works := exists (
      select from vobiz.account_replica r
      where r.account_id = account and coalesce(r.pause_reason, 'throttled') = 'throttled'
        and (vobiz.is_live(r) and (proven < 2 or r.last_answer_at > since)
             or r.last_answer_at > vobiz.now() - interval '1 minute' and r.last_answer_at <= vobiz.now()));
    if not works then
      perform vobiz.begin_pause(account, first, interval '1 minute');
    elsif present.pause_reason <> 'throttled' then
      perform vobiz.end_pause(account);
    end if;
  end $$;
comment on function vobiz.count_votes(text) is
  'Pauses an account for all replicas, or ends that pause, by what each of them sees (vobiz.account_replica).';
