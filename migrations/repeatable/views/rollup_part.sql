create or replace view vobiz.rollup_part as
  select account_id, customer, bucket, currency, call_direction, answered,
         /* each sum: {} */
         calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
         /* end */
  from vobiz.rollup
  union all
  select account_id, customer, bucket, currency, call_direction, answered,
         /* each sum: {} */
         calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
         /* end */
  from vobiz.rollup_delta;

comment on view   vobiz.rollup_part is 'Rows to be added up: what is folded and what is not. At every instant their sums equal those over vobiz.cdr; a key whose calls add up to 0 is not there.';
comment on column vobiz.rollup_part.account_id is 'Account that owns the calls.';
comment on column vobiz.rollup_part.customer is 'Customer they belong to, or ''unassigned''.';
comment on column vobiz.rollup_part.bucket is 'Start of the quarter of an hour in which their day_at lies.';
comment on column vobiz.rollup_part.currency is 'Currency of the costs; NULL where the calls name none.';
comment on column vobiz.rollup_part.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
comment on column vobiz.rollup_part.answered is 'Whether billsec > 0; NULL where billsec is: then nobody knows.';
-- each sum: comment on column vobiz.rollup_part.{} is '{says}';
comment on column vobiz.rollup_part.calls is 'Legs.';
comment on column vobiz.rollup_part.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.rollup_part.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.rollup_part.pulse_minutes is 'Minutes talked, each call rounded up to whole ones.';
comment on column vobiz.rollup_part.cost is 'Sum of cost; NULL counts as 0.';
comment on column vobiz.rollup_part.streaming_cost is 'Sum of streaming_cost; NULL counts as 0.';
comment on column vobiz.rollup_part.total_cost is 'Sum of total_cost; NULL counts as 0.';
comment on column vobiz.rollup_part.with_cost is 'Calls whose total_cost is above 0.';
comment on column vobiz.rollup_part.without_cost is 'Calls whose total_cost is NULL.';
comment on column vobiz.rollup_part.credits is 'Sum of total_cost where it is below 0; total_cost contains it.';
comment on column vobiz.rollup_part.unclear is 'Calls of which a field of the bill could not be read (vobiz.unclear_fields).';
-- end
