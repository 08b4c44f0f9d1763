create or replace function vobiz.sums_of(
    seconds integer, talked integer, leg_cost numeric, stream_cost numeric, whole_cost numeric)
  returns table (calls bigint, duration bigint, billsec bigint, pulse_minutes bigint, cost numeric, streaming_cost numeric,
                 total_cost numeric, with_cost bigint, without_cost bigint)
  language sql immutable parallel safe rows 1
  as $$
    select bigint '1', coalesce(seconds, 0)::bigint, coalesce(talked, 0)::bigint, coalesce(vobiz.pulse_minutes(talked), 0),
           coalesce(leg_cost, 0), coalesce(stream_cost, 0), coalesce(whole_cost, 0),
           coalesce(whole_cost > 0, false)::integer::bigint, (whole_cost is null)::integer::bigint
  $$;
comment on function vobiz.sums_of(integer, integer, numeric, numeric, numeric) is
  'What one call adds to each sum of the bill, of its duration, billsec, cost, streaming_cost and total_cost. Planned as the expressions that it consists of.';
