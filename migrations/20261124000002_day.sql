-- The ledger: each provider day is listed alone and compared with what we hold; every comparison is kept.

-- How Vobiz cuts its days is unpublished: it is learnt from the lists.
alter table vobiz.account
  add column day_of       text not null default 'start_time' check (day_of in ('start_time', 'end_time', 'created_at')),
  add column day_offset   interval,
  add column summary_cost text check (summary_cost in ('total_cost', 'cost')),
  add column registered_at timestamptz not null default vobiz.now();
update vobiz.account set registered_at = ledger_since;
comment on column vobiz.account.registered_at is 'When the service first knew of the account: callbacks can have been missed from then on.';
comment on column vobiz.account.day_of is 'Which time of a call puts it into a day of Vobiz''s list, as far as the lists tell.';
comment on column vobiz.account.day_offset is 'How far east of UTC Vobiz''s days are cut, as far as the lists tell; null until a list was read: then the billing zone is assumed.';
comment on column vobiz.account.summary_cost is 'Which field the total_cost of Vobiz''s summaries adds up; null until a day with streaming told.';

create table vobiz.day_bound (
  account_id text not null references vobiz.account,
  day_of     text not null check (day_of in ('start_time', 'end_time', 'created_at')),
  least      interval not null,
  most       interval not null,
  primary key (account_id, day_of)
);
comment on table  vobiz.day_bound is 'What the lists of days have told about the zone in which Vobiz cuts them, for each time that may decide.';
comment on column vobiz.day_bound.account_id is 'The account whose lists told.';
comment on column vobiz.day_bound.day_of is 'If this time of a call decides …';
comment on column vobiz.day_bound.least is '… then the zone is at least so far east of UTC …';
comment on column vobiz.day_bound.most is '… and less than so far. If that leaves nothing, it is not this time that decides.';

create function vobiz.day_start(account text, day date) returns timestamptz
  language sql stable parallel safe
  as $$
    select case when a.day_offset is null then day::timestamp at time zone s.billing_zone
                else (day::timestamp at time zone 'UTC') - a.day_offset end
    from vobiz.setting s left join vobiz.account a on a.account_id = account
  $$;
comment on function vobiz.day_start(text, date) is
  'The first instant of a provider day of this account: by what its lists told, else in the billing zone.';

create function vobiz.day_on(account text, instant timestamptz) returns date
  language sql stable parallel safe
  as $$
    select case when a.day_offset is null then (instant at time zone s.billing_zone)::date
                else ((instant at time zone 'UTC') + a.day_offset)::date end
    from vobiz.setting s left join vobiz.account a on a.account_id = account
  $$;
comment on function vobiz.day_on(text, timestamptz) is
  'The provider day of this account in which an instant lies: by what its lists told, else in the billing zone.';

create table vobiz.day (
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
  primary key (account_id, day),
  constraint outcome_has_its_check check (
    (state = 'open') = (checked_at is null) and (checked_at is null) = (check_id is null))
);
create index day_check_at on vobiz.day (account_id, check_at) where check_at is not null;
create index day_unsettled on vobiz.day (account_id, day) where state <> 'settled' or reopened_at is not null;

comment on table  vobiz.day is 'One row per account and provider day since ledger_since: how it stands, and when it is compared with Vobiz next.';
comment on column vobiz.day.account_id is 'The account whose list is read.';
comment on column vobiz.day.day is 'The day as Vobiz names it (start_date = end_date).';
comment on column vobiz.day.from_at is 'Its first instant, by what is known of Vobiz''s zone.';
comment on column vobiz.day.to_at is 'The first instant after it.';
comment on column vobiz.day.state is 'Outcome of the last check: settled (the provider''s rows and totals equal ours), differs, unproven (nothing can be said), open (never checked).';
comment on column vobiz.day.began_at is 'When the last check began, also one that did not come to its end.';
comment on column vobiz.day.checked_at is 'When the last check compared.';
comment on column vobiz.day.check_id is 'The last check: its row in vobiz.reconciliation_check.';
comment on column vobiz.day.reopened_at is 'A call of this day was stored, changed or deleted here after the last check: the day counts as unsettled until it is checked again.';
comment on column vobiz.day.reopenings is 'Checks in a row to which a change here had led: each comes later than the one before, so that costs which trickle in do not have a day listed every hour.';
comment on column vobiz.day.tries is 'Checks in a row that did not settle it.';
comment on column vobiz.day.check_at is 'When it is checked next; null: not by itself any more.';
comment on column vobiz.day.error is 'Why the last check did not come to its end; null if it did.';

