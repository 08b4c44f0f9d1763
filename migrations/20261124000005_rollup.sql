-- The bill: whose call it is, and sums that are kept beside the calls and cannot drift from them.

-- Whose call it is -----------------------------------------------------------------------------------------------------

create table vobiz.customer_rule (
  id         bigint      generated always as identity primary key,
  field      text        not null check (field in ('our_number', 'campaign_id', 'trunk_id', 'account_id')),
  value      text        not null check (value <> ''),
  customer   text        not null check (customer <> '' and customer <> 'unassigned'),
  valid_from timestamptz not null default '-infinity',
  valid_to   timestamptz not null default 'infinity',
  constraint valid_for_some_time check (valid_to > valid_from)
);
create index customer_rule_thing on vobiz.customer_rule (field, value, valid_from) include (valid_to, customer);

comment on table  vobiz.customer_rule is 'Whose calls they are: the calls of an own number, campaign, trunk or sub-account belong to a customer of ours for some time. Where several rules fit, an own number goes before a campaign, that before a trunk, that before a sub-account; where none fits, the call is ''unassigned''. A change recomputes the bill of the calls it touches, in the same transaction.';
comment on column vobiz.customer_rule.id is 'Number of the rule.';
comment on column vobiz.customer_rule.field is 'Column of vobiz.cdr that is looked at: our_number, campaign_id, trunk_id or account_id.';
comment on column vobiz.customer_rule.value is 'What it says, exactly; our_number as E.164 with + where the call shows it so.';
comment on column vobiz.customer_rule.customer is 'The customer, by the name that the bill shows.';
comment on column vobiz.customer_rule.valid_from is 'First billing instant (day_at) for which the rule holds; write the zone too, such as 2026-04-01 00:00 Asia/Kolkata.';
comment on column vobiz.customer_rule.valid_to is 'First billing instant for which it holds no more. Rules for the same thing may not overlap.';

create function vobiz.customer_of(account_id text, trunk_id text, campaign_id text, our_number text, at timestamptz) returns text
  language sql stable parallel safe
  as $$
    select coalesce((
      select r.customer from vobiz.customer_rule r
      where (r.field, r.value) in (('our_number', customer_of.our_number), ('campaign_id', customer_of.campaign_id),
                                   ('trunk_id', customer_of.trunk_id), ('account_id', customer_of.account_id))
        and r.valid_from <= customer_of.at and r.valid_to > customer_of.at
      order by array_position('{our_number,campaign_id,trunk_id,account_id}', r.field)
      limit 1), 'unassigned')
  $$;
comment on function vobiz.customer_of(text, text, text, text, timestamptz) is
  'The customer of a call with this sub-account, trunk, campaign and own number at this billing instant (day_at), by vobiz.customer_rule; ''unassigned'' where no rule fits. For many calls read vobiz.customer_cdr instead.';

-- No two rules for the same thing and time: at most one row of each join fits.
create view vobiz.customer_cdr as
  select c.*, coalesce(n.customer, k.customer, t.customer, a.customer, 'unassigned') as customer
  from vobiz.cdr c
  left join vobiz.customer_rule n
    on n.field = 'our_number' and n.value = c.our_number and n.valid_from <= c.day_at and n.valid_to > c.day_at
  left join vobiz.customer_rule k
    on k.field = 'campaign_id' and k.value = c.campaign_id and k.valid_from <= c.day_at and k.valid_to > c.day_at
  left join vobiz.customer_rule t
    on t.field = 'trunk_id' and t.value = c.trunk_id and t.valid_from <= c.day_at and t.valid_to > c.day_at
  left join vobiz.customer_rule a
    on a.field = 'account_id' and a.value = c.account_id and a.valid_from <= c.day_at and a.valid_to > c.day_at;
comment on view vobiz.customer_cdr is 'Every CDR with the customer it belongs to, by vobiz.customer_rule.';
-- The columns mean what they mean in the table.
do $$
declare
  described record;
begin
  for described in
    select attname, col_description(attrelid, attnum) as words from pg_catalog.pg_attribute
    where attrelid = 'vobiz.cdr'::regclass and attnum > 0 and not attisdropped
  loop
    execute format('comment on column vobiz.customer_cdr.%I is %L', described.attname, described.words);
  end loop;
end $$;
comment on column vobiz.customer_cdr.customer is 'The customer, by the rule that holds at day_at; ''unassigned'' where none does.';

-- Sums that are kept ---------------------------------------------------------------------------------------------------

create function vobiz.bucket_of(at timestamptz) returns timestamptz
  language sql immutable parallel safe
  -- An origin before all calls: older Postgres bins what lies before it one bin too early.
  as $$ select date_bin('15 minutes', at, timestamptz '0001-01-01 00:00:00+00') $$;
comment on function vobiz.bucket_of(timestamptz) is
  'Start of the quarter of an hour in which an instant lies. All zones have been whole quarters off UTC since 1972, so quarters fold into the days of any of them; one of before that may lie in two days, and counts for the day in which it begins.';

