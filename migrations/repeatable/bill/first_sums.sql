-- Calls that were there before the triggers were are in no sum yet: on a fresh database there are none. Nobody writes calls meanwhile,
-- since the triggers, which are made before this runs, hold the table until the end of the transaction.
do $$
begin
  if exists (select from vobiz.cdr) and not exists (select from vobiz.rollup_part) then
    insert into vobiz.rollup (
      account_id, customer, bucket, currency, call_direction, answered,
      /* each sum: {} */
      calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
      /* end */)
    select account_id, customer, bucket, currency, call_direction, answered,
           /* each sum: {} */
           calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
           /* end */
    from vobiz.rollup_base;
    perform vobiz.recompute_rollup_day();
  end if;
end $$;