create table vobiz.reconciliation_check (
  id             bigint generated always as identity primary key,
  account_id     text        not null,
  day            date        not null,
  cause          text        not null check (cause in ('1h', '24h', '72h', '7d', '30d', 'again', 'reopened', 'backfill', 'manual', 'recover')),
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
  unannounced    integer     not null
);
create index reconciliation_check_day on vobiz.reconciliation_check (account_id, day, id);

comment on table  vobiz.reconciliation_check is 'Every comparison of a provider day with what we hold; append only.';
comment on column vobiz.reconciliation_check.id is 'Order of checking.';
comment on column vobiz.reconciliation_check.account_id is 'The account whose list was read.';
comment on column vobiz.reconciliation_check.day is 'The day as Vobiz names it.';
comment on column vobiz.reconciliation_check.cause is 'Why: so long after the end of the day; again (the last check did not settle it), reopened (something changed here), backfill, manual, recover.';
comment on column vobiz.reconciliation_check.began_at is 'Before the first page was asked for.';
comment on column vobiz.reconciliation_check.checked_at is 'When it was compared.';
comment on column vobiz.reconciliation_check.state is 'settled: each of Vobiz''s rows and its totals equal ours, and Vobiz has each of ours; differs; unproven: its answer proves nothing.';
comment on column vobiz.reconciliation_check.reason is 'Why it is not settled, in words.';
comment on column vobiz.reconciliation_check.requests is 'Pages that were read.';
comment on column vobiz.reconciliation_check.day_of is 'The time of a call that decides its day, as known then.';
comment on column vobiz.reconciliation_check.from_at is 'First instant of the day, as known then.';
comment on column vobiz.reconciliation_check.to_at is 'First instant after the day, as known then.';
comment on column vobiz.reconciliation_check.summary is 'Vobiz''s own totals as they came.';
comment on column vobiz.reconciliation_check.summary_cost is 'The field that its total_cost added up: total_cost, cost, or either (both fit); null if none fits or there are several currencies.';
comment on column vobiz.reconciliation_check.missing_here is 'Calls that Vobiz lists and we lack.';
comment on column vobiz.reconciliation_check.missing_there is 'Calls of ours in this day that Vobiz lists neither in it nor in the days beside it.';
comment on column vobiz.reconciliation_check.differing is 'Calls of which a billed field differs.';
comment on column vobiz.reconciliation_check.unreadable is 'Rows of the list that could not be read.';
comment on column vobiz.reconciliation_check.recovered is 'Calls that this check stored first and nothing had owed.';
comment on column vobiz.reconciliation_check.revised is 'Calls of which this check brought a newer version.';
comment on column vobiz.reconciliation_check.unannounced is 'Calls of the day for which no callback had come until then.';