create function vobiz.pulse_minutes(billsec integer) returns bigint
  language sql immutable parallel safe
  as $$ select (billsec::bigint + 59) / 60 $$;
comment on function vobiz.pulse_minutes(integer) is 'Seconds talked as minutes, each begun one counted as whole: the 60 s pulse. 0 for 0.';

create table vobiz.rollup (
  account_id     text        not null,
  customer       text        not null,
  bucket         timestamptz not null,
  currency       text,
  call_direction text,
  answered       boolean     not null,
  calls          bigint      not null,
  duration       bigint      not null,
  billsec        bigint      not null,
  pulse_minutes  bigint      not null,
  cost           numeric     not null,
  streaming_cost numeric     not null,
  total_cost     numeric     not null,
  with_cost      bigint      not null,
  without_cost   bigint      not null,
  -- What has no currency or direction is one key as well.
  constraint rollup_key unique nulls not distinct (bucket, account_id, customer, currency, call_direction, answered)
) with (fillfactor = 70);
-- A few rows change with every folding.
alter table vobiz.rollup set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

create table vobiz.rollup_delta (
  like vobiz.rollup,
  constraint bucket_is_a_time check (isfinite(bucket)),
  -- Infinity and NaN: they would stay in the sums for good.
  constraint amounts_are_numbers check (abs(cost) < 'infinity' and abs(streaming_cost) < 'infinity' and abs(total_cost) < 'infinity')
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);
create index rollup_delta_bucket on vobiz.rollup_delta (bucket);

-- A reseller has hundreds of customers, and a month 2,976 quarters.
create table vobiz.rollup_day (
  account_id     text    not null,
  customer       text    not null,
  day            date    not null,
  currency       text,
  call_direction text,
  answered       boolean not null,
  calls          bigint  not null,
  duration       bigint  not null,
  billsec        bigint  not null,
  pulse_minutes  bigint  not null,
  cost           numeric not null,
  streaming_cost numeric not null,
  total_cost     numeric not null,
  with_cost      bigint  not null,
  without_cost   bigint  not null,
  constraint rollup_day_key unique nulls not distinct (day, account_id, customer, currency, call_direction, answered)
) with (fillfactor = 70);
alter table vobiz.rollup_day set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
-- As vobiz.billing_month says it.
create index rollup_day_month on vobiz.rollup_day ((date_trunc('month', day::timestamp)::date));

comment on table  vobiz.rollup is 'Sums over vobiz.cdr by quarter of an hour, which is what the days of any zone are made of. Only together with vobiz.rollup_delta do they equal it: read vobiz.billing_day, or vobiz.rollup_part. `vobiz-cdr verify` proves it.';
comment on column vobiz.rollup.account_id is 'Account that owns the calls.';
comment on column vobiz.rollup.customer is 'Customer they belong to, or ''unassigned''.';
comment on column vobiz.rollup.bucket is 'Start of the quarter of an hour in which their day_at lies.';
comment on column vobiz.rollup.currency is 'Currency of the costs; NULL where the calls name none.';
comment on column vobiz.rollup.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
comment on column vobiz.rollup.answered is 'Whether billsec > 0; a call whose billsec is NULL counts as not answered.';
comment on column vobiz.rollup.calls is 'Legs.';
comment on column vobiz.rollup.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.rollup.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.rollup.pulse_minutes is 'Minutes talked, each call rounded up to whole ones.';
comment on column vobiz.rollup.cost is 'Sum of cost; NULL counts as 0.';
comment on column vobiz.rollup.streaming_cost is 'Sum of streaming_cost; NULL counts as 0.';
comment on column vobiz.rollup.total_cost is 'Sum of total_cost; NULL counts as 0.';
comment on column vobiz.rollup.with_cost is 'Calls whose total_cost is above 0.';
comment on column vobiz.rollup.without_cost is 'Calls whose total_cost is NULL.';

comment on table  vobiz.rollup_delta is 'What has changed since it was last folded into vobiz.rollup and vobiz.rollup_day; written by triggers in the transaction that changes vobiz.cdr or vobiz.customer_rule.';
comment on table  vobiz.rollup_day is 'vobiz.rollup by day of the billing zone: folded together with it, and cut anew by a change of the zone, in the same transaction. Read vobiz.billing_day, which adds what is not folded. `vobiz-cdr verify` proves it.';
do $$
declare
  described record;
begin
  for described in
    select attname, col_description(attrelid, attnum) as words from pg_catalog.pg_attribute
    where attrelid = 'vobiz.rollup'::regclass and attnum > 0
  loop
    execute format('comment on column vobiz.rollup_delta.%I is %L', described.attname, described.words);
    if described.attname <> 'bucket' then
      execute format('comment on column vobiz.rollup_day.%I is %L', described.attname, described.words);
    end if;
  end loop;
end $$;
comment on column vobiz.rollup_day.day is 'Day in the billing zone (vobiz.setting) in which their quarter of an hour begins.';
comment on column vobiz.rollup_delta.calls is 'Legs more, or less.';

