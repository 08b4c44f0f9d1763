-- What lists have shown: the rows of a day while it is compared, whose calls they were, the pages that Vobiz refused, and the rows that
-- could not be read.

-- The list of a day while it is read and compared. After a crash of Postgres it is empty, and the check begins anew.
create unlogged table vobiz.listed_call (
  account_id     text not null,
  list_day       date not null,
  call_id        text not null,
  owner          text,
  start_time     timestamptz,
  end_time       timestamptz,
  created_at     timestamptz,
  updated_at     timestamptz,
  call_direction text,
  duration       integer,
  billsec        integer,
  duration_stated numeric,
  billsec_stated numeric,
  cost           numeric,
  streaming_cost numeric,
  total_cost     numeric,
  currency       text,
  primary key (account_id, call_id, list_day)
);

comment on table  vobiz.listed_call is 'Working table of a check under way: the rows of the list. Not logged, and emptied after each check.';
comment on column vobiz.listed_call.account_id is 'The account whose list is read.';
comment on column vobiz.listed_call.list_day is 'The day whose list showed the row.';
comment on column vobiz.listed_call.call_id is 'The call.';
comment on column vobiz.listed_call.owner is 'Account that owns the call; NULL: the row names none.';
comment on column vobiz.listed_call.start_time is 'As listed.';
comment on column vobiz.listed_call.end_time is 'As listed.';
comment on column vobiz.listed_call.created_at is 'As listed.';
comment on column vobiz.listed_call.updated_at is 'As listed.';
comment on column vobiz.listed_call.call_direction is 'As listed.';
comment on column vobiz.listed_call.duration is 'As listed, seconds.';
comment on column vobiz.listed_call.billsec is 'As listed, seconds.';
comment on column vobiz.listed_call.duration_stated is 'Seconds as the row writes them, before what cannot be is taken out or a fraction is rounded: Vobiz''s totals may count them so.';
comment on column vobiz.listed_call.billsec_stated is 'The same of billsec.';
comment on column vobiz.listed_call.cost is 'As listed.';
comment on column vobiz.listed_call.streaming_cost is 'As listed.';
comment on column vobiz.listed_call.total_cost is 'As listed.';
comment on column vobiz.listed_call.currency is 'As listed.';

create table vobiz.listed_owner (
  account_id text not null references vobiz.account,
  owner      text not null,
  primary key (account_id, owner)
);
create index listed_owner_owner on vobiz.listed_owner (owner);

comment on table  vobiz.listed_owner is 'Other accounts of which the lists of an account have shown calls: a change to one of these reopens its day, too.';
comment on column vobiz.listed_owner.account_id is 'The account whose list was read.';
comment on column vobiz.listed_owner.owner is 'The account that owns the calls.';

create table vobiz.refused_page (
  account_id text        not null references vobiz.account,
  list       text        not null,
  page       integer     not null check (page > 0),
  rows_lost  integer     not null check (rows_lost >= 0),
  words      text        not null,
  oldest_at  timestamptz,
  at         timestamptz not null default vobiz.now(),
  primary key (account_id, list, page)
);

comment on table  vobiz.refused_page is 'Pages of the CDR list that Vobiz answered with an error, again and again, while others came: what of them could not be read by smaller pages. A page of a day leaves once its list was read to the end without it; one of a sweep or a drain once a list was read that reaches below it, or the days in which it lies are settled.';
comment on column vobiz.refused_page.account_id is 'The account whose list is read.';
comment on column vobiz.refused_page.list is 'Which list: sweep, drain, or day YYYY-MM-DD.';
comment on column vobiz.refused_page.page is 'The page, of 100 rows each, from 1.';
comment on column vobiz.refused_page.rows_lost is 'Rows of it that no smaller page showed either.';
comment on column vobiz.refused_page.words is 'Which page, how often it was cut, and what Vobiz answered, in words.';
comment on column vobiz.refused_page.oldest_at is 'Its rows tell of no earlier instant, as far as the pages behind it show; NULL: not known.';
comment on column vobiz.refused_page.at is 'When it was refused last.';

create table vobiz.unreadable_row (
  account_id text        not null references vobiz.account,
  row_hash   bytea       not null check (length(row_hash) = 32),
  call_id    text,
  why        text        not null,
  body       bytea       not null check (length(body) <= 65536),
  first_at   timestamptz not null default vobiz.now(),
  primary key (account_id, row_hash)
);
create index unreadable_row_call_id on vobiz.unreadable_row (call_id);

comment on table  vobiz.unreadable_row is 'Rows of the CDR list that are no record of a call of the account, each once, as they came: no JSON, no uuid, another owner, or a value that Postgres refuses.';
comment on column vobiz.unreadable_row.account_id is 'The account whose list showed it.';
comment on column vobiz.unreadable_row.row_hash is 'SHA-256 of what it says: the same row is kept, and logged, once.';
comment on column vobiz.unreadable_row.call_id is 'The id that it shows, where one can be seen.';
comment on column vobiz.unreadable_row.why is 'Why it could not be read; for another owner, its name.';
comment on column vobiz.unreadable_row.body is 'Up to 64 KiB of the row as it came.';
comment on column vobiz.unreadable_row.first_at is 'When it was seen first.';
