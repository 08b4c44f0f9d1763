-- Not over vobiz.billing_day: its groups, which are many, would be made first.
create or replace view vobiz.billing_month as
  select date_trunc('month', r.day::timestamp)::date as month, (select s.billing_zone from vobiz.setting s) as billing_zone, r.account_id,
         r.customer, r.currency, r.call_direction,
         /* shown as in views/billing_day.sql */
         sum(r.calls)::bigint as calls,
         coalesce(sum(r.calls) filter (where r.answered), 0)::bigint as answered,
         coalesce(sum(r.with_cost) filter (where not r.answered), 0)::bigint as unanswered_with_cost,
         sum(r.duration)::bigint as duration, sum(r.billsec)::bigint as billsec,
         round(sum(r.billsec) / 60, 6) as minutes, sum(r.pulse_minutes)::bigint as pulse_minutes,
         sum(r.cost) as cost, sum(r.streaming_cost) as streaming_cost, sum(r.total_cost) as total_cost,
         sum(r.without_cost)::bigint as without_cost, sum(r.credits) as credits, sum(r.unclear)::bigint as unclear
         /* end */
  from vobiz.rollup_day_part r
  group by 1, r.account_id, r.customer, r.currency, r.call_direction
  having sum(r.calls) <> 0;

comment on view   vobiz.billing_month is 'vobiz.billing_day by calendar month of the billing zone (shown as billing_zone): legs, amounts to the last digit. Filter by month: it is fast.';
comment on column vobiz.billing_month.month is 'First day of the month.';
comment on column vobiz.billing_month.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.billing_month.account_id is 'Account that owns the calls.';
comment on column vobiz.billing_month.customer is 'Customer by vobiz.customer_rule at the time of each call; ''unassigned'' where no rule fits.';
comment on column vobiz.billing_month.currency is 'Currency of the costs; NULL where the calls name none. Never add different ones.';
comment on column vobiz.billing_month.call_direction is 'inbound, outbound, …; NULL where the calls say none.';
-- shown: comments as in views/billing_day.sql
comment on column vobiz.billing_month.calls is 'Legs.';
comment on column vobiz.billing_month.answered is 'Of these, legs with billsec > 0; where billsec is NULL nobody knows (unclear).';
comment on column vobiz.billing_month.unanswered_with_cost is 'Legs with billsec 0 and a total_cost above 0.';
comment on column vobiz.billing_month.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.billing_month.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.billing_month.minutes is 'billsec by 60, the sum rounded to 6 decimals, half up; add up billsec, not this.';
comment on column vobiz.billing_month.pulse_minutes is 'Minutes talked, each leg rounded up to whole ones (60 s pulse).';
comment on column vobiz.billing_month.cost is 'Sum of cost in currency, before tax; NULL counts as 0.';
comment on column vobiz.billing_month.streaming_cost is 'Sum of streaming_cost in currency, before tax; NULL counts as 0.';
comment on column vobiz.billing_month.total_cost is 'Sum of total_cost in currency, before tax, as Vobiz states it per leg; NULL counts as 0.';
comment on column vobiz.billing_month.without_cost is 'Legs whose total_cost is NULL: the sum says nothing of them.';
comment on column vobiz.billing_month.credits is 'Sum of total_cost where it is below 0: credits. total_cost contains them.';
comment on column vobiz.billing_month.unclear is 'Legs of which a field of the bill could not be read: seconds, an amount or currency that came, or neither start nor end. vobiz.unclear shows them.';
-- end
