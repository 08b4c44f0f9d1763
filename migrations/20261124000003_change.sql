-- What changed, and who changed it: earlier states of the CDRs, a log of what people did, and the checkpoints of long tasks.

-- Which key gave a version its day_at: a row of a list that lacks the key does not move the day.
alter table vobiz.cdr_revision
  add column day_from text check (day_from in ('start_time', 'end_time', 'created_at', 'none'));
comment on column vobiz.cdr_revision.day_from is
  'The key of the record that day_at comes from; none: it had no such key. NULL (a version kept before this column was there) counts as start_time.';

-- Earlier states -------------------------------------------------------------------------------------------------------

create function vobiz.cdr_as_of(at timestamptz)
  returns table (
    call_id text, account_id text, day_at timestamptz, call_direction text, duration integer, billsec integer, cost numeric,
    streaming_cost numeric, total_cost numeric, currency text, updated_at timestamptz, fetched_at timestamptz, revision integer)
  language sql stable parallel safe
  as $$
    with known as (
      select r.call_id, r.revision, r.fetched_at, r.source, r.updated_at, r.day_at, r.call_direction, r.duration, r.billsec, r.cost,
             r.streaming_cost, r.total_cost, r.currency, r.content_hash,
             coalesce(r.day_from, 'start_time') as day_from, c.stored_at,
             case when c.fetched_at <= cdr_as_of.at then c.account_id else r.account_id end as account_id,
             -- The version shown may have been confirmed since it was kept: then it is the last one.
             coalesce(c.content_hash = r.content_hash and c.fetched_at <= cdr_as_of.at, false) as shown
      from vobiz.cdr_revision r left join vobiz.cdr c on c.call_id = r.call_id
      where r.fetched_at <= cdr_as_of.at
    ), ranked as (
      select k.*, row_number() over newest as place,
             -- Of the single records and of the list rows below the newest single record, nothing is seen any more.
             count(*) filter (where source = 'single') over newest - (source = 'single')::int = 0 as seen
      from known k
      window newest as (
        partition by k.call_id
        order by shown desc, updated_at desc nulls last, fetched_at desc, content_hash desc, revision desc
        rows unbounded preceding)
    ), said as (
      -- A list row that lacks a field leaves what the version before it said: the newest word on each field.
      select s.call_id, s.account_id, s.place, s.fetched_at, s.revision,
             coalesce(
               (array_agg(s.day_at) filter (where day_from = 'start_time') over versions)[1],
               (array_agg(s.day_at) filter (where day_from = 'end_time') over versions)[1],
               (array_agg(s.day_at) filter (where day_from = 'created_at') over versions)[1],
               s.stored_at, s.day_at) as day_at,
             (array_agg(s.call_direction) filter (where s.call_direction is not null) over versions)[1] as call_direction,
             (array_agg(s.duration) filter (where s.duration is not null) over versions)[1] as duration,
             (array_agg(s.billsec) filter (where s.billsec is not null) over versions)[1] as billsec,
             (array_agg(s.cost) filter (where s.cost is not null) over versions)[1] as cost,
             (array_agg(s.streaming_cost) filter (where s.streaming_cost is not null) over versions)[1] as streaming_cost,
             (array_agg(s.total_cost) filter (where s.total_cost is not null) over versions)[1] as total_cost,
             (array_agg(s.currency) filter (where s.currency is not null) over versions)[1] as currency,
             (array_agg(s.updated_at) filter (where s.updated_at is not null) over versions)[1] as updated_at
      from ranked s
      where s.seen
      window versions as (
        partition by s.call_id
        order by shown desc, s.updated_at desc nulls last, s.fetched_at desc, content_hash desc, s.revision desc
        rows between unbounded preceding and unbounded following)
    )
    select call_id, account_id, day_at, call_direction, duration, billsec, cost, streaming_cost, total_cost, currency, updated_at,
           fetched_at, revision
    from said where place = 1
  $$;
comment on function vobiz.cdr_as_of(timestamptz) is
  'The billed fields of every call as they were known at an instant, from the versions asked for by then (vobiz.cdr_revision): which one wins is the order of the service. At infinity it equals vobiz.cdr, but for rows that were changed or deleted by hand, or whose fields are read anew (vobiz-cdr reparse). fetched_at and revision are those of the newest version of the call. A pruned version is not known.';