create view vobiz.rollup_part as
  select account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
         streaming_cost, total_cost, with_cost, without_cost
  from vobiz.rollup
  union all
  select account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
         streaming_cost, total_cost, with_cost, without_cost
  from vobiz.rollup_delta;
comment on view vobiz.rollup_part is 'Rows to be added up: what is folded and what is not. At every instant their sums equal those over vobiz.cdr; a key whose calls add up to 0 is not there.';

create view vobiz.rollup_base as
  select account_id, customer, vobiz.bucket_of(day_at) as bucket, currency, call_direction,
         coalesce(billsec > 0, false) as answered, count(*) as calls, coalesce(sum(duration), 0) as duration,
         coalesce(sum(billsec), 0) as billsec, coalesce(sum(vobiz.pulse_minutes(billsec)), 0)::bigint as pulse_minutes,
         coalesce(sum(cost), 0) as cost, coalesce(sum(streaming_cost), 0) as streaming_cost,
         coalesce(sum(total_cost), 0) as total_cost, count(*) filter (where total_cost > 0) as with_cost,
         count(*) filter (where total_cost is null) as without_cost
  from vobiz.customer_cdr
  group by 1, 2, 3, 4, 5, 6;
comment on view vobiz.rollup_base is 'What vobiz.rollup_part must add up to: the sums over vobiz.cdr, taken now. It reads all calls.';
do $$
declare
  described record;
  seen text;
begin
  foreach seen in array '{rollup_part,rollup_base}'::text[] loop
    for described in
      select attname, col_description(attrelid, attnum) as words from pg_catalog.pg_attribute
      where attrelid = 'vobiz.rollup'::regclass and attnum > 0
    loop
      execute format('comment on column vobiz.%I.%I is %L', seen, described.attname, described.words);
    end loop;
  end loop;
end $$;

-- Rules and calls must not change past one another: a call that is being stored while a rule changes would be counted by the one
-- and missed by the other. Writers of calls share this lock, and a change of rules waits for them and keeps them waiting. It is
-- good only where each statement sees what was committed before it.
create function vobiz.lock_customer_rule(change boolean) returns void
  language plpgsql
  as $$
  begin
    if change then
      perform pg_advisory_xact_lock(hashtextextended('vobiz customer_rule', 0));
    else
      perform pg_advisory_xact_lock_shared(hashtextextended('vobiz customer_rule', 0));
    end if;
    perform vobiz.need_read_committed();
  end $$;
comment on function vobiz.lock_customer_rule(boolean) is
  'Until the end of the transaction, no rule changes (false), or no call changes either (true). Refuses transactions with one snapshot for all statements.';

-- A statement that stores five hundred calls becomes a few rows. A row trigger with a condition would be called for each of them.
create function vobiz.roll_up() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    sign constant bigint := case tg_op when 'INSERT' then 1 else -1 end;
  begin
    -- Nothing was written: all calls of the group were there.
    if not exists (select from changed) then
      return null;
    end if;
    perform vobiz.lock_customer_rule(false);
    insert into vobiz.rollup_delta (account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec,
                                    pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost)
    select c.account_id, coalesce(n.customer, k.customer, t.customer, a.customer, 'unassigned'), vobiz.bucket_of(c.day_at),
           c.currency, c.call_direction, coalesce(c.billsec > 0, false), sign * count(*), sign * coalesce(sum(c.duration), 0),
           sign * coalesce(sum(c.billsec), 0), sign * coalesce(sum(vobiz.pulse_minutes(c.billsec)), 0),
           sign * coalesce(sum(c.cost), 0), sign * coalesce(sum(c.streaming_cost), 0), sign * coalesce(sum(c.total_cost), 0),
           sign * count(*) filter (where c.total_cost > 0), sign * count(*) filter (where c.total_cost is null)
    from changed c
    -- As in vobiz.customer_cdr.
    left join vobiz.customer_rule n
      on n.field = 'our_number' and n.value = c.our_number and n.valid_from <= c.day_at and n.valid_to > c.day_at
    left join vobiz.customer_rule k
      on k.field = 'campaign_id' and k.value = c.campaign_id and k.valid_from <= c.day_at and k.valid_to > c.day_at
    left join vobiz.customer_rule t
      on t.field = 'trunk_id' and t.value = c.trunk_id and t.valid_from <= c.day_at and t.valid_to > c.day_at
    left join vobiz.customer_rule a
      on a.field = 'account_id' and a.value = c.account_id and a.valid_from <= c.day_at and a.valid_to > c.day_at
    group by 1, 2, 3, 4, 5, 6;
    return null;
  end $$;
comment on function vobiz.roll_up() is 'Trigger: what was inserted is added to the sums, what was deleted is taken out.';

