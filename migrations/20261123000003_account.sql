-- One row per configured account: what all replicas must know together about asking Vobiz on its behalf.

create table vobiz.account (
  account_id     text primary key check (account_id <> ''),
  api_path       text check (api_path in ('Account', 'account')),
  paused_since   timestamptz,
  paused_until   timestamptz,
  pause_reason   text check (pause_reason in ('throttled', 'denied', 'unavailable', 'unreadable')),
  next_slot      timestamptz not null default vobiz.now(),
  rate_share     double precision not null default 1 check (rate_share > 0 and rate_share <= 1),
  rate_share_at  timestamptz not null default vobiz.now(),
  sweep_from     timestamptz,
  swept_at       timestamptz,
  swept_wide_at  timestamptz,
  ledger_since   timestamptz not null default vobiz.now(),
  last_answer_at timestamptz,
  -- A pause is whole or absent.
  constraint pause_is_whole check (
    (pause_reason is null) = (paused_until is null) and (pause_reason is null) = (paused_since is null))
);

comment on table  vobiz.account is 'One row per configured Vobiz account: its pause, its rate limit and its sweep, shared by all replicas.';
comment on column vobiz.account.account_id is 'Vobiz auth id: MA_… (main), SA_… (sub-account).';
comment on column vobiz.account.api_path is 'Casing of the API path that answered: /api/v1/Account/ or /api/v1/account/; null until found out.';
comment on column vobiz.account.paused_since is 'When the present pause began; null while not paused.';
comment on column vobiz.account.paused_until is 'No request for calls of this account before this instant; for denied, unavailable and unreadable: the next probe.';
comment on column vobiz.account.pause_reason is 'throttled (ends by itself), denied, unavailable or unreadable (end when a probe succeeds).';
comment on column vobiz.account.next_slot is 'The shared rate limit (GCRA): the first instant at which a further request may be sent.';
comment on column vobiz.account.rate_share is 'Share of VOBIZ_MAX_RPS in force at rate_share_at: halved by a throttling pause, recovers by 0.01 each second.';
comment on column vobiz.account.rate_share_at is 'When rate_share was set.';
comment on column vobiz.account.sweep_from is 'Start of the last completed sweep over the CDR list; the next one goes down to it, minus the overlap.';
comment on column vobiz.account.swept_at is 'End of the last completed sweep.';
comment on column vobiz.account.swept_wide_at is 'Start of the last completed sweep with the 26 h overlap.';
comment on column vobiz.account.ledger_since is 'Completeness is promised from here on: first start, or the beginning of a completed backfill.';
comment on column vobiz.account.last_answer_at is 'Last good answer of the API for this account.';

create table vobiz.account_pause (
  account_id text not null references vobiz.account,
  started_at timestamptz not null,
  until_at   timestamptz not null check (until_at >= started_at),
  reason     text not null,
  primary key (account_id, started_at)
);
create index account_pause_until on vobiz.account_pause (account_id, until_at);

comment on table  vobiz.account_pause is 'History of the pauses: the age of a failing call stands still while its account is paused.';
comment on column vobiz.account_pause.account_id is 'The paused account.';
comment on column vobiz.account_pause.started_at is 'When the pause began.';
comment on column vobiz.account_pause.until_at is 'When it ended, or when it is due to end.';
comment on column vobiz.account_pause.reason is 'Why: the pause_reason of the account at its beginning.';

create function vobiz.unpaused_age(account text, since timestamptz) returns interval
  language sql stable parallel safe
  as $$
    select (vobiz.now() - since) - coalesce(sum(least(p.until_at, vobiz.now()) - greatest(p.started_at, since)), '0')
    from vobiz.account_pause p
    where p.account_id = account and p.until_at > since and p.started_at < vobiz.now()
  $$;
comment on function vobiz.unpaused_age(text, timestamptz) is
  'Time from `since` to now without the pauses of the account.';