create table vobiz.reconciliation_total (
  check_id       bigint  not null references vobiz.reconciliation_check,
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
comment on table  vobiz.reconciliation_total is 'Both sides of a check, one row per currency.';
comment on column vobiz.reconciliation_total.check_id is 'The check.';
comment on column vobiz.reconciliation_total.currency is 'Currency of the costs; empty where the calls name none.';
comment on column vobiz.reconciliation_total.calls_here is 'Calls of the day that we hold.';
comment on column vobiz.reconciliation_total.calls_there is 'Calls that Vobiz lists.';
comment on column vobiz.reconciliation_total.duration_here is 'Their seconds, ringing and talking, here.';
comment on column vobiz.reconciliation_total.duration_there is 'The same in Vobiz''s rows.';
comment on column vobiz.reconciliation_total.billsec_here is 'Their seconds talked, here.';
comment on column vobiz.reconciliation_total.billsec_there is 'The same in Vobiz''s rows.';
comment on column vobiz.reconciliation_total.cost_here is 'Sum of cost here.';
comment on column vobiz.reconciliation_total.cost_there is 'The same in Vobiz''s rows.';
comment on column vobiz.reconciliation_total.total_here is 'Sum of total_cost here.';
comment on column vobiz.reconciliation_total.total_there is 'The same in Vobiz''s rows.';

create table vobiz.reconciliation_difference (
  check_id bigint not null references vobiz.reconciliation_check,
  number   integer not null,
  kind     text   not null check (kind in ('missing_here', 'missing_there', 'differs', 'unreadable', 'summary')),
  call_id  text,
  field    text,
  here     text,
  there    text,
  primary key (check_id, number)
);
comment on table  vobiz.reconciliation_difference is 'What a check found to differ, call by call and field by field; the first thousand of a check.';
comment on column vobiz.reconciliation_difference.check_id is 'The check.';
comment on column vobiz.reconciliation_difference.number is 'Order within the check.';
comment on column vobiz.reconciliation_difference.kind is 'missing_here, missing_there, differs (a billed field of a call), unreadable (a row of the list), summary (Vobiz''s total does not equal its own rows).';
comment on column vobiz.reconciliation_difference.call_id is 'The call; null for unreadable and summary.';
comment on column vobiz.reconciliation_difference.field is 'The field that differs.';
comment on column vobiz.reconciliation_difference.here is 'Its value here; for summary, the sum of Vobiz''s own rows.';
comment on column vobiz.reconciliation_difference.there is 'Its value at Vobiz.';

-- The ledger is appended to, never mended.
create function vobiz.refuse() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
  as $$
  begin
    raise exception '% of %.% is refused: %', lower(tg_op), tg_table_schema, tg_table_name, tg_argv[0]
      using errcode = 'object_not_in_prerequisite_state';
  end $$;
comment on function vobiz.refuse() is 'Trigger: refuses the statement; its argument says why and what to do instead.';

create trigger append_only before update or truncate on vobiz.reconciliation_check
  for each statement execute function vobiz.refuse('what is in it is evidence; a further check appends to it');
create trigger append_only before update or truncate on vobiz.reconciliation_total
  for each statement execute function vobiz.refuse('what is in it is evidence; a further check appends to it');
create trigger append_only before update or truncate on vobiz.reconciliation_difference
  for each statement execute function vobiz.refuse('what is in it is evidence; a further check appends to it');

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

create view vobiz.compared_owner as
  with recursive owner as (
    select min(account_id) as id from vobiz.cdr
    union all
    select (select min(c.account_id) from vobiz.cdr c where c.account_id > o.id) from owner o where o.id is not null
  )
  select a.account_id, o.id as owner
  from vobiz.account a cross join owner o
  where o.id = a.account_id or not exists (select from vobiz.account x where x.account_id = o.id);
comment on view vobiz.compared_owner is 'Owners of calls that only the list of an account can show: itself, and whoever is not configured (of these, the calls that its list showed).';
comment on column vobiz.compared_owner.account_id is 'The account whose list is compared.';
comment on column vobiz.compared_owner.owner is 'The account that owns the calls.';

create function vobiz.unlisted_call(account text, day_of text, from_at timestamptz, to_at timestamptz)
  returns setof vobiz.cdr language sql stable
  as $$
    select c.*
    from vobiz.compared_owner o
    -- No call lasts longer than a day: by whatever time its day is decided, it began not much earlier.
    join vobiz.cdr c on c.account_id = o.owner and c.day_at >= from_at - interval '1 day' and c.day_at < to_at
    cross join lateral (
      select case day_of when 'end_time' then coalesce(c.end_time, c.day_at)
                         when 'created_at' then coalesce(c.created_at, c.day_at) else c.day_at end as instant) i
    where o.account_id = account and (o.owner = account or c.listed_by = account)
      and i.instant >= from_at and i.instant < to_at
      and not exists (select from vobiz.listed_call l where l.account_id = account and l.call_id = c.call_id)
  $$;
comment on function vobiz.unlisted_call(text, text, timestamptz, timestamptz) is
  'Calls stored here that the list of a day ought to show and that no list of the check under way showed.';

create function vobiz.need_read_committed() returns void
  language plpgsql
  as $$
  begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
      raise exception 'neither the ledger nor the bill can be kept exact in a transaction that is %', current_setting('transaction_isolation')
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Change vobiz.cdr and vobiz.customer_rule in a transaction that is read committed.';
    end if;
  end $$;
comment on function vobiz.need_read_committed() is 'Refuses transactions with one snapshot for all statements: they do not see what was committed before a statement of theirs began.';

-- Whatever changes a call of a day that was checked reopens the day, whoever does it. The row of the day is also the fence
-- between a check that ends and a writer that comes late: the one that is second waits, and sees what the first one did. A day
-- that is reopened already, and that nobody is checking, needs no second word.
create function vobiz.reopen(
    call_account text, list_account text, first timestamptz, last timestamptz, known boolean) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    touched date[];
    whose   text[];
  begin
    -- With an older snapshot, a check that has begun meanwhile would not be seen.
    perform vobiz.need_read_committed();
    select array_agg(d.account_id), array_agg(d.day) into whose, touched
    from vobiz.day d
    -- The list of a parent may have shown a call of its sub-account, whoever stored it last.
    where (d.account_id in (call_account, list_account)
           or known and d.account_id in (select o.account_id from vobiz.listed_owner o where o.owner = call_account))
      -- Days of Vobiz are never further than this from those of UTC.
      and d.day between (first at time zone 'UTC')::date - 1 and (last at time zone 'UTC')::date + 1
      and d.from_at <= last and d.to_at > first
      and d.began_at is not null
      -- One that is reopened already, and that nobody is checking, needs no second word.
      and (d.reopened_at is null or d.checked_at is null or d.began_at > d.checked_at);
    if touched is null then
      return;
    end if;
    -- Always in this order: two writers of the same days seldom wait for each other in a ring. If two calls of theirs do it
    -- nevertheless, Postgres ends one of them, and it tries again.
    perform from vobiz.day d
    join unnest(whose, touched) as t (account_id, day) on d.account_id = t.account_id and d.day = t.day
    order by d.account_id, d.day for no key update of d;
    update vobiz.day d
    set reopened_at = coalesce(d.reopened_at, vobiz.now()),
        -- What changes in one go is checked in one go: 10 minutes later, and if that goes on four times as late each time, up to a
        -- day.
        check_at = case when d.reopened_at is not null then d.check_at
                        else least(d.check_at, vobiz.now() + least(interval '24 hours',
                                                                   interval '10 minutes' * 4 ^ least(d.reopenings, 4))) end
    from unnest(whose, touched) as t (account_id, day)
    where d.account_id = t.account_id and d.day = t.day;
  end $$;
comment on function vobiz.reopen(text, text, timestamptz, timestamptz, boolean) is
  'Reopens the checked days in which a call lies whose times lie between these; known: it was stored before.';

create function vobiz.cut_ledger(account text, start_decides boolean) returns void
  language plpgsql set lock_timeout = '5s'
  as $$
  begin
    -- A writer reopens the day in which it believes its call to lie: those that believe the old days end first.
    lock table vobiz.cdr in share mode;
    with owner as materialized (
      select o.owner as id from vobiz.compared_owner o where o.account_id = account
    ), cut as (
      select d.day, d.from_at as old_from, d.to_at as old_to,
             vobiz.day_start(account, d.day) as from_at, vobiz.day_start(account, d.day + 1) as to_at
      from vobiz.day d where d.account_id = account
    ), moved as (
      select n.day, n.from_at, n.to_at,
             exists (
               select from (values (least(n.old_from, n.from_at), greatest(n.old_from, n.from_at)),
                                   (least(n.old_to, n.to_at), greatest(n.old_to, n.to_at))) as strip (first, last)
               cross join owner o
               join vobiz.cdr c on c.account_id = o.id and c.day_at < strip.last
                 -- By its end or its creation a call may belong to a later day than by its start.
                 and c.day_at >= strip.first - case when start_decides then interval '0' else vobiz.longest_call() end
               where o.id = account or c.listed_by = account) as changes
      from cut n where start_decides is false or (n.old_from, n.old_to) is distinct from (n.from_at, n.to_at)
    )
    update vobiz.day d set
      from_at = m.from_at, to_at = m.to_at,
      reopened_at = case when m.changes and d.checked_at is not null then coalesce(d.reopened_at, vobiz.now())
                         else d.reopened_at end,
      check_at = case when m.changes and d.checked_at is not null or d.checked_at is null and d.check_at is not null
                      then greatest(m.to_at + interval '1 hour', vobiz.now())
                      else d.check_at end
    from moved m where d.account_id = account and d.day = m.day;
  end $$;
comment on function vobiz.cut_ledger(text, boolean) is
  'Moves the days of an account to where they lie by what is believed now, and reopens those between which a call changes over. start_decides: so it did, and does.';

create function vobiz.reopen_day() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  -- Whichever time of a call decides its day.
  if tg_op <> 'INSERT' then
    perform vobiz.reopen(old.account_id, old.listed_by, least(old.day_at, old.end_time, old.created_at),
                         greatest(old.day_at, old.end_time, old.created_at), true);
  end if;
  if tg_op <> 'DELETE' then
    perform vobiz.reopen(new.account_id, new.listed_by, least(new.day_at, new.end_time, new.created_at),
                         greatest(new.day_at, new.end_time, new.created_at), tg_op = 'UPDATE');
  end if;
  return null;
end $$;
comment on function vobiz.reopen_day() is 'Trigger on vobiz.cdr: a change to a call of a checked day reopens that day.';

-- For each row with a condition, so that fresh calls and confirmed ones cost nothing: no day is settled before it has been over
-- for an hour.
create trigger reopen_day_insert after insert on vobiz.cdr for each row
  -- The time of the statement, not that of a transaction that has begun long before it.
  when (new.day_at < vobiz.now() + (clock_timestamp() - now()) - interval '1 hour')
  execute function vobiz.reopen_day();
create trigger reopen_day_update
  after update of call_id, account_id, call_direction, start_time, end_time, created_at, duration, billsec, cost, streaming_cost,
                  total_cost, currency on vobiz.cdr for each row
  when ((new.call_id, new.account_id, new.day_at, new.end_time, new.created_at, new.call_direction, new.duration, new.billsec, new.cost,
         new.streaming_cost, new.total_cost, new.currency)
        is distinct from
        (old.call_id, old.account_id, old.day_at, old.end_time, old.created_at, old.call_direction, old.duration, old.billsec, old.cost,
         old.streaming_cost, old.total_cost, old.currency))
  execute function vobiz.reopen_day();
create trigger reopen_day_delete after delete on vobiz.cdr for each row
  execute function vobiz.reopen_day();

-- A call that leaves the queue because its settled day lacks it.
alter table vobiz.closed_call drop constraint closed_call_reason_check,
  add constraint closed_call_reason_check
    check (reason in ('not_found', 'other_id', 'refused', 'unreadable', 'never_appeared', 'by_operator'));
comment on column vobiz.closed_call.reason is 'not_found: speculative, and 404 for an hour; refused, unreadable: speculative, and answered so five times; other_id: the CDR has another id, found by its SIP Call-ID; never_appeared: 404 for a day, and the settled days around it lack it; by_operator: see vobiz.audit.';

-- A question that was answered is not asked again.
alter table vobiz.cdr_queue add column asked text[] not null default '{}';
comment on column vobiz.cdr_queue.asked is 'Other accounts that do not have the call: each is asked once, before a call that never appeared is given up.';
