-- Sums that are kept beside the calls, and cannot drift from them.

create table vobiz.rollup (
  account_id     text        not null,
  customer       text        not null,
  bucket         timestamptz not null,
  currency       text,
  call_direction text,
  answered       boolean,
  calls          bigint      not null,
  duration       bigint      not null,
  billsec        bigint      not null,
  pulse_minutes  bigint      not null,
  cost           numeric     not null,
  streaming_cost numeric     not null,
  total_cost     numeric     not null,
  with_cost      bigint      not null,
  without_cost   bigint      not null,
  credits        numeric     not null default 0,
  unclear        bigint      not null default 0,
  -- What has no currency or direction, or no seconds, is one key as well.
  constraint rollup_key unique nulls not distinct (bucket, account_id, customer, currency, call_direction, answered)
  -- A few rows change with every folding.
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

comment on table  vobiz.rollup is 'Sums over vobiz.cdr by quarter of an hour, which is what the days of any zone are made of. Only together with vobiz.rollup_delta do they equal it: read vobiz.billing_day, or vobiz.rollup_part. `vobiz-cdr verify` proves it.';
comment on column vobiz.rollup.account_id is 'Account that owns the calls.';
comment on column vobiz.rollup.customer is 'Customer they belong to, or ''unassigned''.';
comment on column vobiz.rollup.bucket is 'Start of the quarter of an hour in which their day_at lies.';
comment on column vobiz.rollup.currency is 'Currency of the costs; NULL where the calls name none.';
comment on column vobiz.rollup.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
comment on column vobiz.rollup.answered is 'Whether billsec > 0; NULL where billsec is: then nobody knows.';
comment on column vobiz.rollup.calls is 'Legs.';
comment on column vobiz.rollup.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.rollup.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.rollup.pulse_minutes is 'Minutes talked, each call rounded up to whole ones.';
comment on column vobiz.rollup.cost is 'Sum of cost; NULL counts as 0.';
comment on column vobiz.rollup.streaming_cost is 'Sum of streaming_cost; NULL counts as 0.';
comment on column vobiz.rollup.total_cost is 'Sum of total_cost; NULL counts as 0.';
comment on column vobiz.rollup.with_cost is 'Calls whose total_cost is above 0.';
comment on column vobiz.rollup.without_cost is 'Calls whose total_cost is NULL.';
comment on column vobiz.rollup.credits is 'Sum of total_cost where it is below 0; total_cost contains it.';
comment on column vobiz.rollup.unclear is 'Calls of which a field of the bill could not be read (vobiz.unclear_fields).';

create table vobiz.rollup_delta (
  like vobiz.rollup including defaults,
  noted_at       timestamptz not null default vobiz.now(),
  constraint bucket_is_a_time check (isfinite(bucket)),
  -- Infinity and NaN: they would stay in the sums for good.
  constraint amounts_are_numbers check (abs(cost) < 'infinity' and abs(streaming_cost) < 'infinity' and abs(total_cost) < 'infinity')
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);
create index rollup_delta_bucket on vobiz.rollup_delta (bucket);

comment on table  vobiz.rollup_delta is 'What has changed since it was last folded into vobiz.rollup and vobiz.rollup_day; written by triggers in the transaction that changes vobiz.cdr or vobiz.customer_rule.';
comment on column vobiz.rollup_delta.noted_at is 'When it was noted. It is folded within seconds.';
comment on column vobiz.rollup_delta.account_id is 'Account that owns the calls.';
comment on column vobiz.rollup_delta.customer is 'Customer they belong to, or ''unassigned''.';
comment on column vobiz.rollup_delta.bucket is 'Start of the quarter of an hour in which their day_at lies.';
comment on column vobiz.rollup_delta.currency is 'Currency of the costs; NULL where the calls name none.';
comment on column vobiz.rollup_delta.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
comment on column vobiz.rollup_delta.answered is 'Whether billsec > 0; NULL where billsec is: then nobody knows.';
comment on column vobiz.rollup_delta.calls is 'Legs more, or less.';
comment on column vobiz.rollup_delta.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.rollup_delta.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.rollup_delta.pulse_minutes is 'Minutes talked, each call rounded up to whole ones.';
comment on column vobiz.rollup_delta.cost is 'Sum of cost; NULL counts as 0.';
comment on column vobiz.rollup_delta.streaming_cost is 'Sum of streaming_cost; NULL counts as 0.';
comment on column vobiz.rollup_delta.total_cost is 'Sum of total_cost; NULL counts as 0.';
comment on column vobiz.rollup_delta.with_cost is 'Calls whose total_cost is above 0.';
comment on column vobiz.rollup_delta.without_cost is 'Calls whose total_cost is NULL.';
comment on column vobiz.rollup_delta.credits is 'Sum of total_cost where it is below 0; total_cost contains it.';
comment on column vobiz.rollup_delta.unclear is 'Calls of which a field of the bill could not be read (vobiz.unclear_fields).';

-- A reseller has hundreds of customers, and a month 2,976 quarters.
create table vobiz.rollup_day (
  account_id     text    not null,
  customer       text    not null,
  day            date    not null,
  currency       text,
  call_direction text,
  answered       boolean,
  calls          bigint  not null,
  duration       bigint  not null,
  billsec        bigint  not null,
  pulse_minutes  bigint  not null,
  cost           numeric not null,
  streaming_cost numeric not null,
  total_cost     numeric not null,
  with_cost      bigint  not null,
  without_cost   bigint  not null,
  credits        numeric not null default 0,
  unclear        bigint  not null default 0,
  constraint rollup_day_key unique nulls not distinct (day, account_id, customer, currency, call_direction, answered)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
-- As vobiz.billing_month says it.
create index rollup_day_month on vobiz.rollup_day ((date_trunc('month', day::timestamp)::date));

comment on table  vobiz.rollup_day is 'vobiz.rollup by day of the billing zone: folded together with it, and recomputed by a change of the zone, in the same transaction. Read vobiz.billing_day, which adds what is not folded. `vobiz-cdr verify` proves it.';
comment on column vobiz.rollup_day.account_id is 'Account that owns the calls.';
comment on column vobiz.rollup_day.customer is 'Customer they belong to, or ''unassigned''.';
comment on column vobiz.rollup_day.day is 'Day in the billing zone (vobiz.setting) in which their quarter of an hour begins.';
comment on column vobiz.rollup_day.currency is 'Currency of the costs; NULL where the calls name none.';
comment on column vobiz.rollup_day.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
comment on column vobiz.rollup_day.answered is 'Whether billsec > 0; NULL where billsec is: then nobody knows.';
comment on column vobiz.rollup_day.calls is 'Legs.';
comment on column vobiz.rollup_day.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.rollup_day.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.rollup_day.pulse_minutes is 'Minutes talked, each call rounded up to whole ones.';
comment on column vobiz.rollup_day.cost is 'Sum of cost; NULL counts as 0.';
comment on column vobiz.rollup_day.streaming_cost is 'Sum of streaming_cost; NULL counts as 0.';
comment on column vobiz.rollup_day.total_cost is 'Sum of total_cost; NULL counts as 0.';
comment on column vobiz.rollup_day.with_cost is 'Calls whose total_cost is above 0.';
comment on column vobiz.rollup_day.without_cost is 'Calls whose total_cost is NULL.';
comment on column vobiz.rollup_day.credits is 'Sum of total_cost where it is below 0; total_cost contains it.';
comment on column vobiz.rollup_day.unclear is 'Calls of which a field of the bill could not be read (vobiz.unclear_fields).';

-- A publication over the schema must not stop the folding: what has no key is told by its whole row.
alter table vobiz.rollup replica identity full;
alter table vobiz.rollup_delta replica identity full;
alter table vobiz.rollup_day replica identity full;

create table vobiz.wrong_sum (
  account_id text        not null,
  day        date        not null,
  sums       bigint      not null check (sums > 0),
  found_at   timestamptz not null default vobiz.now(),
  primary key (account_id, day)
);

comment on table  vobiz.wrong_sum is 'Days whose sums did not equal their calls when they were last proved: the bill says something wrong of them. vobiz.safe_to_bill goes no further. `vobiz-cdr verify` shows them, `--repair` makes them right; a later proof by the service, or `--repair`, that finds them right removes the row.';
comment on column vobiz.wrong_sum.account_id is 'Account that owns the calls.';
comment on column vobiz.wrong_sum.day is 'Day in the billing zone.';
comment on column vobiz.wrong_sum.sums is 'How many of its sums, by quarter of an hour and by day.';
comment on column vobiz.wrong_sum.found_at is 'When that was found first.';
