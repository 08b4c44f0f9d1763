-- The only text that knows the sums of the bill. The others list them between two comments, as `./dev sums` writes them from here.

-- What a function takes and returns cannot be replaced: where there is a further sum or input, each former function goes first, and the one
-- view on it. There is one at most, unless somebody made others of the name: of two, nobody knows which one is meant.
do $$
declare
  former regprocedure;
begin
  for former in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'vobiz'::regnamespace and p.proname = 'sums_of'
      and p.proargnames is distinct from array[
        /* each input: 'of_{}' */
        'of_duration', 'of_billsec', 'of_cost', 'of_streaming_cost', 'of_total_cost', 'of_currency', 'of_start_time',
        'of_end_time', 'of_notes'
        /* end */,
        /* each sum: '{}' */
        'calls', 'duration', 'billsec', 'pulse_minutes', 'cost', 'streaming_cost', 'total_cost', 'with_cost', 'without_cost',
        'credits', 'unclear'
        /* end */]
  loop
    drop view if exists vobiz.rollup_base;
    execute format('drop function %s', former);
  end loop;
end $$;

create or replace function vobiz.sums_of(
    of_duration integer, of_billsec integer, of_cost numeric, of_streaming_cost numeric, of_total_cost numeric, of_currency text,
    of_start_time timestamptz, of_end_time timestamptz, of_notes text[])
  returns table (
    calls bigint,           -- Legs.
    duration bigint,        -- Seconds, ringing and talking; NULL counts as 0.
    billsec bigint,         -- Seconds talked; NULL counts as 0.
    pulse_minutes bigint,   -- Minutes talked, each call rounded up to whole ones.
    cost numeric,           -- Sum of cost; NULL counts as 0.
    streaming_cost numeric, -- Sum of streaming_cost; NULL counts as 0.
    total_cost numeric,     -- Sum of total_cost; NULL counts as 0.
    with_cost bigint,       -- Calls whose total_cost is above 0.
    without_cost bigint,    -- Calls whose total_cost is NULL.
    credits numeric,        -- Sum of total_cost where it is below 0; total_cost contains it.
    unclear bigint)         -- Calls of which a field of the bill could not be read (vobiz.unclear_fields).
  language sql immutable parallel safe rows 1
  as $$
    select bigint '1',
           coalesce(of_duration, 0)::bigint,
           coalesce(of_billsec, 0)::bigint,
           coalesce(vobiz.pulse_minutes(of_billsec), 0),
           coalesce(of_cost, 0),
           coalesce(of_streaming_cost, 0),
           coalesce(of_total_cost, 0),
           coalesce(of_total_cost > 0, false)::integer::bigint,
           (of_total_cost is null)::integer::bigint,
           least(coalesce(of_total_cost, 0), 0),
           (vobiz.unclear_fields(of_duration, of_billsec, of_cost, of_streaming_cost, of_total_cost, of_currency,
                                 of_start_time, of_end_time, of_notes) <> '{}')::integer::bigint
  $$;
comment on function vobiz.sums_of(integer, integer, numeric, numeric, numeric, text, timestamptz, timestamptz, text[]) is
  'What one call adds to each sum of the bill, of its seconds, amounts, currency, times and notes. Planned as the expressions that it consists of.';
