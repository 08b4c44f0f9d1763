create or replace view vobiz.billing_destination as
  select k.day, k.month, k.billing_zone, k.account_id, x.customer, x.prefix, x.currency, x.call_direction, x.calls, x.answered,
         x.unanswered_with_cost, x.duration, x.billsec, x.minutes, x.pulse_minutes, x.cost, x.streaming_cost, x.total_cost,
         x.without_cost, p.name as destination, p.country, x.credits, x.unclear
  from vobiz.billing_account_day k
  -- A day is read in a subquery of its own, so that each day named is one range of the index (account_id, day_at).
  cross join lateral (
    select l.customer, l.prefix, l.currency, l.call_direction,
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
    group by l.customer, l.prefix, l.currency, l.call_direction) x
  -- What a prefix is called is looked up after adding up.
  left join vobiz.prefix p on p.prefix = x.prefix;

comment on view   vobiz.billing_destination is 'The billing totals of each day by the place of the number that was called, the longest match in vobiz.prefix. Of inbound calls that is our own number: for spend by destination, take outbound. Names follow vobiz.prefix as it is now; a series names the operator that was given it, from which numbers may have been ported. Several prefixes share a name: add up by destination. Counts legs. Days are those of the billing zone; a condition on day, month or account_id reads only these days.';
comment on column vobiz.billing_destination.day is 'Day in the billing zone, from its midnight up to the next: the calls whose day_at lies in it.';
comment on column vobiz.billing_destination.month is 'First day of the month of day.';
comment on column vobiz.billing_destination.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.billing_destination.account_id is 'Account that owns the calls.';
comment on column vobiz.billing_destination.customer is 'Customer by vobiz.customer_rule at the time of each call; ''unassigned'' where no rule fits.';
comment on column vobiz.billing_destination.prefix is 'Longest match in vobiz.prefix; NULL without one.';
comment on column vobiz.billing_destination.currency is 'Currency of the amounts; never add different ones. NULL: the CDR names none.';
comment on column vobiz.billing_destination.call_direction is 'inbound or outbound.';
comment on column vobiz.billing_destination.calls is 'Legs.';
comment on column vobiz.billing_destination.answered is 'Legs with billsec over 0; where billsec is NULL nobody knows (unclear).';
comment on column vobiz.billing_destination.unanswered_with_cost is 'Legs with billsec 0 and a total_cost over 0.';
comment on column vobiz.billing_destination.duration is 'Seconds, ringing and talking; NULL counts as 0.';
comment on column vobiz.billing_destination.billsec is 'Seconds talked; NULL counts as 0.';
comment on column vobiz.billing_destination.minutes is 'billsec by 60, the sum rounded to 6 decimals, half up; add up billsec, not this.';
comment on column vobiz.billing_destination.pulse_minutes is 'Minutes, each leg rounded up to 60 s before adding.';
comment on column vobiz.billing_destination.cost is 'Sum of cost, before tax, unrounded; NULL counts as 0.';
comment on column vobiz.billing_destination.streaming_cost is 'Sum of streaming_cost, before tax, unrounded; NULL counts as 0.';
comment on column vobiz.billing_destination.total_cost is 'Sum of total_cost, before tax, unrounded; NULL counts as 0.';
comment on column vobiz.billing_destination.without_cost is 'Legs whose total_cost is NULL: the sum says nothing of them.';
comment on column vobiz.billing_destination.destination is 'Its name.';
comment on column vobiz.billing_destination.country is 'Its country.';
comment on column vobiz.billing_destination.credits is 'Sum of total_cost where it is below 0: credits. total_cost contains them.';
comment on column vobiz.billing_destination.unclear is 'Legs of which a field of the bill could not be read: seconds, an amount or currency that came, or neither start nor end. vobiz.unclear shows them.';
