create or replace function vobiz.cdr_as_of(at timestamptz)
  returns table (
    call_id text, account_id text, day_at timestamptz, call_direction text, duration integer, billsec integer, cost numeric,
    streaming_cost numeric, total_cost numeric, currency text, updated_at timestamptz, fetched_at timestamptz, revision integer)
  language sql stable parallel safe
  as $$
    with known as (
      select r.call_id, r.revision, r.fetched_at, r.source, r.updated_at, r.day_at, r.call_direction, r.duration, r.billsec, r.cost,
             r.streaming_cost, r.total_cost, r.currency, r.content_hash,
             coalesce(r.day_from, 'start_time') as day_from, r.by_owner, c.stored_at,
             case when c.fetched_at <= cdr_as_of.at then c.account_id else r.account_id end as account_id,
             -- The version shown may have been confirmed since it was kept: then it is the last one.
             coalesce(c.content_hash = r.content_hash and c.fetched_at <= cdr_as_of.at, false) as shown,
             -- A version that overrules is followed only by those that were asked for after it.
             r.fetched_at >= coalesce(max(r.fetched_at) filter (where r.overrules) over (partition by r.call_id), '-infinity') as valid
      from vobiz.cdr_revision r left join vobiz.cdr c on c.call_id = r.call_id
      where r.fetched_at <= cdr_as_of.at
    ), ranked as (
      select k.*, row_number() over newest as place,
             -- Of the single records and of the list rows below the newest single record, nothing is seen any more.
             count(*) filter (where source = 'single') over newest - (source = 'single')::int = 0 as seen
      from known k
      window newest as (
        partition by k.call_id
        order by shown desc, valid desc, by_owner desc, updated_at desc nulls last, fetched_at desc, content_hash desc, revision desc
        rows unbounded preceding)
    ), said as (
      -- A list row that lacks a field leaves what the version before it said: the newest word on each field.
      select s.call_id, s.account_id, s.place, s.fetched_at, s.revision,
             coalesce(
               (array_agg(s.day_at) filter (where day_from = 'start_time') over versions)[1],
               (array_agg(s.day_at) filter (where day_from = 'end_time') over versions)[1],
               (array_agg(s.day_at) filter (where day_from = 'created_at') over versions)[1],
               s.stored_at, s.day_at) as day_at,
             (array_agg(s.call_direction) filter (where s.call_direction is not null) over versions)[1] as call_direction,
             (array_agg(s.duration) filter (where s.duration is not null) over versions)[1] as duration,
             (array_agg(s.billsec) filter (where s.billsec is not null) over versions)[1] as billsec,
             (array_agg(s.cost) filter (where s.cost is not null) over versions)[1] as cost,
             (array_agg(s.streaming_cost) filter (where s.streaming_cost is not null) over versions)[1] as streaming_cost,
             (array_agg(s.total_cost) filter (where s.total_cost is not null) over versions)[1] as total_cost,
             (array_agg(s.currency) filter (where s.currency is not null) over versions)[1] as currency,
             (array_agg(s.updated_at) filter (where s.updated_at is not null) over versions)[1] as updated_at
      from ranked s
      where s.seen
      window versions as (
        partition by s.call_id
        order by shown desc, valid desc, by_owner desc, s.updated_at desc nulls last, s.fetched_at desc, content_hash desc, s.revision desc
        rows between unbounded preceding and unbounded following)
    )
    select call_id, account_id, day_at, call_direction, duration, billsec, cost, streaming_cost, total_cost, currency, updated_at,
           fetched_at, revision
    from said where place = 1
  $$;
comment on function vobiz.cdr_as_of(timestamptz) is
  'The billed fields of every call as they were known at an instant, from the versions asked for by then (vobiz.cdr_revision): which one wins is the order of the service. At infinity it equals vobiz.cdr, but for rows that were changed or deleted by hand, or whose fields are read anew (vobiz-cdr reparse). fetched_at and revision are those of the newest version of the call. A pruned version is not known.';
