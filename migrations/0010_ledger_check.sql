-- Every comparison of a provider day with what we hold is kept. Appended to, never mended.

create table vobiz.ledger_check (
  id             bigint generated always as identity primary key,
  account_id     text        not null,
  day            date        not null,
  cause          text        not null check (cause in ('1h', '24h', '72h', '7d', '30d', '60d', '90d', 'again', 'reopened', 'backfill', 'manual', 'recover')),
  began_at       timestamptz not null,
  checked_at     timestamptz not null default vobiz.now(),
  state          text        not null check (state in ('settled', 'differs', 'unproven')),
  reason         text        check ((state = 'settled') = (reason is null)),
  requests       integer     not null,
  day_of         text        not null,
  from_at        timestamptz not null,
  to_at          timestamptz not null,
  summary        json,
  summary_cost   text,
  missing_here   integer     not null,
  missing_there  integer     not null,
  differing      integer     not null,
  unreadable     integer     not null,
  recovered      integer     not null,
  revised        integer     not null,
  billed_elsewhere integer   not null,
  listed_twice   integer     not null,
  wrong_sums     integer     not null,
  unannounced    integer     not null,
  money          text
);
create index ledger_check_day on vobiz.ledger_check (account_id, day, id);
create index ledger_check_money on vobiz.ledger_check (account_id, day) where money is not null;
create index ledger_check_listed_twice on vobiz.ledger_check (account_id, day) where listed_twice > 0;

comment on table  vobiz.ledger_check is 'Every comparison of a provider day with what we hold; append only.';
comment on column vobiz.ledger_check.id is 'Order of checking.';
comment on column vobiz.ledger_check.account_id is 'The account whose list was read.';
comment on column vobiz.ledger_check.day is 'The day as Vobiz names it.';
comment on column vobiz.ledger_check.cause is 'Why: so long after the end of the day; again (the last check did not settle it), reopened (something changed here), backfill, manual, recover.';
comment on column vobiz.ledger_check.began_at is 'Before the first page was asked for.';
comment on column vobiz.ledger_check.checked_at is 'When it was compared.';
comment on column vobiz.ledger_check.state is 'settled: each of Vobiz''s rows and its totals equal ours, and Vobiz has each of ours; differs; unproven: its answer proves nothing.';
comment on column vobiz.ledger_check.reason is 'Why it is not settled, in words.';
comment on column vobiz.ledger_check.requests is 'Pages that were read.';
comment on column vobiz.ledger_check.day_of is 'The time of a call that decides its day, as inferred then.';
comment on column vobiz.ledger_check.from_at is 'First instant of the day, as inferred then.';
comment on column vobiz.ledger_check.to_at is 'First instant after the day, as inferred then.';
comment on column vobiz.ledger_check.summary is 'Vobiz''s own totals as they came.';
comment on column vobiz.ledger_check.summary_cost is 'The field that its total_cost added up: total_cost, cost, or either (both fit); null if none fits.';
comment on column vobiz.ledger_check.missing_here is 'Calls that Vobiz lists and we lack.';
comment on column vobiz.ledger_check.missing_there is 'Calls of ours in this day that Vobiz lists neither in it nor in the days beside it.';
comment on column vobiz.ledger_check.differing is 'Calls of which a billed field differs.';
comment on column vobiz.ledger_check.unreadable is 'Rows of the list that could not be read.';
comment on column vobiz.ledger_check.recovered is 'Calls that this check stored first and nothing had owed.';
comment on column vobiz.ledger_check.revised is 'Calls of which this check brought a newer version.';
comment on column vobiz.ledger_check.billed_elsewhere is 'Calls that are listed in this day and billed in another, which the way Vobiz cuts its days does not explain.';
comment on column vobiz.ledger_check.listed_twice is 'Calls that lie in a day beside this one, whose list shows them as well. The bill counts each once; the day settles all the same.';
comment on column vobiz.ledger_check.wrong_sums is 'Sums of the bill, of the billing days that this one touches, that did not equal their calls.';
comment on column vobiz.ledger_check.unannounced is 'Calls of the day for which no callback had come until then.';
comment on column vobiz.ledger_check.money is 'What is to be said of the money, also where the day is settled: which of it was not compared with Vobiz''s total_cost (several currencies, rows whose total_cost is not cost + streaming_cost where the summary adds up cost), or which call the summary counts more than once. NULL: nothing.';