create function vobiz.roll_up_change() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    was text := 'unassigned';
    "is" text := 'unassigned';
  begin
    perform vobiz.lock_customer_rule(false);
    if exists (select from vobiz.customer_rule) then
      was := vobiz.customer_of(old.account_id, old.trunk_id, old.campaign_id, old.our_number, old.day_at);
      "is" := vobiz.customer_of(new.account_id, new.trunk_id, new.campaign_id, new.our_number, new.day_at);
    end if;
    if (new.account_id, "is", vobiz.bucket_of(new.day_at), new.currency, new.call_direction, coalesce(new.billsec > 0, false))
       is not distinct from
       (old.account_id, was, vobiz.bucket_of(old.day_at), old.currency, old.call_direction, coalesce(old.billsec > 0, false))
    then
      insert into vobiz.rollup_delta (account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec,
                                      pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost)
      values (new.account_id, "is", vobiz.bucket_of(new.day_at), new.currency, new.call_direction, coalesce(new.billsec > 0, false), 0,
              coalesce(new.duration, 0)::bigint - coalesce(old.duration, 0), coalesce(new.billsec, 0)::bigint - coalesce(old.billsec, 0),
              coalesce(vobiz.pulse_minutes(new.billsec), 0) - coalesce(vobiz.pulse_minutes(old.billsec), 0),
              coalesce(new.cost, 0) - coalesce(old.cost, 0), coalesce(new.streaming_cost, 0) - coalesce(old.streaming_cost, 0),
              coalesce(new.total_cost, 0) - coalesce(old.total_cost, 0),
              coalesce(new.total_cost > 0, false)::int - coalesce(old.total_cost > 0, false)::int,
              (new.total_cost is null)::int - (old.total_cost is null)::int);
    else
      insert into vobiz.rollup_delta (account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec,
                                      pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost)
      values (old.account_id, was, vobiz.bucket_of(old.day_at), old.currency, old.call_direction, coalesce(old.billsec > 0, false), -1,
              -coalesce(old.duration, 0)::bigint, -coalesce(old.billsec, 0)::bigint, -coalesce(vobiz.pulse_minutes(old.billsec), 0),
              -coalesce(old.cost, 0), -coalesce(old.streaming_cost, 0), -coalesce(old.total_cost, 0),
              -coalesce(old.total_cost > 0, false)::int, -(old.total_cost is null)::int),
             (new.account_id, "is", vobiz.bucket_of(new.day_at), new.currency, new.call_direction, coalesce(new.billsec > 0, false), 1,
              coalesce(new.duration, 0), coalesce(new.billsec, 0), coalesce(vobiz.pulse_minutes(new.billsec), 0),
              coalesce(new.cost, 0), coalesce(new.streaming_cost, 0), coalesce(new.total_cost, 0),
              coalesce(new.total_cost > 0, false)::int, (new.total_cost is null)::int);
    end if;
    return null;
  end $$;
comment on function vobiz.roll_up_change() is 'Trigger: takes a changed call out of the sums as it was, and adds it as it is.';

-- Whoever writes calls meanwhile waits from here to the end of the migration: then all calls are in the sums.
create trigger roll_up_insert after insert on vobiz.cdr
  referencing new table as changed for each statement execute function vobiz.roll_up();
create trigger roll_up_delete after delete on vobiz.cdr
  referencing old table as changed for each statement execute function vobiz.roll_up();
-- For each row with a condition, so that answers which only confirm a call cost nothing: transition tables would copy them all.
create trigger roll_up_update
  after update of account_id, trunk_id, campaign_id, call_direction, caller_id_number, caller_e164, destination_number,
                  destination_e164, start_time, end_time, created_at, stored_at, duration, billsec, cost, streaming_cost,
                  total_cost, currency on vobiz.cdr
  for each row
  when ((new.account_id, new.trunk_id, new.campaign_id, new.our_number, new.day_at, new.currency, new.call_direction,
         new.duration, new.billsec, new.cost, new.streaming_cost, new.total_cost)
        is distinct from
        (old.account_id, old.trunk_id, old.campaign_id, old.our_number, old.day_at, old.currency, old.call_direction,
         old.duration, old.billsec, old.cost, old.streaming_cost, old.total_cost))
  execute function vobiz.roll_up_change();
create trigger rollup_is_not_truncated before truncate on vobiz.rollup
  for each statement execute function vobiz.refuse('the bill would be wrong; vobiz-cdr verify --repair recomputes what differs');
create trigger rollup_day_is_not_truncated before truncate on vobiz.rollup_day
  for each statement execute function vobiz.refuse('the bill would be wrong; vobiz-cdr verify --repair recomputes what differs');
create trigger rollup_delta_is_not_truncated before truncate on vobiz.rollup_delta
  for each statement execute function vobiz.refuse('the bill would be wrong; the service folds what is in it');

insert into vobiz.rollup
select account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
       streaming_cost, total_cost, with_cost, without_cost
from vobiz.rollup_base;

-- Days of the billing zone ---------------------------------------------------------------------------------------------

