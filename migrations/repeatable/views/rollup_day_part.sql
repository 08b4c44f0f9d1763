create or replace view vobiz.rollup_day_part as
  select account_id, customer, day, currency, call_direction, answered,
         /* each sum: {} */
         calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
         /* end */
  from vobiz.rollup_day
  union all
  select d.account_id, d.customer, q.day, d.currency, d.call_direction, d.answered,
         /* each sum: d.{} */
         d.calls, d.duration, d.billsec, d.pulse_minutes, d.cost, d.streaming_cost, d.total_cost, d.with_cost, d.without_cost,
         d.credits, d.unclear
         /* end */
  -- The fence: the day once for each quarter, not once for each row.
  from (select b.bucket, vobiz.billing_day_of(b.bucket, (select s.billing_zone from vobiz.setting s)) as day
        from (select distinct bucket from vobiz.rollup_delta) b
        offset 0) q
  join vobiz.rollup_delta d on d.bucket = q.bucket;

comment on view   vobiz.rollup_day_part is 'vobiz.rollup_part by day of the billing zone: rows to be added up.';
comment on column vobiz.rollup_day_part.account_id is 'Account that owns the calls.';
comment on column vobiz.rollup_day_part.customer is 'Customer they belong to, or ''unassigned''.';
comment on column vobiz.rollup_day_part.day is 'Day in the billing zone (vobiz.setting) in which their quarter of an hour begins.';
comment on column vobiz.rollup_day_part.currency is 'Currency of the costs; NULL where the calls name none.';
comment on column vobiz.rollup_day_part.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
comment on column vobiz.rollup_day_part.answered is 'Whether billsec > 0; NULL where billsec is: then nobody knows.';
-- each sum: comment on column vobiz.rollup_day_part.{} is '{says}';
comment on column vobiz.rollup_day_part.calls is 'Legs.';
comment on column vobiz.rollup_day_part.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.rollup_day_part.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.rollup_day_part.pulse_minutes is 'Minutes talked, each call rounded up to whole ones.';
comment on column vobiz.rollup_day_part.cost is 'Sum of cost; NULL counts as 0.';
comment on column vobiz.rollup_day_part.streaming_cost is 'Sum of streaming_cost; NULL counts as 0.';
comment on column vobiz.rollup_day_part.total_cost is 'Sum of total_cost; NULL counts as 0.';
comment on column vobiz.rollup_day_part.with_cost is 'Calls whose total_cost is above 0.';
comment on column vobiz.rollup_day_part.without_cost is 'Calls whose total_cost is NULL.';
comment on column vobiz.rollup_day_part.credits is 'Sum of total_cost where it is below 0; total_cost contains it.';
comment on column vobiz.rollup_day_part.unclear is 'Calls of which a field of the bill could not be read (vobiz.unclear_fields).';
-- end
