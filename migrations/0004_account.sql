-- One row per configured account: what all replicas must know together about asking Vobiz on its behalf, and what its lists told
-- about where Vobiz's days begin, which is unpublished.

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
  listed_due_to  timestamptz,
  listing_until  timestamptz,
  day_of         text not null default 'start_time' check (day_of in ('start_time', 'end_time', 'created_at')),
  day_offset     interval,
  summary_cost   text check (summary_cost in ('total_cost', 'cost')),
  registered_at  timestamptz not null default vobiz.now(),
  retired_at     timestamptz,
  -- A pause is whole or absent.
  constraint pause_is_whole check (
    (pause_reason is null) = (paused_until is null) and (pause_reason is null) = (paused_since is null)),
  -- A reservation has an end, or there is none: calls that list pages resolve, so that nobody fetches them singly meanwhile.
  constraint reservation_is_whole check ((listed_due_to is null) = (listing_until is null))
);

comment on table  vobiz.account is 'One row per configured Vobiz account: its pause, its rate limit and its sweep, shared by all replicas.';
comment on column vobiz.account.account_id is 'Vobiz auth id: MA_… (main), SA_… (sub-account).';
comment on column vobiz.account.api_path is 'Casing of the API path that answered: /api/v1/Account/ or /api/v1/account/; null until found out.';
comment on column vobiz.account.paused_since is 'When the present pause began; null while not paused.';
comment on column vobiz.account.paused_until is 'No request for calls of this account before this instant; for denied, unavailable and unreadable: the next probe.';
comment on column vobiz.account.pause_reason is 'throttled (ends by itself), denied, unavailable or unreadable (end when a probe succeeds); the last three where no replica can work, or two agree: vobiz.account_replica.';
comment on column vobiz.account.next_slot is 'The shared rate limit (GCRA): the first instant at which a further request may be sent.';
comment on column vobiz.account.rate_share is 'Share of VOBIZ_MAX_RPS in force at rate_share_at: halved by a throttling pause, recovers by 0.01 each second.';
comment on column vobiz.account.rate_share_at is 'When rate_share was set.';
comment on column vobiz.account.sweep_from is 'Start of the last completed sweep over the CDR list; the next one goes down to it, minus the overlap.';
comment on column vobiz.account.swept_at is 'End of the last completed sweep.';
comment on column vobiz.account.swept_wide_at is 'Start of the last completed sweep with the 26 h overlap.';
comment on column vobiz.account.ledger_since is 'Completeness is promised from here on: first start, or the beginning of a completed backfill.';
comment on column vobiz.account.last_answer_at is 'Last good answer of the API for this account.';
comment on column vobiz.account.listed_due_to is 'Calls that fell due at or before this instant are being resolved by pages of the list; null while none are.';
comment on column vobiz.account.listing_until is 'Until then nobody leases those calls. The reader of the list renews it with every page; if it dies, the reservation runs out.';
comment on column vobiz.account.day_of is 'Which time of a call puts it into a day of Vobiz''s list, as inferred from the lists.';
comment on column vobiz.account.day_offset is 'How far east of UTC Vobiz''s days begin, as inferred from the lists; null until a list was read: then the billing zone is assumed.';
comment on column vobiz.account.summary_cost is 'Which field the total_cost of Vobiz''s summaries adds up; null until a day with streaming shows it.';
comment on column vobiz.account.registered_at is 'When the service first knew of the account: callbacks can have been missed from then on.';
comment on column vobiz.account.retired_at is 'The promise ends here: a person retired the account (vobiz.audit says who and why). Null: it goes on. A service that is configured with it again makes it null.';

create table vobiz.account_pause (
  account_id text not null references vobiz.account,
  started_at timestamptz not null,
  until_at   timestamptz not null check (until_at >= started_at),
  reason     text not null,
  primary key (account_id, started_at)
);
create index account_pause_until on vobiz.account_pause (account_id, until_at);

comment on table  vobiz.account_pause is 'History of the pauses: the age of a failing call stands still while its account is paused, or no process fetches.';
comment on column vobiz.account_pause.account_id is 'The paused account.';
comment on column vobiz.account_pause.started_at is 'When the pause began.';
comment on column vobiz.account_pause.until_at is 'When it ended, or when it is due to end.';
comment on column vobiz.account_pause.reason is 'Why: the pause_reason of the account at its beginning; unfetched: no process fetched (vobiz.note_unfetched).';

-- What each replica sees of the account: one whose way to Vobiz or whose token is wrong must not stop the others. And who is configured with it.
create table vobiz.account_replica (
  account_id     text        not null references vobiz.account,
  replica        uuid        not null,
  host           text        not null,
  pid            bigint      not null,
  seen_at        timestamptz not null,
  last_answer_at timestamptz,
  pause_reason   text        check (pause_reason in ('throttled', 'denied', 'unavailable', 'unreadable')),
  paused_since   timestamptz,
  probe_at       timestamptz,
  error          text,
  duty           text        not null default 'fetch' check (duty in ('fetch', 'list', 'receive')),
  primary key (account_id, replica),
  -- A pause of a replica is whole or absent.
  constraint replica_pause_is_whole check (
    (pause_reason is null) = (paused_since is null) and (pause_reason is null) = (error is null)
    and (pause_reason is null or probe_at is not null))
);

comment on table  vobiz.account_replica is 'What each process that is configured with an account sees of it: its last good answer, or why it alone is paused. Which of them pause the account for all: vobiz.count_votes.';
comment on column vobiz.account_replica.account_id is 'The account.';
comment on column vobiz.account_replica.replica is 'The process: a number that it draws when it starts.';
comment on column vobiz.account_replica.host is 'The machine it runs on.';
comment on column vobiz.account_replica.pid is 'Its process id there.';
comment on column vobiz.account_replica.seen_at is 'When it last looked at the account, or said that it is configured with it: every fifteen seconds or so while it runs.';
comment on column vobiz.account_replica.last_answer_at is 'Its last good answer of the API, to about ten seconds; null: it never had one.';
comment on column vobiz.account_replica.pause_reason is 'Why it asks for no calls of the account; null: it does.';
comment on column vobiz.account_replica.paused_since is 'Since when.';
comment on column vobiz.account_replica.probe_at is 'When it asks next whether the account works; for throttled: the end of the pause.';
comment on column vobiz.account_replica.error is 'The failure that paused it, or that of its last probe, without what Vobiz said.';
comment on column vobiz.account_replica.duty is 'The most that it does for the account: fetch (asks for owed calls), list (reads lists alone: a sweep, a command), receive (takes callbacks and asks nothing: it has no voice in a pause).';