create function vobiz.day_begins(day date, zone text) returns timestamptz
  language sql immutable parallel safe
  as $$
    -- Where a change of the clock shows midnight twice, Postgres takes the second one: the first is midnight by the offset of
    -- six hours before.
    select least(
      day::timestamp at time zone zone,
      case when ((day::timestamp at time zone 'UTC'
                  - (((day::timestamp at time zone zone) - interval '6 hours') at time zone zone
                     - ((day::timestamp at time zone zone) - interval '6 hours') at time zone 'UTC')) at time zone zone)
                = day::timestamp
           then day::timestamp at time zone 'UTC'
                - (((day::timestamp at time zone zone) - interval '6 hours') at time zone zone
                   - ((day::timestamp at time zone zone) - interval '6 hours') at time zone 'UTC') end)
  $$;
comment on function vobiz.day_begins(date, text) is
  'The first instant of a day in a zone: when its clocks show midnight first, or leap over it. A day ends where the next one begins, so it has 23, 24 or 25 hours.';

create function vobiz.day_of(at timestamptz, zone text) returns date
  language plpgsql immutable parallel safe cost 10
  as $$
  declare
    local constant timestamp := at at time zone zone;
    -- What the clocks show. A change over midnight shows a day before it begins, or once more when the next one has begun.
    shown constant date := local::date;
  begin
    -- Since 1970 no clock was put over midnight from so far; at most a whole day was left out.
    if at >= timestamptz '1970-01-01Z' and extract(hour from local) between 4 and 19 then
      return shown;
    end if;
    return case when vobiz.day_begins(shown + 1, zone) <= at then shown + 1
                when vobiz.day_begins(shown, zone) <= at then shown
                else shown - 1 end;
  end $$;
comment on function vobiz.day_of(timestamptz, text) is 'The day of a zone in which an instant lies: the last one that has begun by then (vobiz.day_begins).';

create function vobiz.cut_days(first date default null, last date default null) returns void
  language plpgsql
  -- Where nothing is analysed yet, Postgres would take each sum with each quarter.
  set enable_nestloop = off
  as $$
  declare
    zone    text;
    from_at timestamptz;
    to_at   timestamptz;
  begin
    -- Nobody folds meanwhile; and what was folded, and set, until now is seen by the statements below.
    perform pg_advisory_xact_lock(hashtextextended('vobiz rollup', 0));
    perform vobiz.need_read_committed();
    select s.billing_zone into zone from vobiz.setting s;
    from_at := coalesce(vobiz.day_begins(first, zone), '-infinity');
    to_at := coalesce(vobiz.day_begins(last + 1, zone), 'infinity');
    delete from vobiz.rollup_day d where d.day between coalesce(first, '-infinity') and coalesce(last, 'infinity');
    insert into vobiz.rollup_day
    with quarter as materialized (
      select q.bucket, vobiz.day_of(q.bucket, zone) as day
      from (select distinct r.bucket from vobiz.rollup r where r.bucket >= from_at and r.bucket < to_at) q
    )
    select r.account_id, r.customer, q.day, r.currency, r.call_direction, r.answered, sum(r.calls), sum(r.duration), sum(r.billsec),
           sum(r.pulse_minutes), sum(r.cost), sum(r.streaming_cost), sum(r.total_cost), sum(r.with_cost), sum(r.without_cost)
    from vobiz.rollup r join quarter q on q.bucket = r.bucket
    where r.bucket >= from_at and r.bucket < to_at
    group by 1, 2, 3, 4, 5, 6;
  end $$;
comment on function vobiz.cut_days(date, date) is
  'Makes vobiz.rollup_day of these days, both included and all where none are named, anew from vobiz.rollup. Nothing is folded until the end of the transaction.';

select vobiz.cut_days();

create function vobiz.apply_billing_zone() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    -- A psql that somebody forgot would keep everything from being folded.
    perform set_config('idle_in_transaction_session_timeout', '30s', true);
    perform vobiz.cut_days();
    -- Days of the ledger lie in the billing zone, where Vobiz's lists have not said otherwise. Last, because writers wait from here on.
    perform vobiz.cut_ledger(a.account_id, a.day_of = 'start_time') from vobiz.account a
    where a.day_offset is null and exists (select from vobiz.day d where d.account_id = a.account_id);
    return null;
  end $$;
comment on function vobiz.apply_billing_zone() is
  'Trigger: cuts vobiz.rollup_day, and the ledger of accounts whose zone is not known, by the zone that holds from now on. A transaction that then does nothing for 30 seconds is ended.';

-- Postgres takes more for a zone than there are: IST is Israel to it, CET has no summer, and +05:30 lies west of Greenwich.
create function vobiz.is_zone(zone text) returns boolean
  language sql stable
  as $$
    select exists (select from pg_catalog.pg_timezone_names z where z.name = zone)
      and zone !~ '^(posix|right)/' and zone not in ('posixrules', 'localtime', 'Factory')
      and (zone in ('UTC', 'GMT') or not exists (select from pg_catalog.pg_timezone_abbrevs a where a.abbrev = zone))
  $$;
comment on function vobiz.is_zone(text) is 'Whether this is the name of a time zone, and nothing that Postgres would take for something else.';