create table vobiz.ledger_total (
  check_id       bigint  not null references vobiz.ledger_check,
  currency       text    not null,
  calls_here     bigint  not null,
  calls_there    bigint  not null,
  duration_here  bigint  not null,
  duration_there bigint  not null,
  billsec_here   bigint  not null,
  billsec_there  bigint  not null,
  cost_here      numeric not null,
  cost_there     numeric not null,
  total_here     numeric not null,
  total_there    numeric not null,
  primary key (check_id, currency)
);

comment on table  vobiz.ledger_total is 'Both sides of a check, one row per currency.';
comment on column vobiz.ledger_total.check_id is 'The check.';
comment on column vobiz.ledger_total.currency is 'Currency of the costs; empty where the calls name none.';
comment on column vobiz.ledger_total.calls_here is 'Calls of the day that we hold.';
comment on column vobiz.ledger_total.calls_there is 'Calls that Vobiz lists; one that it shows more than once, as often as its summary counts it.';
comment on column vobiz.ledger_total.duration_here is 'Their seconds, ringing and talking, here.';
comment on column vobiz.ledger_total.duration_there is 'The same in Vobiz''s rows.';
comment on column vobiz.ledger_total.billsec_here is 'Their seconds talked, here.';
comment on column vobiz.ledger_total.billsec_there is 'The same in Vobiz''s rows.';
comment on column vobiz.ledger_total.cost_here is 'Sum of cost here.';
comment on column vobiz.ledger_total.cost_there is 'The same in Vobiz''s rows.';
comment on column vobiz.ledger_total.total_here is 'Sum of total_cost here.';
comment on column vobiz.ledger_total.total_there is 'The same in Vobiz''s rows.';

create table vobiz.ledger_owner_total (
  check_id bigint  not null references vobiz.ledger_check,
  owner    text    not null,
  currency text    not null,
  calls    bigint  not null,
  duration bigint  not null,
  billsec  bigint  not null,
  cost     numeric not null,
  total    numeric not null,
  primary key (check_id, owner, currency)
);

comment on table  vobiz.ledger_owner_total is 'What Vobiz''s list of a check showed, one row per owner of the calls and currency; a call that two lists show counts in the day in which it lies.';
comment on column vobiz.ledger_owner_total.check_id is 'The check.';
comment on column vobiz.ledger_owner_total.owner is 'Account that owns the calls.';
comment on column vobiz.ledger_owner_total.currency is 'Currency of the costs; empty where the calls name none.';
comment on column vobiz.ledger_owner_total.calls is 'Its calls.';
comment on column vobiz.ledger_owner_total.duration is 'Their seconds, ringing and talking.';
comment on column vobiz.ledger_owner_total.billsec is 'Their seconds talked.';
comment on column vobiz.ledger_owner_total.cost is 'Sum of cost.';
comment on column vobiz.ledger_owner_total.total is 'Sum of total_cost.';

create table vobiz.ledger_difference (
  check_id bigint not null references vobiz.ledger_check,
  number   integer not null,
  kind     text   not null check (kind in ('missing_here', 'missing_there', 'differs', 'billed_elsewhere', 'listed_twice', 'unreadable', 'summary', 'sums')),
  call_id  text,
  field    text,
  here     text,
  there    text,
  primary key (check_id, number)
);

comment on table  vobiz.ledger_difference is 'What a check found to differ, call by call and field by field; the first thousand of a check.';
comment on column vobiz.ledger_difference.check_id is 'The check.';
comment on column vobiz.ledger_difference.number is 'Order within the check.';
comment on column vobiz.ledger_difference.kind is 'missing_here, missing_there, differs (a billed field of a call), unreadable (a row of the list), summary (Vobiz''s total does not equal its own rows), billed_elsewhere (a call is listed in this day and billed in another), listed_twice (the call lies in a day beside this one, whose list shows it as well), sums (a sum of the bill does not equal its calls: `vobiz-cdr verify`).';
comment on column vobiz.ledger_difference.call_id is 'The call; of unreadable the id that the row shows, where one can be seen; null for summary and sums.';
comment on column vobiz.ledger_difference.field is 'The field that differs; for sums, whose and when; for billed_elsewhere, day, or no time where the record has none.';
comment on column vobiz.ledger_difference.here is 'Its value here; for summary, the sum of Vobiz''s own rows; for billed_elsewhere, the provider day in which the instant lies by which it is billed; for listed_twice, the day in which it lies as Vobiz cuts its days; for sums, what is kept.';
comment on column vobiz.ledger_difference.there is 'Its value at Vobiz; for billed_elsewhere, the day in which Vobiz lists it; for listed_twice, both days; for sums, what the calls add up to.';
