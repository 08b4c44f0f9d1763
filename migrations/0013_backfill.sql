-- Days of before the ledger began, as an operator had them listed.

create table vobiz.backfill (
  id          bigint generated always as identity primary key,
  account_id  text        not null references vobiz.account,
  first_day   date        not null,
  last_day    date        not null check (last_day >= first_day),
  next_day    date,
  started_at  timestamptz not null default vobiz.now(),
  finished_at timestamptz,
  constraint finished_has_no_next check ((next_day is null) = (finished_at is not null))
);
create unique index backfill_open on vobiz.backfill (account_id) where finished_at is null;

comment on table  vobiz.backfill is 'Ranges of days that an operator had listed, and how far each got: from the last day back to the first.';
comment on column vobiz.backfill.id is 'Order of starting.';
comment on column vobiz.backfill.account_id is 'The account whose list is read.';
comment on column vobiz.backfill.first_day is 'First day of the range.';
comment on column vobiz.backfill.last_day is 'Last day of the range, the first to be listed.';
comment on column vobiz.backfill.next_day is 'The day that is listed next; days after it are done. Null when finished.';
comment on column vobiz.backfill.started_at is 'When it was started.';
comment on column vobiz.backfill.finished_at is 'When it was finished; null while it is not.';