create function vobiz.check_billing_zone() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    if not vobiz.is_zone(new.billing_zone) then
      raise exception '% is no name of a time zone', quote_literal(new.billing_zone)
        using errcode = 'invalid_parameter_value',
              hint = 'Take one of pg_timezone_names, such as Asia/Kolkata, Europe/London or UTC; abbreviations and offsets mean something else than they seem to.';
    end if;
    return new;
  end $$;
comment on function vobiz.check_billing_zone() is 'Trigger: refuses what is no name of a time zone.';

create trigger billing_zone_checked before insert or update of billing_zone on vobiz.setting
  for each row execute function vobiz.check_billing_zone();
create trigger billing_zone_set after insert on vobiz.setting
  for each row execute function vobiz.apply_billing_zone();
create trigger billing_zone_changed after update on vobiz.setting
  for each row when (new.billing_zone is distinct from old.billing_zone) execute function vobiz.apply_billing_zone();

-- A change of rules ----------------------------------------------------------------------------------------------------

create function vobiz.begin_customer_rule() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    -- A psql that somebody forgot would hold all of them for ever.
    perform set_config('idle_in_transaction_session_timeout', '30s', true);
    perform vobiz.lock_customer_rule(true);
    return null;
  end $$;
comment on function vobiz.begin_customer_rule() is 'Trigger: waits for those who write calls, and keeps others waiting until the rules are changed. A transaction that then does nothing for 30 seconds is ended.';

create function vobiz.apply_customer_rule() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    removed  vobiz.customer_rule[] := '{}';
    added    vobiz.customer_rule[] := '{}';
    touching vobiz.customer_rule[];
    clash    record;
    -- What the touching rules name, and from when to when.
    numbers   text[];
    campaigns text[];
    trunks    text[];
    accounts  text[];
    owners    text[];
    first     timestamptz;
    after     timestamptz;
  begin
    if tg_op <> 'INSERT' then
      removed := array(select r from was r);
    end if;
    if tg_op <> 'DELETE' then
      added := array(select r from "is" r);
    end if;

    select a.id as a, b.id as b, a.field, a.value into clash
    from unnest(added) a
    join vobiz.customer_rule b on b.field = a.field and b.value = a.value and b.id <> a.id
                              and b.valid_from < a.valid_to and b.valid_to > a.valid_from
    order by 1, 2 limit 1;
    if found then
      raise exception 'rules % and % overlap: both say whose calls those with % = ''%'' are', clash.a, clash.b, clash.field, clash.value
        using errcode = 'exclusion_violation',
              hint = 'End the one before the other begins: set its valid_to to the valid_from of the other.';
    end if;

    touching := removed || added;
    select coalesce(array_agg(value) filter (where field = 'our_number'), '{}'),
           coalesce(array_agg(value) filter (where field = 'campaign_id'), '{}'),
           coalesce(array_agg(value) filter (where field = 'trunk_id'), '{}'),
           coalesce(array_agg(value) filter (where field = 'account_id'), '{}'), min(valid_from), max(valid_to)
    into numbers, campaigns, trunks, accounts, first, after
    from unnest(touching);
    -- The calls of some accounts and some time are ranges of an index. Numbers, campaigns and trunks are in none: they are looked for
    -- in all accounts.
    owners := accounts;
    if cardinality(numbers || campaigns || trunks) > 0 then
      with recursive owner as (
        select min(c.account_id) as id from vobiz.cdr c
        union all
        select (select min(c.account_id) from vobiz.cdr c where c.account_id > o.id) from owner o where o.id is not null
      )
      select array_agg(id) into owners from owner where id is not null;
    end if;

    insert into vobiz.rollup_delta (account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec,
                                    pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost)
    with before as materialized (
      select * from vobiz.customer_rule where id not in (select id from unnest(added))
      union all
      select * from unnest(removed)
    ), touched as materialized (
      select c.account_id, c.customer, c.day_at, c.trunk_id, c.campaign_id, c.our_number, c.currency, c.call_direction,
             c.billsec, c.duration, c.cost, c.streaming_cost, c.total_cost
      from vobiz.customer_cdr c
      where c.account_id = any (owners) and c.day_at >= first and c.day_at < after
        and (c.our_number = any (numbers) or c.campaign_id = any (campaigns) or c.trunk_id = any (trunks)
             or c.account_id = any (accounts))
    ), moved as (
      select c.*, coalesce(n.customer, k.customer, t.customer, a.customer, 'unassigned') as former
      from touched c
      left join before n
        on n.field = 'our_number' and n.value = c.our_number and n.valid_from <= c.day_at and n.valid_to > c.day_at
      left join before k
        on k.field = 'campaign_id' and k.value = c.campaign_id and k.valid_from <= c.day_at and k.valid_to > c.day_at
      left join before t
        on t.field = 'trunk_id' and t.value = c.trunk_id and t.valid_from <= c.day_at and t.valid_to > c.day_at
      left join before a
        on a.field = 'account_id' and a.value = c.account_id and a.valid_from <= c.day_at and a.valid_to > c.day_at
    ), summed as (
      select m.account_id, m.former, m.customer, vobiz.bucket_of(m.day_at) as bucket, m.currency, m.call_direction,
             coalesce(m.billsec > 0, false) as answered, count(*) as calls, coalesce(sum(m.duration), 0) as duration,
             coalesce(sum(m.billsec), 0) as billsec, coalesce(sum(vobiz.pulse_minutes(m.billsec)), 0) as pulse_minutes,
             coalesce(sum(m.cost), 0) as cost, coalesce(sum(m.streaming_cost), 0) as streaming_cost,
             coalesce(sum(m.total_cost), 0) as total_cost, count(*) filter (where m.total_cost > 0) as with_cost,
             count(*) filter (where m.total_cost is null) as without_cost
      from moved m
      where m.customer <> m.former
      group by 1, 2, 3, 4, 5, 6, 7
    )
    select s.account_id, x.customer, s.bucket, s.currency, s.call_direction, s.answered, x.sign * s.calls, x.sign * s.duration,
           x.sign * s.billsec, x.sign * s.pulse_minutes, x.sign * s.cost, x.sign * s.streaming_cost, x.sign * s.total_cost,
           x.sign * s.with_cost, x.sign * s.without_cost
    from summed s cross join lateral (values (-1, s.former), (1, s.customer)) as x (sign, customer);

    insert into vobiz.audit (action, account_id, detail)
    select 'customer_rule_changed', case when coalesce(i.field, w.field) = 'account_id' then coalesce(i.value, w.value) end,
           json_build_object('was', to_json(w), 'is', to_json(i))
    from unnest(removed) w full join unnest(added) i on i.id = w.id
    order by coalesce(i.id, w.id);
    return null;
  end $$;
