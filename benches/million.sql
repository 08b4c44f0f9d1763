-- Fills a scratch database with calls, and shows what the bill of a month costs: plan and time.
--
--   psql -d SCRATCH -v calls=10000000 -f benches/million.sql        (all migrations applied; 5.5 GB for 10 million)
--   psql -d SCRATCH -v calls=1000000 -v customers=300 -f benches/million.sql
--
-- The calls of March 2026 in nine working hours a day, four accounts, twenty customers by trunk (or as many as are asked for), both
-- directions, two of three answered. They come in groups of 50,000 through the triggers, as any other call; only the ledger of days is
-- left out.
\set ON_ERROR_STOP 1
\if :{?customers}
\else
  \set customers 20
\endif
\pset pager off
\timing on

insert into vobiz.customer_rule (field, value, customer)
select 'trunk_id', 'trunk-' || n, 'customer ' || n from generate_series(1, :customers - 1) n on conflict do nothing;

-- A call of a past day looks for its day in the ledger; there is none here.
alter table vobiz.cdr disable trigger reopen_day_insert;
select set_config('million.calls', :'calls', false), set_config('million.customers', :'customers', false);
do $$
declare
  calls     constant bigint := current_setting('million.calls')::bigint;
  customers constant bigint := current_setting('million.customers')::bigint;
  done      bigint := 0;
begin
  while done < calls loop
    insert into vobiz.cdr (
      call_id, vobiz_id, account_id, call_direction, caller_id_number, destination_number, start_time, answer_time, end_time, duration,
      billsec, ring_time, cost, streaming_cost, total_cost, currency, hangup_cause, hangup_cause_code, hangup_cause_name, sip_call_id,
      codec, mos, jitter, packet_loss, context, region, trunk_id, created_at, updated_at, caller_e164, destination_e164, listed_by,
      origin, attempts, fetched_at, revision, content_hash)
    select md5(n::text)::uuid::text, n, 'MA_BENCH' || n % customers * 4 / customers, d.direction, '+91804567' || 1000 + n % 900,
           '+919' || 100000000 + n * 7919 % 899999999, s.at, s.at + interval '5 s', s.at + interval '90 s', 5 + b.sec, b.sec, 5, c.cost,
           0, c.cost, 'INR', 'NORMAL_CLEARING', 4000, 'Normal Hangup', md5('s' || n)::uuid::text, 'PCMU', 4.3, 0.2, 0, 'sip-trunking',
           'ap-south-1', 'trunk-' || n % customers, s.at, s.at, '+91804567' || 1000 + n % 900, '+919' || 100000000 + n * 7919 % 899999999,
           'MA_BENCH0', 'callback', 1, s.at, 1, sha256(n::text::bytea)
    from generate_series(done + 1, least(done + 50000, calls)) n
    cross join lateral (select timestamptz '2026-03-01 04:00Z' + n * 31 / calls * interval '1 day'
                               + n * 7919 % 32400 * interval '1 s' as at) s
    cross join lateral (select (array['outbound', 'inbound'])[1 + (n / customers % 5 = 0)::int] as direction) d
    cross join lateral (select case when n / customers % 3 = 0 then 0 else (n * 31 % 300 + 1)::int end as sec) b
    cross join lateral (select (b.sec + 59) / 60 * 0.45 + (b.sec = 0)::int * 0.02 as cost) c;
    done := done + 50000;
    commit;
  end loop;
end $$;

-- As the service folds, which does it every five seconds.
with taken as (delete from vobiz.rollup_delta returning *)
insert into vobiz.rollup as r
select account_id, customer, bucket, currency, call_direction, answered,
       /* each sum: sum({}) */
       sum(calls), sum(duration), sum(billsec), sum(pulse_minutes), sum(cost), sum(streaming_cost), sum(total_cost),
       sum(with_cost), sum(without_cost), sum(credits), sum(unclear)
       /* end */
