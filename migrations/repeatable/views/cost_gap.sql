create or replace view vobiz.cost_gap as
  select k.day, k.month, k.billing_zone, k.account_id, x.customer, x.call_id, x.day_at, x.call_direction, x.currency, x.cost,
         x.streaming_cost, x.total_cost, x.gap
  from vobiz.billing_account_day k
  cross join lateral (
    select l.customer, l.call_id, l.day_at, l.call_direction, l.currency, l.cost, l.streaming_cost, l.total_cost,
           l.total_cost - l.cost - coalesce(l.streaming_cost, 0) as gap
    from vobiz.leg l
    where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at
      and (l.total_cost - l.cost - coalesce(l.streaming_cost, 0) <> 0 or l.total_cost is null or l.cost is null)) x;

comment on view   vobiz.cost_gap is 'Calls whose total_cost is not cost plus streaming_cost, or where one of the two is not known, or neither: a call without any amount is in no sum. Shown, never mended: ask Vobiz.';
comment on column vobiz.cost_gap.day is 'Day in the billing zone, from its midnight up to the next.';
comment on column vobiz.cost_gap.month is 'First day of the month of day.';
comment on column vobiz.cost_gap.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.cost_gap.account_id is 'Account that owns the call.';
comment on column vobiz.cost_gap.customer is 'Customer by vobiz.customer_rule at the time of the call.';
comment on column vobiz.cost_gap.call_id is 'The call.';
comment on column vobiz.cost_gap.day_at is 'The billing instant.';
comment on column vobiz.cost_gap.call_direction is 'inbound or outbound.';
comment on column vobiz.cost_gap.currency is 'Currency of the amounts.';
comment on column vobiz.cost_gap.cost is 'Cost of the leg, as Vobiz states it.';
comment on column vobiz.cost_gap.streaming_cost is 'Cost of streaming, as Vobiz states it.';
comment on column vobiz.cost_gap.total_cost is 'Total, as Vobiz states it.';
comment on column vobiz.cost_gap.gap is 'total_cost - cost - streaming_cost (NULL streaming counts as 0), exact; NULL where one of the first two is.';