create view vobiz.cdr_change as
  with version as (
    select r.call_id, coalesce(c.account_id, r.account_id) as account_id, r.revision, r.fetched_at, r.source, r.updated_at, r.day_at,
           r.call_direction, r.duration, r.billsec, r.cost, r.streaming_cost, r.total_cost, r.currency, r.content_hash,
           coalesce(r.day_from, 'start_time') as day_from, c.stored_at,
           coalesce(c.content_hash = r.content_hash, false) as shown
    from vobiz.cdr_revision r left join vobiz.cdr c on c.call_id = r.call_id
    -- Where one version is kept, nothing changed.
    where c.revision is null or c.revision > 1
  ), record as (
    -- A single record begins anew; the list rows after it are laid over it.
    select v.*, count(*) filter (where source = 'single') over oldest as base
    from version v
    window oldest as (
      partition by v.call_id order by shown, updated_at nulls first, fetched_at, content_hash, revision rows unbounded preceding)
  ), said as (
    select r.call_id, r.account_id, r.revision, r.fetched_at, r.updated_at as vobiz_updated_at, r.shown, r.updated_at, r.content_hash,
           array_agg(r.day_at) filter (where day_from = 'start_time') over sofar as started,
           array_agg(r.day_at) filter (where day_from = 'end_time') over sofar as ended,
           array_agg(r.day_at) filter (where day_from = 'created_at') over sofar as created,
           coalesce(r.stored_at, r.day_at) as otherwise,
           array_agg(r.call_direction) filter (where r.call_direction is not null) over sofar as call_direction,
           array_agg(r.duration) filter (where r.duration is not null) over sofar as duration,
           array_agg(r.billsec) filter (where r.billsec is not null) over sofar as billsec,
           array_agg(r.cost) filter (where r.cost is not null) over sofar as cost,
           array_agg(r.streaming_cost) filter (where r.streaming_cost is not null) over sofar as streaming_cost,
           array_agg(r.total_cost) filter (where r.total_cost is not null) over sofar as total_cost,
           array_agg(r.currency) filter (where r.currency is not null) over sofar as currency
    from record r
    window sofar as (
      partition by r.call_id, base
      order by shown, r.updated_at nulls first, r.fetched_at, content_hash, r.revision rows unbounded preceding)
  ), state as (
    select s.call_id, s.account_id, s.revision, s.fetched_at, s.vobiz_updated_at, s.shown, s.updated_at, s.content_hash,
           coalesce(started[cardinality(started)], ended[cardinality(ended)], created[cardinality(created)], otherwise) as day_at,
           call_direction[cardinality(call_direction)] as call_direction,
           duration[cardinality(duration)] as duration,
           billsec[cardinality(billsec)] as billsec,
           cost[cardinality(cost)] as cost,
           streaming_cost[cardinality(streaming_cost)] as streaming_cost,
           total_cost[cardinality(total_cost)] as total_cost,
           currency[cardinality(currency)] as currency
    from said s
  ), step as (
    select s.*, row_number() over following as place,
           lag(day_at) over following as was_day_at,
           lag(call_direction) over following as was_call_direction,
           lag(duration) over following as was_duration,
           lag(billsec) over following as was_billsec,
           lag(cost) over following as was_cost,
           lag(streaming_cost) over following as was_streaming_cost,
           lag(total_cost) over following as was_total_cost,
           lag(currency) over following as was_currency
    from state s
    window following as (
      partition by s.call_id order by shown, updated_at nulls first, fetched_at, content_hash, revision)
  )
  select s.call_id, s.account_id, s.day_at, f.field, f.was, f."is",
         -- Amounts of different currencies have no difference.
         case when f.field not like '%cost' or s.currency is not distinct from s.was_currency then f.difference end as difference,
         s.fetched_at as changed_at, s.vobiz_updated_at, s.revision
  from step s cross join lateral (values
    ('day_at', to_char(s.was_day_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               to_char(s.day_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               s.day_at is distinct from s.was_day_at, null::numeric),
    ('call_direction', s.was_call_direction, s.call_direction, s.call_direction is distinct from s.was_call_direction, null),
    ('duration', s.was_duration::text, s.duration::text, s.duration is distinct from s.was_duration, s.duration - s.was_duration),
    ('billsec', s.was_billsec::text, s.billsec::text, s.billsec is distinct from s.was_billsec, s.billsec - s.was_billsec),
    ('cost', s.was_cost::text, s.cost::text, s.cost is distinct from s.was_cost, s.cost - s.was_cost),
    ('streaming_cost', s.was_streaming_cost::text, s.streaming_cost::text,
                       s.streaming_cost is distinct from s.was_streaming_cost, s.streaming_cost - s.was_streaming_cost),
    ('total_cost', s.was_total_cost::text, s.total_cost::text,
                   s.total_cost is distinct from s.was_total_cost, s.total_cost - s.was_total_cost),
    ('currency', s.was_currency, s.currency, s.currency is distinct from s.was_currency, null)
  ) as f (field, was, "is", differs, difference)
  where s.place > 1 and f.differs;

comment on view   vobiz.cdr_change is 'One row per billed field that differs between two versions of a call that follow one another in the order of the service; a field that a list row leaves out has not changed. The account and the order of versions are those of today.';
comment on column vobiz.cdr_change.call_id is 'The call.';
comment on column vobiz.cdr_change.account_id is 'Account that owns the call.';
comment on column vobiz.cdr_change.day_at is 'The billing instant after the change.';
comment on column vobiz.cdr_change.field is 'day_at, call_direction, duration, billsec, cost, streaming_cost, total_cost or currency.';
comment on column vobiz.cdr_change.was is 'The value before, as text (times in UTC); NULL if there was none.';
comment on column vobiz.cdr_change."is" is 'The value after, as text (times in UTC); NULL if there is none any more.';
comment on column vobiz.cdr_change.difference is 'After minus before: seconds for duration and billsec, currency for costs. NULL where either is missing, for other fields, and for costs whose currency changed.';
comment on column vobiz.cdr_change.changed_at is 'When the version that brought the change was asked for, by the clock of Postgres.';
comment on column vobiz.cdr_change.vobiz_updated_at is 'Vobiz''s updated_at in that version.';
comment on column vobiz.cdr_change.revision is 'Number of that version in vobiz.cdr_revision.';

-- Who changed it -------------------------------------------------------------------------------------------------------

create function vobiz.present_author() returns text
  language sql stable
  as $$ select session_user || coalesce(' (' || nullif(current_setting('vobiz.by', true), '') || ')', '') $$;
comment on function vobiz.present_author() is
  'Who is at work: the user of the session, and in parentheses the person that a command names in the setting vobiz.by.';

create table vobiz.audit (
  id         bigint      generated always as identity primary key,
  at         timestamptz not null default vobiz.now(),
  by         text        not null default vobiz.present_author(),
  action     text        not null check (action <> ''),
  call_id    text,
  account_id text,
  reason     text,
  detail     json
);
create index audit_call_id on vobiz.audit (call_id);
create index audit_at on vobiz.audit (at);

comment on table  vobiz.audit is 'What people, and commands in their name, did to the data; append only.';
comment on column vobiz.audit.id is 'Order of writing.';
comment on column vobiz.audit.at is 'When (vobiz.now()).';
comment on column vobiz.audit.by is 'Who: the user of the session, and in parentheses the person that a command names (vobiz.by).';
comment on column vobiz.audit.action is 'cdr_deleted, cdr_changed_by_hand, revision_deleted, dead_letter_closed, reparsed; an open list.';
comment on column vobiz.audit.call_id is 'The call concerned, if one is.';
comment on column vobiz.audit.account_id is 'Account of the call.';
comment on column vobiz.audit.reason is 'Why, in the words of whoever did it.';
comment on column vobiz.audit.detail is 'What was there before and after, or what was removed.';

create trigger audit_is_append_only before update or delete or truncate on vobiz.audit
  for each statement execute function vobiz.refuse('the audit log is append only; write a further row instead');
create trigger revision_is_never_changed before update on vobiz.cdr_revision
  for each row execute function vobiz.refuse('a version is kept as it came; vobiz-cdr reparse rebuilds the columns of vobiz.cdr');
create trigger revision_is_not_truncated before truncate on vobiz.cdr_revision
  for each statement execute function vobiz.refuse('it leaves no trace; delete rows, or drop the partition of a month');
create trigger cdr_is_not_truncated before truncate on vobiz.cdr
  for each statement execute function vobiz.refuse('it leaves no trace; delete rows, and vobiz.audit keeps what they said');

create function vobiz.billed(c vobiz.cdr) returns json
  language sql stable
  as $$
    select json_build_object(
      'account_id', c.account_id, 'day_at', c.day_at, 'call_direction', c.call_direction, 'duration', c.duration,
      'billsec', c.billsec, 'cost', c.cost, 'streaming_cost', c.streaming_cost, 'total_cost', c.total_cost, 'currency', c.currency)
  $$;
comment on function vobiz.billed(vobiz.cdr) is 'The billed fields of a CDR as JSON: seconds, and amounts in currency before tax.';

-- Whoever may delete or change rows need not be allowed to write into the audit log; the log names them all the same.
create function vobiz.audit_deleted_cdr() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    insert into vobiz.audit (action, call_id, account_id, detail)
    select 'cdr_deleted', d.call_id, d.account_id,
           json_build_object('was', vobiz.billed(d), 'start_time', d.start_time, 'end_time', d.end_time, 'updated_at', d.updated_at,
                             'stored_at', d.stored_at, 'revision', d.revision, 'content_hash', encode(d.content_hash, 'hex'))
    from deleted d;
    return null;
  end $$;
comment on function vobiz.audit_deleted_cdr() is 'Trigger: notes every deleted CDR in vobiz.audit. Deleting is never silent.';
create trigger deleted_cdr_is_audited after delete on vobiz.cdr
  referencing old table as deleted for each statement execute function vobiz.audit_deleted_cdr();

create function vobiz.audit_deleted_revision() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    insert into vobiz.audit (action, call_id, account_id, detail)
    select 'revision_deleted', d.call_id, d.account_id,
           json_build_object('revision', d.revision, 'fetched_at', d.fetched_at, 'source', d.source, 'updated_at', d.updated_at,
                             'day_at', d.day_at, 'call_direction', d.call_direction, 'duration', d.duration, 'billsec', d.billsec,
                             'cost', d.cost, 'streaming_cost', d.streaming_cost, 'total_cost', d.total_cost,
                             'currency', d.currency, 'content_hash', encode(d.content_hash, 'hex'))
    from deleted d;
    return null;
  end $$;
comment on function vobiz.audit_deleted_revision() is
  'Trigger: notes every deleted version in vobiz.audit, without its payload. Dropping a partition is no deletion of rows and fires none.';
create trigger deleted_revision_is_audited after delete on vobiz.cdr_revision
  referencing old table as deleted for each statement execute function vobiz.audit_deleted_revision();

create function vobiz.audit_changed_cdr() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    insert into vobiz.audit (action, call_id, account_id, detail)
    values ('cdr_changed_by_hand', old.call_id, old.account_id,
            json_build_object('was', vobiz.billed(old), 'is', vobiz.billed(new),
                              'call_id', case when new.call_id <> old.call_id then new.call_id end));
    return null;
  end $$;
comment on function vobiz.audit_changed_cdr() is
  'Trigger: notes a CDR in vobiz.audit whose billed fields were changed without a new version, that is by hand.';
-- For each row with a condition, not with transition tables: those would copy every row that a sweep only confirms, while the
-- list of columns and the condition are looked at without a call. Writes of the service that touch these columns bring a new
-- version, and count it in revision.
create trigger changed_cdr_is_audited
  after update of call_id, account_id, call_direction, start_time, end_time, created_at, stored_at, duration, billsec, cost,
                  streaming_cost, total_cost, currency on vobiz.cdr
  for each row
  when (new.revision = old.revision and new.content_hash = old.content_hash
        and (new.call_id, new.account_id, new.day_at, new.call_direction, new.duration, new.billsec, new.cost, new.streaming_cost,
             new.total_cost, new.currency)
            is distinct from
            (old.call_id, old.account_id, old.day_at, old.call_direction, old.duration, old.billsec, old.cost, old.streaming_cost,
             old.total_cost, old.currency))
  execute function vobiz.audit_changed_cdr();

-- Long tasks -----------------------------------------------------------------------------------------------------------

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

comment on table  vobiz.task is 'Long tasks that a command works off in steps, each with how far it came: killed, it goes on there.';
comment on column vobiz.task.id is 'Order of starting.';
comment on column vobiz.task.name is 'What is done, such as reparse.';
comment on column vobiz.task.account_id is 'Only for this account; NULL for all.';
comment on column vobiz.task.started_at is 'When it was started first.';
comment on column vobiz.task.position is 'How far it came: for reparse the last call_id that is done; NULL before the first step.';
comment on column vobiz.task.done is 'Calls looked at so far.';
comment on column vobiz.task.changed is 'Calls changed so far.';
comment on column vobiz.task.detail is 'Further counts, in the words of the task.';
comment on column vobiz.task.finished_at is 'When it came to its end; NULL while it runs, or waits to be resumed.';
