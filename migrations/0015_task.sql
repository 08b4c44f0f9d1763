-- Long tasks, each with how far it came; and who is at work where only one may be.

create table vobiz.task (
  id          bigint      generated always as identity primary key,
  name        text        not null check (name <> ''),
  account_id  text,
  started_at  timestamptz not null default vobiz.now(),
  position    text,
  done        bigint      not null default 0 check (done >= 0),
  changed     bigint      not null default 0 check (changed >= 0),
  detail      json,
  finished_at timestamptz
);
-- One at a time; an unfinished one is resumed.
create unique index task_unfinished on vobiz.task (name, coalesce(account_id, '')) where finished_at is null;

comment on table  vobiz.task is 'Long tasks that a command or the service works off in steps, each with how far it came: killed, it goes on there.';
comment on column vobiz.task.id is 'Order of starting.';
comment on column vobiz.task.name is 'What is done, such as reparse, or prove sums.';
comment on column vobiz.task.account_id is 'Only for this account; NULL for all.';
comment on column vobiz.task.started_at is 'When it was started first.';
comment on column vobiz.task.position is 'How far it came: for reparse the last call_id that is done, for prove sums the last day; NULL before the first step.';
comment on column vobiz.task.done is 'Calls (of prove sums, days) that were read so far.';
comment on column vobiz.task.changed is 'Calls changed so far; of prove sums, sums that were wrong.';
comment on column vobiz.task.detail is 'Further counts, in the words of the task.';
comment on column vobiz.task.finished_at is 'When it came to its end; NULL while it runs, or waits to be resumed.';

-- A lock of a session would be anybody's to take, and would outlive a host that vanished.
create table vobiz.work_lease (
  name             text        primary key check (name <> ''),
  fence            bigint      not null default 0 check (fence >= 0),
  holder           text,
  pid              integer,
  session_began_at timestamptz,
  taken_at         timestamptz,
  expires_at       timestamptz,
  constraint held_or_free check (num_nulls(holder, pid, session_began_at, taken_at, expires_at) in (0, 5))
) with (fillfactor = 50);
-- Held for a transaction only, by its lock.
insert into vobiz.work_lease (name) values ('rollup'), ('partitions'), ('wrong sums');

comment on table  vobiz.work_lease is 'Work that one process does at a time, and which one does: a lease that ends unless it is renewed, or when the session that took it is gone. The rows rollup, partitions and wrong sums are only locked, for a transaction each.';
comment on column vobiz.work_lease.name is 'What is done, such as sweep, drain, day (each with its account), prove sums, backfill, reparse, verify.';
comment on column vobiz.work_lease.fence is 'Grows with each taker: who had the lease before, and does not know that it ended, cannot write any more.';
comment on column vobiz.work_lease.holder is 'User, application and address of the session that has it; NULL while nobody does.';
comment on column vobiz.work_lease.pid is 'Its server process.';
comment on column vobiz.work_lease.session_began_at is 'When that process began: another one may get its number.';
comment on column vobiz.work_lease.taken_at is 'When it was taken.';
comment on column vobiz.work_lease.expires_at is 'When it ends, unless it is renewed before: every 15 s.';
