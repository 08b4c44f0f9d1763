-- What lists have shown: the rows of a day while it is compared, whose calls they were, and the pages that Vobiz refused.

-- The list of a day while it is read and compared. After a crash of Postgres it is empty, and the check begins anew.
create unlogged table vobiz.listed_call (
  account_id     text not null,
  list_day       date not null,
  call_id        text not null,
  owner          text not null,
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
comment on column vobiz.listed_call.owner is 'Account that owns the call.';
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
  at         timestamptz not null default vobiz.now(),
  primary key (account_id, list, page)
);

comment on table  vobiz.refused_page is 'Pages of the CDR list that Vobiz answered with an error, again and again, while others came: what of them could not be read by smaller pages. A page leaves once its list was read to the end without it.';
comment on column vobiz.refused_page.account_id is 'The account whose list is read.';
comment on column vobiz.refused_page.list is 'Which list: sweep, drain, or day YYYY-MM-DD.';
comment on column vobiz.refused_page.page is 'The page, of 100 rows each, from 1.';
comment on column vobiz.refused_page.rows_lost is 'Rows of it that no smaller page showed either.';
comment on column vobiz.refused_page.words is 'Which page, how often it was cut, and what Vobiz answered, in words.';
comment on column vobiz.refused_page.at is 'When it was refused last.';
