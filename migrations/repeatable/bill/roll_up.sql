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
    insert into vobiz.rollup_delta (account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec,
                                    pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost)
    select c.account_id, coalesce(n.customer, k.customer, t.customer, a.customer, 'unassigned'), vobiz.bucket_of(c.day_at),
           c.currency, c.call_direction, coalesce(c.billsec > 0, false), sign * count(*), sign * coalesce(sum(c.duration), 0),
           sign * coalesce(sum(c.billsec), 0), sign * coalesce(sum(vobiz.pulse_minutes(c.billsec)), 0),
           sign * coalesce(sum(c.cost), 0), sign * coalesce(sum(c.streaming_cost), 0), sign * coalesce(sum(c.total_cost), 0),
           sign * count(*) filter (where c.total_cost > 0), sign * count(*) filter (where c.total_cost is null)
    from changed c
    -- As in vobiz.customer_cdr.
    left join vobiz.customer_rule n
      on n.field = 'our_number' and n.value = c.our_number and n.valid_from <= c.day_at and n.valid_to > c.day_at
    left join vobiz.customer_rule k
      on k.field = 'campaign_id' and k.value = c.campaign_id and k.valid_from <= c.day_at and k.valid_to > c.day_at
    left join vobiz.customer_rule t
      on t.field = 'trunk_id' and t.value = c.trunk_id and t.valid_from <= c.day_at and t.valid_to > c.day_at
    left join vobiz.customer_rule a
      on a.field = 'account_id' and a.value = c.account_id and a.valid_from <= c.day_at and a.valid_to > c.day_at
    group by 1, 2, 3, 4, 5, 6;
    return null;
  end $$;
comment on function vobiz.roll_up() is 'Trigger: what was inserted is added to the sums, what was deleted is taken out.';
