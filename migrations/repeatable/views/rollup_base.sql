create or replace view vobiz.rollup_base as
  select account_id, customer, vobiz.bucket_of(day_at) as bucket, currency, call_direction,
         coalesce(billsec > 0, false) as answered, count(*) as calls, coalesce(sum(duration), 0) as duration,
         coalesce(sum(billsec), 0) as billsec, coalesce(sum(vobiz.pulse_minutes(billsec)), 0)::bigint as pulse_minutes,
         coalesce(sum(cost), 0) as cost, coalesce(sum(streaming_cost), 0) as streaming_cost,
         coalesce(sum(total_cost), 0) as total_cost, count(*) filter (where total_cost > 0) as with_cost,
         count(*) filter (where total_cost is null) as without_cost
  from vobiz.customer_cdr
  group by 1, 2, 3, 4, 5, 6;

comment on view   vobiz.rollup_base is 'What vobiz.rollup_part must add up to: the sums over vobiz.cdr, taken now. It reads all calls.';
comment on column vobiz.rollup_base.account_id is 'Account that owns the calls.';
comment on column vobiz.rollup_base.customer is 'Customer they belong to, or ''unassigned''.';
comment on column vobiz.rollup_base.bucket is 'Start of the quarter of an hour in which their day_at lies.';
comment on column vobiz.rollup_base.currency is 'Currency of the costs; NULL where the calls name none.';
comment on column vobiz.rollup_base.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
comment on column vobiz.rollup_base.answered is 'Whether billsec > 0; a call whose billsec is NULL counts as not answered.';
comment on column vobiz.rollup_base.calls is 'Legs.';
comment on column vobiz.rollup_base.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.rollup_base.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.rollup_base.pulse_minutes is 'Minutes talked, each call rounded up to whole ones.';
comment on column vobiz.rollup_base.cost is 'Sum of cost; NULL counts as 0.';
comment on column vobiz.rollup_base.streaming_cost is 'Sum of streaming_cost; NULL counts as 0.';
comment on column vobiz.rollup_base.total_cost is 'Sum of total_cost; NULL counts as 0.';
comment on column vobiz.rollup_base.with_cost is 'Calls whose total_cost is above 0.';
comment on column vobiz.rollup_base.without_cost is 'Calls whose total_cost is NULL.';
