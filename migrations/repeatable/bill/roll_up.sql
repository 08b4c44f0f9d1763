-- A statement that stores five hundred calls becomes a few rows. A row trigger with a condition would be called for each of them.
create or replace function vobiz.roll_up() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    sign constant bigint := case tg_op when 'INSERT' then 1 else -1 end;
  begin
    -- Nothing was written: all calls of the group were there.
    if not exists (select from changed) then
      return null;
    end if;
    perform vobiz.lock_customer_rule(false);
    insert into vobiz.rollup_delta (
      account_id, customer, bucket, currency, call_direction, answered,
      /* each sum: {} */
      calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
      /* end */)
    select c.account_id, vobiz.first_rule(n.customer, k.customer, t.customer, a.customer), vobiz.bucket_of(c.day_at),
           c.currency, c.call_direction, c.billsec > 0,
           /* each sum: sign * sum(s.{}) */
           sign * sum(s.calls), sign * sum(s.duration), sign * sum(s.billsec), sign * sum(s.pulse_minutes), sign * sum(s.cost),
           sign * sum(s.streaming_cost), sign * sum(s.total_cost), sign * sum(s.with_cost), sign * sum(s.without_cost),
           sign * sum(s.credits), sign * sum(s.unclear)
           /* end */
    from changed c
    -- As vobiz.customer_cdr, which cannot read a transition table. vobiz.customer_of would look for the rules call by call.
    left join vobiz.number_rule n on n.form = c.our_number and vobiz.rule_is_valid(n.valid_from, n.valid_to, c.day_at)
    left join vobiz.customer_rule k on vobiz.rule_holds(k, 'campaign_id', c.campaign_id, c.day_at)
    left join vobiz.customer_rule t on vobiz.rule_holds(t, 'trunk_id', c.trunk_id, c.day_at)
    left join vobiz.customer_rule a on vobiz.rule_holds(a, 'account_id', c.account_id, c.day_at)
    cross join lateral vobiz.sums_of(/* each input: c.{} */ c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency, c.start_time, c.end_time, c.notes /* end */) s
    group by 1, 2, 3, 4, 5, 6;
    return null;
  end $$;
comment on function vobiz.roll_up() is 'Trigger: what was inserted is added to the sums, what was deleted is taken out.';