comment on function vobiz.apply_customer_rule() is
  'Trigger: refuses rules that overlap, moves the sums of the calls that have another customer now, and notes the change in vobiz.audit.';

create trigger customer_rule_begins before insert or update or delete on vobiz.customer_rule
  for each statement execute function vobiz.begin_customer_rule();
create trigger customer_rule_inserted after insert on vobiz.customer_rule
  referencing new table as "is" for each statement execute function vobiz.apply_customer_rule();
create trigger customer_rule_updated after update on vobiz.customer_rule
  referencing old table as was new table as "is" for each statement execute function vobiz.apply_customer_rule();
create trigger customer_rule_deleted after delete on vobiz.customer_rule
  referencing old table as was for each statement execute function vobiz.apply_customer_rule();
create trigger customer_rule_is_not_truncated before truncate on vobiz.customer_rule
  for each statement execute function vobiz.refuse('the bill would not follow; delete the rules instead');
comment on column vobiz.audit.action is 'cdr_deleted, cdr_changed_by_hand, revision_deleted, dead_letter_closed, reparsed, customer_rule_changed, rollup_repaired; an open list.';

-- The bill -------------------------------------------------------------------------------------------------------------

-- It says that it returns few rows: a plan that expects many is compiled first, which takes longer than the bill of a month.
create function vobiz.billing_calendar()
  returns table (day date, from_at timestamptz, to_at timestamptz, billing_zone text)
  language plpgsql stable parallel safe rows 100
  as $$
  declare
    zone  constant text := (select s.billing_zone from vobiz.setting s);
    first date;
    reach timestamptz := '-infinity';
  begin
    loop
      -- Nine weeks at a time, from call to call: one with an odd year costs a step more, not the centuries between.
      first := vobiz.day_of(least((select min(r.bucket) from vobiz.rollup r where r.bucket >= reach),
                                  (select min(r.bucket) from vobiz.rollup_delta r where r.bucket >= reach)), zone);
      exit when first is null;
      return query
        select first + d, vobiz.day_begins(first + d, zone), vobiz.day_begins(first + d + 1, zone), zone
        from generate_series(0, 62) d;
      reach := vobiz.day_begins(first + 63, zone);
    end loop;
  end $$;
comment on function vobiz.billing_calendar() is
  'The days of the billing zone (vobiz.setting) around which there are calls, each with its half-open range of instants: 23, 24 or 25 hours. No call lies outside of them.';

create view vobiz.rollup_day_part as
  select account_id, customer, day, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
         streaming_cost, total_cost, with_cost, without_cost
  from vobiz.rollup_day
  union all
  select d.account_id, d.customer, q.day, d.currency, d.call_direction, d.answered, d.calls, d.duration, d.billsec, d.pulse_minutes, d.cost,
         d.streaming_cost, d.total_cost, d.with_cost, d.without_cost
  -- The fence: the day once for each quarter, not once for each row.
  from (select b.bucket, vobiz.day_of(b.bucket, (select s.billing_zone from vobiz.setting s)) as day
        from (select distinct bucket from vobiz.rollup_delta) b
        offset 0) q
  join vobiz.rollup_delta d on d.bucket = q.bucket;
comment on view vobiz.rollup_day_part is 'vobiz.rollup_part by day of the billing zone: rows to be added up.';
do $$
declare
  described record;
