-- The days of the ledger: each provider day is listed alone and compared with what we hold.

create table vobiz.provider_day_bound (
  account_id text not null references vobiz.account,
  day_of     text not null check (day_of in ('start_time', 'end_time', 'created_at')),
  least      interval not null,
  most       interval not null,
  primary key (account_id, day_of)
);

comment on table  vobiz.provider_day_bound is 'What was inferred from the lists of days about the zone in which Vobiz''s days begin, for each time that may decide.';
comment on column vobiz.provider_day_bound.account_id is 'The account whose lists were read.';
comment on column vobiz.provider_day_bound.day_of is 'If this time of a call decides …';
comment on column vobiz.provider_day_bound.least is '… then the zone is at least so far east of UTC …';
comment on column vobiz.provider_day_bound.most is '… and less than so far. If that leaves nothing, it is not this time that decides.';

create table vobiz.provider_day (
  account_id  text        not null references vobiz.account,
  day         date        not null,
  from_at     timestamptz not null,
  to_at       timestamptz not null check (to_at > from_at),
  state       text        not null default 'open' check (state in ('open', 'settled', 'differs', 'unproven')),
  began_at    timestamptz,
  checked_at  timestamptz,
  check_id    bigint,
  reopened_at timestamptz,
  reopenings  integer     not null default 0 check (reopenings >= 0),
  tries       integer     not null default 0 check (tries >= 0),
  check_at    timestamptz,
  error       text,
  uncut       text,
  uncut_at    timestamptz,
  primary key (account_id, day),
  constraint outcome_has_its_check check (
    (state = 'open') = (checked_at is null) and (checked_at is null) = (check_id is null)),
  -- A change of a call reopens only a day whose check has begun.
  constraint settled_was_begun check (state <> 'settled' or began_at is not null),
  constraint uncut_has_its_instant check ((uncut is null) = (uncut_at is null))
);
create index provider_day_check_at on vobiz.provider_day (account_id, check_at) where check_at is not null;
create index provider_day_unsettled on vobiz.provider_day (account_id, day) where state <> 'settled' or reopened_at is not null;

comment on table  vobiz.provider_day is 'One row per account and provider day since ledger_since: how it stands, and when it is compared with Vobiz next.';
comment on column vobiz.provider_day.account_id is 'The account whose list is read.';
comment on column vobiz.provider_day.day is 'The day as Vobiz names it (start_date = end_date).';
comment on column vobiz.provider_day.from_at is 'Its first instant, by what is inferred of Vobiz''s zone.';
comment on column vobiz.provider_day.to_at is 'The first instant after it.';
comment on column vobiz.provider_day.state is 'Outcome of the last check: settled (the provider''s rows and totals equal ours), differs, unproven (nothing can be said), open (never checked).';
comment on column vobiz.provider_day.began_at is 'When the last check began, also one that did not come to its end.';
comment on column vobiz.provider_day.checked_at is 'When the last check compared.';
comment on column vobiz.provider_day.check_id is 'The last check: its row in vobiz.ledger_check.';
comment on column vobiz.provider_day.reopened_at is 'A call of this day was stored, changed or deleted here after the last check: the day counts as unsettled until it is checked again.';
comment on column vobiz.provider_day.reopenings is 'Checks in a row to which a change here had led: each comes later than the one before, so that costs which trickle in do not have a day listed every hour.';
comment on column vobiz.provider_day.tries is 'Checks in a row that did not settle it.';
comment on column vobiz.provider_day.check_at is 'When it is checked next; null: not by itself any more.';
comment on column vobiz.provider_day.error is 'Why the last check did not come to its end; null if it did.';
comment on column vobiz.provider_day.uncut is 'Why its list could not be read in parts either, when that was tried last; null if it could, or was not needed.';
comment on column vobiz.provider_day.uncut_at is 'When that was tried: for a day it is not tried again.';
