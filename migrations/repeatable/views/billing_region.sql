create or replace view vobiz.billing_region as
  select k.day, k.month, k.billing_zone, k.account_id, x.customer, x.region, x.origination_region, x.currency, x.call_direction,
         x.calls, x.answered, x.unanswered_with_cost, x.duration, x.billsec, x.minutes, x.pulse_minutes, x.cost,
         x.streaming_cost, x.total_cost, x.without_cost, x.credits, x.unclear
  from vobiz.billing_account_day k
  -- A day is read in a subquery of its own, so that each day named is one range of the index (account_id, day_at).
  cross join lateral (
    select l.customer, l.region, l.origination_region, l.currency, l.call_direction,
           count(*) as calls,
           count(*) filter (where l.answered) as answered,
           count(*) filter (where not l.answered and l.total_cost > 0) as unanswered_with_cost,
           coalesce(sum(l.duration), 0)::bigint as duration,
           coalesce(sum(l.billsec), 0)::bigint as billsec,
           round(coalesce(sum(l.billsec), 0) / 60.0, 6) as minutes,
           coalesce(sum(l.pulse_minutes), 0)::bigint as pulse_minutes,
           coalesce(sum(l.cost), 0) as cost,
           coalesce(sum(l.streaming_cost), 0) as streaming_cost,
           coalesce(sum(l.total_cost), 0) as total_cost,
           count(*) filter (where l.total_cost is null) as without_cost,
           coalesce(sum(l.total_cost) filter (where l.total_cost < 0), 0) as credits,
           count(*) filter (where l.unclear_fields <> '{}') as unclear
    from vobiz.leg l
    where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at
    group by l.customer, l.region, l.origination_region, l.currency, l.call_direction) x;

comment on view   vobiz.billing_region is 'The billing totals of each day by region. Counts legs. Days are those of the billing zone; a condition on day, month or account_id reads only these days.';
comment on column vobiz.billing_region.day is 'Day in the billing zone, from its midnight up to the next: the calls whose day_at lies in it.';
comment on column vobiz.billing_region.month is 'First day of the month of day.';
comment on column vobiz.billing_region.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.billing_region.account_id is 'Account that owns the calls.';
comment on column vobiz.billing_region.customer is 'Customer by vobiz.customer_rule at the time of each call; ''unassigned'' where no rule fits.';
comment on column vobiz.billing_region.region is 'Region such as ap-south-1.';
comment on column vobiz.billing_region.origination_region is 'Place such as mumbai.';
comment on column vobiz.billing_region.currency is 'Currency of the amounts; never add different ones. NULL: the CDR names none.';
comment on column vobiz.billing_region.call_direction is 'inbound or outbound.';
comment on column vobiz.billing_region.calls is 'Legs.';
comment on column vobiz.billing_region.answered is 'Legs with billsec over 0; where billsec is NULL nobody knows (unclear).';
comment on column vobiz.billing_region.unanswered_with_cost is 'Legs with billsec 0 and a total_cost over 0.';
comment on column vobiz.billing_region.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.billing_region.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.billing_region.minutes is 'billsec by 60, the sum rounded to 6 decimals, half up; add up billsec, not this.';
comment on column vobiz.billing_region.pulse_minutes is 'Minutes, each leg rounded up to 60 s before adding.';
comment on column vobiz.billing_region.cost is 'Sum of cost, before tax, unrounded; NULL counts as 0.';
comment on column vobiz.billing_region.streaming_cost is 'Sum of streaming_cost, before tax, unrounded; NULL counts as 0.';
comment on column vobiz.billing_region.total_cost is 'Sum of total_cost, before tax, unrounded; NULL counts as 0.';
comment on column vobiz.billing_region.without_cost is 'Legs whose total_cost is NULL: the sum says nothing of them.';
comment on column vobiz.billing_region.credits is 'Sum of total_cost where it is below 0: credits. total_cost contains them.';
comment on column vobiz.billing_region.unclear is 'Legs of which a field of the bill could not be read: seconds, an amount or currency that came, or neither start nor end. vobiz.unclear shows them.';
