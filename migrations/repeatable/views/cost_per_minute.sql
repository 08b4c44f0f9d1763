create or replace view vobiz.cost_per_minute as
  select k.day, k.month, k.billing_zone, k.account_id, x.customer, x.trunk_id, x.prefix, x.currency, x.call_direction, x.answered,
         x.billsec, x.pulse_minutes, x.cost, x.unanswered, x.unanswered_cost,
         round(x.cost * 60 / nullif(x.billsec, 0), 6) as per_minute,
         round(x.cost / nullif(x.pulse_minutes, 0), 6) as per_pulse_minute,
         x.answered_unknown, x.answered_unknown_cost
  from vobiz.billing_account_day k
  cross join lateral (
    select l.customer, l.trunk_id, l.prefix, l.currency, l.call_direction,
           count(*) filter (where l.answered) as answered,
           coalesce(sum(l.billsec) filter (where l.answered), 0)::bigint as billsec,
           coalesce(sum(l.pulse_minutes) filter (where l.answered), 0)::bigint as pulse_minutes,
           coalesce(sum(l.cost) filter (where l.answered), 0) as cost,
           count(*) filter (where not l.answered) as unanswered,
           coalesce(sum(l.cost) filter (where not l.answered), 0) as unanswered_cost,
           count(*) filter (where l.answered is null) as answered_unknown,
           coalesce(sum(l.cost) filter (where l.answered is null), 0) as answered_unknown_cost
    from vobiz.leg l
    where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at
    group by l.customer, l.trunk_id, l.prefix, l.currency, l.call_direction) x;

comment on view   vobiz.cost_per_minute is 'What a minute really cost, by trunk, direction and destination prefix: to hold against the tariff. Over several days add up cost and minutes and divide then; do not average the rates.';
comment on column vobiz.cost_per_minute.day is 'Day in the billing zone, from its midnight up to the next.';
comment on column vobiz.cost_per_minute.month is 'First day of the month of day.';
comment on column vobiz.cost_per_minute.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.cost_per_minute.account_id is 'Account that owns the calls.';
comment on column vobiz.cost_per_minute.customer is 'Customer by vobiz.customer_rule at the time of each call.';
comment on column vobiz.cost_per_minute.trunk_id is 'Trunk; NULL for voice API calls.';
comment on column vobiz.cost_per_minute.prefix is 'Longest match of the number that was called in vobiz.prefix; NULL without one.';
comment on column vobiz.cost_per_minute.currency is 'Currency of the amounts.';
comment on column vobiz.cost_per_minute.call_direction is 'inbound or outbound.';
comment on column vobiz.cost_per_minute.answered is 'Legs with billsec over 0.';
comment on column vobiz.cost_per_minute.billsec is 'Their seconds talked.';
comment on column vobiz.cost_per_minute.pulse_minutes is 'Their minutes, each leg rounded up to 60 s.';
comment on column vobiz.cost_per_minute.cost is 'Their cost without streaming, before tax, unrounded; NULL counts as 0.';
comment on column vobiz.cost_per_minute.unanswered is 'Legs that were not answered (billsec 0); they are in none of the rates.';
comment on column vobiz.cost_per_minute.unanswered_cost is 'What those cost.';
comment on column vobiz.cost_per_minute.per_minute is 'cost by exact minutes (billsec by 60), rounded to 6 decimals; NULL without seconds.';
comment on column vobiz.cost_per_minute.per_pulse_minute is 'cost by pulse_minutes, rounded to 6 decimals; NULL without minutes. A tariff with a 60 s pulse shows here.';
comment on column vobiz.cost_per_minute.answered_unknown is 'Legs without billsec (vobiz.unclear): nobody knows whether they were answered, and they are in none of the rates.';
comment on column vobiz.cost_per_minute.answered_unknown_cost is 'What those cost.';
