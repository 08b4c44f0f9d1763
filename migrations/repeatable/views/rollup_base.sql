create or replace view vobiz.rollup_base as
  select c.account_id, c.customer, vobiz.bucket_of(c.day_at) as bucket, c.currency, c.call_direction,
         c.billsec > 0 as answered,
         /* each sum: sum(s.{})::{type} as {} */
         sum(s.calls)::bigint as calls, sum(s.duration)::bigint as duration, sum(s.billsec)::bigint as billsec,
         sum(s.pulse_minutes)::bigint as pulse_minutes, sum(s.cost)::numeric as cost,
         sum(s.streaming_cost)::numeric as streaming_cost, sum(s.total_cost)::numeric as total_cost,
         sum(s.with_cost)::bigint as with_cost, sum(s.without_cost)::bigint as without_cost, sum(s.credits)::numeric as credits,
         sum(s.unclear)::bigint as unclear
         /* end */
  from vobiz.customer_cdr c
  cross join lateral vobiz.sums_of(/* each input: c.{} */ c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency, c.start_time, c.end_time, c.notes /* end */) s
  group by 1, 2, 3, 4, 5, 6;

comment on view   vobiz.rollup_base is 'What vobiz.rollup_part must add up to: the sums over vobiz.cdr, taken now. It reads all calls.';
comment on column vobiz.rollup_base.account_id is 'Account that owns the calls.';
comment on column vobiz.rollup_base.customer is 'Customer they belong to, or ''unassigned''.';
comment on column vobiz.rollup_base.bucket is 'Start of the quarter of an hour in which their day_at lies.';
comment on column vobiz.rollup_base.currency is 'Currency of the costs; NULL where the calls name none.';
comment on column vobiz.rollup_base.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
comment on column vobiz.rollup_base.answered is 'Whether billsec > 0; NULL where billsec is: then nobody knows.';
-- each sum: comment on column vobiz.rollup_base.{} is '{says}';
comment on column vobiz.rollup_base.calls is 'Legs.';
comment on column vobiz.rollup_base.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.rollup_base.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.rollup_base.pulse_minutes is 'Minutes talked, each call rounded up to whole ones.';
comment on column vobiz.rollup_base.cost is 'Sum of cost; NULL counts as 0.';
comment on column vobiz.rollup_base.streaming_cost is 'Sum of streaming_cost; NULL counts as 0.';
comment on column vobiz.rollup_base.total_cost is 'Sum of total_cost; NULL counts as 0.';
comment on column vobiz.rollup_base.with_cost is 'Calls whose total_cost is above 0.';
comment on column vobiz.rollup_base.without_cost is 'Calls whose total_cost is NULL.';
comment on column vobiz.rollup_base.credits is 'Sum of total_cost where it is below 0; total_cost contains it.';
comment on column vobiz.rollup_base.unclear is 'Calls of which a field of the bill could not be read (vobiz.unclear_fields).';
-- end