from taken group by 1, 2, 3, 4, 5, 6
on conflict on constraint rollup_key do update set
  /* each sum: {} = r.{} + excluded.{} */
  calls = r.calls + excluded.calls, duration = r.duration + excluded.duration, billsec = r.billsec + excluded.billsec,
  pulse_minutes = r.pulse_minutes + excluded.pulse_minutes, cost = r.cost + excluded.cost,
  streaming_cost = r.streaming_cost + excluded.streaming_cost, total_cost = r.total_cost + excluded.total_cost,
  with_cost = r.with_cost + excluded.with_cost, without_cost = r.without_cost + excluded.without_cost,
  credits = r.credits + excluded.credits, unclear = r.unclear + excluded.unclear
  /* end */;
\echo the days, as a change of the zone cuts them
select vobiz.recompute_rollup_day();
vacuum analyze vobiz.rollup;
vacuum analyze vobiz.rollup_day;
vacuum analyze vobiz.rollup_delta;
vacuum analyze vobiz.cdr;
select (select count(*) from vobiz.cdr) as calls, (select count(*) from vobiz.rollup) as sums,
       (select count(*) from vobiz.rollup_day) as day_sums, pg_size_pretty(pg_total_relation_size('vobiz.rollup_day')) as rollup_day,
       pg_size_pretty(pg_total_relation_size('vobiz.cdr')) as cdr, pg_size_pretty(pg_total_relation_size('vobiz.rollup')) as rollup;

explain (analyze, buffers, costs off) select * from vobiz.billing_month where month = '2026-03-01';
-- Five times each, the month, its days, one day; and the same month without the rollup.
\o /dev/null
select * from vobiz.billing_month where month = '2026-03-01' \g
select * from vobiz.billing_month where month = '2026-03-01' \g
select * from vobiz.billing_month where month = '2026-03-01' \g
select * from vobiz.billing_month where month = '2026-03-01' \g
select * from vobiz.billing_month where month = '2026-03-01' \g
\echo the days of the month
select * from vobiz.billing_day where day >= '2026-03-01' and day < '2026-04-01' \g
select * from vobiz.billing_day where day >= '2026-03-01' and day < '2026-04-01' \g
select * from vobiz.billing_day where day >= '2026-03-01' and day < '2026-04-01' \g
select * from vobiz.billing_day where day >= '2026-03-01' and day < '2026-04-01' \g
select * from vobiz.billing_day where day >= '2026-03-01' and day < '2026-04-01' \g
\echo one day
select * from vobiz.billing_day where day = '2026-03-16' \g
select * from vobiz.billing_day where day = '2026-03-16' \g
select * from vobiz.billing_day where day = '2026-03-16' \g
\echo without the rollup
select account_id, customer, currency, call_direction, count(*), sum(billsec), sum(total_cost) from vobiz.customer_cdr
where day_at >= '2026-02-28 18:30Z' and day_at < '2026-03-31 18:30Z' group by 1, 2, 3, 4 \g
\o
\echo a rule for the calls of one trunk, and its end
insert into vobiz.customer_rule (field, value, customer) values ('trunk_id', 'trunk-0', 'customer 0');
delete from vobiz.customer_rule where customer = 'customer 0';
\echo a rule for all calls of an account that nothing else decides
insert into vobiz.customer_rule (field, value, customer) values ('account_id', 'MA_BENCH0', 'the rest');
delete from vobiz.customer_rule where customer = 'the rest';
-- The proof, key by key: no row.
select * from vobiz.rollup_base
except
select account_id, customer, bucket, currency, call_direction, answered,
       /* each sum: sum({}) */
       sum(calls), sum(duration), sum(billsec), sum(pulse_minutes), sum(cost), sum(streaming_cost), sum(total_cost),
       sum(with_cost), sum(without_cost), sum(credits), sum(unclear)
       /* end */
from vobiz.rollup_part group by 1, 2, 3, 4, 5, 6;
