-- Every version of every CDR, exactly as it came. Append only.

create table vobiz.cdr_revision (
  call_id        text        not null,
  revision       integer     not null check (revision >= 1),
  fetched_at     timestamptz not null,
  account_id     text        not null,
  source         text        not null check (source in ('single', 'list')),
  updated_at     timestamptz,
  day_at         timestamptz not null,
  call_direction text,
  duration       integer,
  billsec        integer,
  cost           numeric,
  streaming_cost numeric,
  total_cost     numeric,
  currency       text,
  content_hash   bytea       not null,
  payload        json        not null,
  -- A row of a list that lacks the key does not move the day.
  day_from       text        check (day_from in ('start_time', 'end_time', 'created_at', 'none')),
  overrules      boolean     not null default false,
  precedence     text        collate "C" not null default '',
  primary key (call_id, revision, fetched_at)
) partition by range (fetched_at);

comment on table  vobiz.cdr_revision is 'Every distinct version of a CDR as it came, with its billed fields typed; append only, a partition a month.';
comment on column vobiz.cdr_revision.call_id is 'The call.';
comment on column vobiz.cdr_revision.revision is '1 for the first version that was stored, counted up in the order of storing.';
comment on column vobiz.cdr_revision.fetched_at is 'When it was asked for, by the clock of Postgres.';
comment on column vobiz.cdr_revision.account_id is 'Account that owns the call.';
comment on column vobiz.cdr_revision.source is 'single: fetched by its call_id, complete; list: a row of a list, where absent keys say nothing.';
comment on column vobiz.cdr_revision.updated_at is 'Vobiz''s updated_at in this version.';
comment on column vobiz.cdr_revision.day_at is 'The billing instant in this version.';
comment on column vobiz.cdr_revision.call_direction is 'inbound or outbound in this version.';
comment on column vobiz.cdr_revision.duration is 'Seconds, ringing and talking, in this version.';
comment on column vobiz.cdr_revision.billsec is 'Seconds talked in this version.';
comment on column vobiz.cdr_revision.cost is 'Cost of the leg in this version.';
comment on column vobiz.cdr_revision.streaming_cost is 'Cost of streaming in this version.';
comment on column vobiz.cdr_revision.total_cost is 'Total cost in this version.';
comment on column vobiz.cdr_revision.currency is 'Currency of the costs in this version.';
comment on column vobiz.cdr_revision.content_hash is 'SHA-256 of the payload with nulls stripped and keys sorted: equal for equal content.';
comment on column vobiz.cdr_revision.payload is 'The record as Vobiz sent it (type json, which keeps what jsonb refuses).';
comment on column vobiz.cdr_revision.day_from is 'The key of the record that day_at comes from; none: it had no such key. NULL (a version kept before this column was there) counts as start_time.';
comment on column vobiz.cdr_revision.overrules is 'Lists contradicted the version that was shown, on three checks running, so this one wins over all that were asked for before it, whatever their updated_at.';
comment on column vobiz.cdr_revision.precedence is 'Whose list or record said it, behind a digit: 2 where a sub-account says so of its own call, 1 where it says so of another''s, else 0. What is greater by this comes before what another account''s list says, whenever it was said.';
