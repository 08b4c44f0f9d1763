-- Long tasks, each with how far it came.

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
