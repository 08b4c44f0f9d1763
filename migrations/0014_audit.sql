-- What people did to the data. Appended to, never mended. Who they are is filled in by repeatable/base/present_author.sql.

create table vobiz.audit (
  id         bigint      generated always as identity primary key,
  at         timestamptz not null default vobiz.now(),
  by         text        not null,
  action     text        not null check (action <> ''),
  call_id    text,
  account_id text,
  reason     text,
  detail     json
);
create index audit_call_id on vobiz.audit (call_id);
create index audit_at on vobiz.audit (at);

comment on table  vobiz.audit is 'What people, and commands in their name, did to the data, and where the service itself overruled a version; append only.';
comment on column vobiz.audit.id is 'Order of writing.';
comment on column vobiz.audit.at is 'When (vobiz.now()).';
comment on column vobiz.audit.by is 'Who: the user of the session, and in parentheses the person that a command names (vobiz.by).';
comment on column vobiz.audit.action is 'cdr_deleted, cdr_changed_by_hand, revision_deleted, dead_letter_closed, owed_call_closed, account_retired, account_taken_up_again, reparsed, customer_rule_changed, rollup_repaired, overruled_by_list; an open list.';
comment on column vobiz.audit.call_id is 'The call concerned, if one is.';
comment on column vobiz.audit.account_id is 'Account of the call.';
comment on column vobiz.audit.reason is 'Why, in the words of its author.';
comment on column vobiz.audit.detail is 'What was there before and after, or what was removed.';
