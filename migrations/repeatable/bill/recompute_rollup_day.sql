create or replace function vobiz.recompute_rollup_day(first date default null, last date default null) returns void
  language plpgsql
  -- Where nothing is analysed yet, Postgres would take each sum with each quarter.
  set enable_nestloop = off
  as $$
  declare
    zone    text;
    from_at timestamptz;
    to_at   timestamptz;
  begin
    -- Nobody folds meanwhile; and what was folded, and set, until now is seen by the statements below.
    perform from vobiz.work_lease l where l.name = 'rollup' for no key update;
    perform vobiz.need_read_committed();
    select s.billing_zone into zone from vobiz.setting s;
    from_at := coalesce(vobiz.billing_day_start(first, zone), '-infinity');
    to_at := coalesce(vobiz.billing_day_start(last + 1, zone), 'infinity');
    delete from vobiz.rollup_day d where d.day between coalesce(first, '-infinity') and coalesce(last, 'infinity');
    insert into vobiz.rollup_day (
      account_id, customer, day, currency, call_direction, answered,
      /* each sum: {} */
      calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
      /* end */)
    with quarter as materialized (
      select q.bucket, vobiz.billing_day_of(q.bucket, zone) as day
      from (select distinct r.bucket from vobiz.rollup r where r.bucket >= from_at and r.bucket < to_at) q
    )
    select r.account_id, r.customer, q.day, r.currency, r.call_direction, r.answered,
           /* each sum: sum(r.{}) */
           sum(r.calls), sum(r.duration), sum(r.billsec), sum(r.pulse_minutes), sum(r.cost), sum(r.streaming_cost),
           sum(r.total_cost), sum(r.with_cost), sum(r.without_cost), sum(r.credits), sum(r.unclear)
           /* end */
    from vobiz.rollup r join quarter q on q.bucket = r.bucket
    where r.bucket >= from_at and r.bucket < to_at
    group by 1, 2, 3, 4, 5, 6;
  end $$;
comment on function vobiz.recompute_rollup_day(date, date) is
  'Makes vobiz.rollup_day of these days, both included and all where none are named, anew from vobiz.rollup. Nothing is folded until the end of the transaction.';
