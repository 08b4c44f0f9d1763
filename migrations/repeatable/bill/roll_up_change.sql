create or replace function vobiz.roll_up_change() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    -- Of no rule, as long as there is none at all.
    was text := vobiz.first_rule(null, null, null, null);
    "is" text := was;
  begin
    perform vobiz.lock_customer_rule(false);
    if exists (select from vobiz.customer_rule) then
      was := vobiz.customer_of(old.account_id, old.trunk_id, old.campaign_id, old.our_number, old.day_at);
      "is" := vobiz.customer_of(new.account_id, new.trunk_id, new.campaign_id, new.our_number, new.day_at);
    end if;
    -- Of one key, the difference; else one row out and one in.
    insert into vobiz.rollup_delta (
      account_id, customer, bucket, currency, call_direction, answered,
      /* each sum: {} */
      calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
      /* end */)
    select c.account_id, c.customer, vobiz.bucket_of(c.day_at), c.currency, c.call_direction, c.billsec > 0,
           /* each sum: sum(c.sign * s.{}) */
           sum(c.sign * s.calls), sum(c.sign * s.duration), sum(c.sign * s.billsec), sum(c.sign * s.pulse_minutes),
           sum(c.sign * s.cost), sum(c.sign * s.streaming_cost), sum(c.sign * s.total_cost), sum(c.sign * s.with_cost),
           sum(c.sign * s.without_cost), sum(c.sign * s.credits), sum(c.sign * s.unclear)
           /* end */
    from (values
      (-1, was, old.account_id, old.day_at, old.call_direction,
       /* each input: old.{} */
       old.duration, old.billsec, old.cost, old.streaming_cost, old.total_cost, old.currency, old.start_time, old.end_time,
       old.notes
       /* end */),
      (1, "is", new.account_id, new.day_at, new.call_direction,
       /* each input: new.{} */
       new.duration, new.billsec, new.cost, new.streaming_cost, new.total_cost, new.currency, new.start_time, new.end_time,
       new.notes
       /* end */)) as c (
      sign, customer, account_id, day_at, call_direction,
      /* each input: {} */
      duration, billsec, cost, streaming_cost, total_cost, currency, start_time, end_time, notes
      /* end */)
    cross join lateral vobiz.sums_of(/* each input: c.{} */ c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency, c.start_time, c.end_time, c.notes /* end */) s
    group by 1, 2, 3, 4, 5, 6;
    return null;
  end $$;
comment on function vobiz.roll_up_change() is 'Trigger: takes a changed call out of the sums as it was, and adds it as it is.';