begin
  for described in
    select attname, col_description(attrelid, attnum) as words from pg_catalog.pg_attribute
    where attrelid = 'vobiz.rollup_day'::regclass and attnum > 0
  loop
    execute format('comment on column vobiz.rollup_day_part.%I is %L', described.attname, described.words);
  end loop;
end $$;

create view vobiz.billing_day as
  select r.day, date_trunc('month', r.day::timestamp)::date as month, (select s.billing_zone from vobiz.setting s) as billing_zone,
         r.account_id, r.customer, r.currency, r.call_direction,
         sum(r.calls)::bigint as calls,
         coalesce(sum(r.calls) filter (where r.answered), 0)::bigint as answered,
         coalesce(sum(r.with_cost) filter (where not r.answered), 0)::bigint as unanswered_with_cost,
         sum(r.duration)::bigint as duration, sum(r.billsec)::bigint as billsec,
         round(sum(r.billsec) / 60, 6) as minutes, sum(r.pulse_minutes)::bigint as pulse_minutes,
         sum(r.cost) as cost, sum(r.streaming_cost) as streaming_cost, sum(r.total_cost) as total_cost,
         sum(r.without_cost)::bigint as without_cost
  from vobiz.rollup_day_part r
  group by r.day, r.account_id, r.customer, r.currency, r.call_direction
  having sum(r.calls) <> 0;
comment on view vobiz.billing_day is 'The bill by day of the billing zone, account, customer, currency and direction: legs, so a bridged conversation counts each of them. Amounts are Vobiz''s own, before tax, to the last digit, and equal the sums over vobiz.cdr at every instant. A call belongs to the day in which its day_at lies. Filter by day: it is fast.';
comment on column vobiz.billing_day.day is 'Day in the billing zone, from its midnight up to the next.';
comment on column vobiz.billing_day.month is 'First day of the month of day.';
comment on column vobiz.billing_day.billing_zone is 'The zone in which days are cut (vobiz.setting).';
comment on column vobiz.billing_day.account_id is 'Account that owns the calls.';
comment on column vobiz.billing_day.customer is 'Customer by vobiz.customer_rule at the time of each call; ''unassigned'' where no rule fits.';
comment on column vobiz.billing_day.currency is 'Currency of the costs; NULL where the calls name none. Never add different ones.';
comment on column vobiz.billing_day.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
comment on column vobiz.billing_day.calls is 'Legs.';
comment on column vobiz.billing_day.answered is 'Of these, legs with billsec > 0; NULL counts as not answered.';
comment on column vobiz.billing_day.unanswered_with_cost is 'Legs that were not answered and whose total_cost is above 0.';
comment on column vobiz.billing_day.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.billing_day.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.billing_day.minutes is 'billsec by 60, the sum rounded to 6 decimals, half up; add up billsec, not this.';
comment on column vobiz.billing_day.pulse_minutes is 'Minutes talked, each leg rounded up to whole ones (60 s pulse).';
comment on column vobiz.billing_day.cost is 'Sum of cost in currency, before tax; NULL counts as 0.';
comment on column vobiz.billing_day.streaming_cost is 'Sum of streaming_cost in currency, before tax; NULL counts as 0.';
comment on column vobiz.billing_day.total_cost is 'Sum of total_cost in currency, before tax, as Vobiz states it per leg; NULL counts as 0.';
comment on column vobiz.billing_day.without_cost is 'Legs whose total_cost is NULL: the sum says nothing of them.';

-- Not over vobiz.billing_day: its groups, which are many, would be made first.
create view vobiz.billing_month as
  select date_trunc('month', r.day::timestamp)::date as month, (select s.billing_zone from vobiz.setting s) as billing_zone, r.account_id,
         r.customer, r.currency, r.call_direction,
         sum(r.calls)::bigint as calls,
         coalesce(sum(r.calls) filter (where r.answered), 0)::bigint as answered,
         coalesce(sum(r.with_cost) filter (where not r.answered), 0)::bigint as unanswered_with_cost,
         sum(r.duration)::bigint as duration, sum(r.billsec)::bigint as billsec,
         round(sum(r.billsec) / 60, 6) as minutes, sum(r.pulse_minutes)::bigint as pulse_minutes,
         sum(r.cost) as cost, sum(r.streaming_cost) as streaming_cost, sum(r.total_cost) as total_cost,
         sum(r.without_cost)::bigint as without_cost
  from vobiz.rollup_day_part r
  group by 1, r.account_id, r.customer, r.currency, r.call_direction
  having sum(r.calls) <> 0;
comment on view vobiz.billing_month is 'vobiz.billing_day by calendar month of the billing zone (shown as billing_zone): legs, amounts to the last digit. Filter by month: it is fast.';
comment on column vobiz.billing_month.month is 'First day of the month.';
do $$
declare
  described record;
begin
  for described in
    select attname, col_description(attrelid, attnum) as words from pg_catalog.pg_attribute
    where attrelid = 'vobiz.billing_day'::regclass and attnum > 2
  loop
    execute format('comment on column vobiz.billing_month.%I is %L', described.attname, described.words);
  end loop;
end $$;
