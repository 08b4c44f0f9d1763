create or replace function vobiz.roll_up_change() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    was text := 'unassigned';
    "is" text := 'unassigned';
  begin
    perform vobiz.lock_customer_rule(false);
    if exists (select from vobiz.customer_rule) then
      was := vobiz.customer_of(old.account_id, old.trunk_id, old.campaign_id, old.our_number, old.day_at);
      "is" := vobiz.customer_of(new.account_id, new.trunk_id, new.campaign_id, new.our_number, new.day_at);
    end if;
    if (new.account_id, "is", vobiz.bucket_of(new.day_at), new.currency, new.call_direction, coalesce(new.billsec > 0, false))
       is not distinct from
       (old.account_id, was, vobiz.bucket_of(old.day_at), old.currency, old.call_direction, coalesce(old.billsec > 0, false))
    then
      insert into vobiz.rollup_delta (account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec,
                                      pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost)
      values (new.account_id, "is", vobiz.bucket_of(new.day_at), new.currency, new.call_direction, coalesce(new.billsec > 0, false), 0,
              coalesce(new.duration, 0)::bigint - coalesce(old.duration, 0), coalesce(new.billsec, 0)::bigint - coalesce(old.billsec, 0),
              coalesce(vobiz.pulse_minutes(new.billsec), 0) - coalesce(vobiz.pulse_minutes(old.billsec), 0),
              coalesce(new.cost, 0) - coalesce(old.cost, 0), coalesce(new.streaming_cost, 0) - coalesce(old.streaming_cost, 0),
              coalesce(new.total_cost, 0) - coalesce(old.total_cost, 0),
              coalesce(new.total_cost > 0, false)::int - coalesce(old.total_cost > 0, false)::int,
              (new.total_cost is null)::int - (old.total_cost is null)::int);
    else
      insert into vobiz.rollup_delta (account_id, customer, bucket, currency, call_direction, answered, calls, duration, billsec,
                                      pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost)
      values (old.account_id, was, vobiz.bucket_of(old.day_at), old.currency, old.call_direction, coalesce(old.billsec > 0, false), -1,
              -coalesce(old.duration, 0)::bigint, -coalesce(old.billsec, 0)::bigint, -coalesce(vobiz.pulse_minutes(old.billsec), 0),
              -coalesce(old.cost, 0), -coalesce(old.streaming_cost, 0), -coalesce(old.total_cost, 0),
              -coalesce(old.total_cost > 0, false)::int, -(old.total_cost is null)::int),
             (new.account_id, "is", vobiz.bucket_of(new.day_at), new.currency, new.call_direction, coalesce(new.billsec > 0, false), 1,
              coalesce(new.duration, 0), coalesce(new.billsec, 0), coalesce(vobiz.pulse_minutes(new.billsec), 0),
              coalesce(new.cost, 0), coalesce(new.streaming_cost, 0), coalesce(new.total_cost, 0),
              coalesce(new.total_cost > 0, false)::int, (new.total_cost is null)::int);
    end if;
    return null;
  end $$;
comment on function vobiz.roll_up_change() is 'Trigger: takes a changed call out of the sums as it was, and adds it as it is.';
