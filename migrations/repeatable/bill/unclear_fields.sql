-- The one text that knows which calls are unclear: the sums, the views and the exports ask it. Of a clear call it is a few comparisons.
create or replace function vobiz.unclear_fields(
    duration integer, billsec integer, cost numeric, streaming_cost numeric, total_cost numeric, currency text,
    start_time timestamptz, end_time timestamptz, notes text[])
  returns text[]
  language sql immutable parallel safe
  as $$
    select case when duration is not null and billsec is not null and (start_time is not null or end_time is not null)
                     and (notes = '{}' or (cost is not null and streaming_cost is not null and total_cost is not null and currency is not null))
                then '{}'
                else array_remove(array[
                  -- Vobiz states the seconds of every call: without them something is wrong, note or not.
                  case when duration is null then 'duration' end,
                  case when billsec is null then 'billsec' end,
                  -- An amount that did not come is no unclear one: the bill counts it in without_cost.
                  case when cost is null and vobiz.has_note(notes, 'cost') then 'cost' end,
                  case when streaming_cost is null and vobiz.has_note(notes, 'streaming_cost') then 'streaming_cost' end,
                  case when total_cost is null and vobiz.has_note(notes, 'total_cost') then 'total_cost' end,
                  -- A word that is no code is kept, and stands on a line of the bill of its own.
                  case when currency is null and vobiz.has_note(notes, 'currency') then 'currency' end,
                  -- Then the day of the bill is that on which the record was made, or stored.
                  case when start_time is null and end_time is null then 'day_at' end], null)
           end
  $$;
comment on function vobiz.unclear_fields(integer, integer, numeric, numeric, numeric, text, timestamptz, timestamptz, text[]) is
  'The fields of the bill that could not be read in a call: duration and billsec that are NULL, amounts and a currency that came and could not be read, and day_at where the record has neither start nor end. Empty for a clear call.';
