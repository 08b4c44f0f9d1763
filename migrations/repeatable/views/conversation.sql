create or replace view vobiz.conversation as
  select k.day, k.month, k.billing_zone, k.account_id, x.customer, x.conversation_id, x.legs, x.call_ids, x.call_direction,
         x.first_start, x.last_end, x.answered, x.effective, x.outcome, x.ring_time, x.post_dial_delay, x.talked_seconds, x.billsec,
         case when x.currencies <= 1 then x.currency end as currency,
         case when x.currencies <= 1 then x.total_cost end as total_cost,
         (select jsonb_object_agg(m.currency, m.amount)
          from (select coalesce(e.currency, 'unknown') as currency, sum(e.amount) as amount
                from unnest(x.leg_currency, x.leg_cost) e (currency, amount) group by 1) m) as total_cost_by_currency
  from vobiz.billing_account_day k
  cross join lateral (
    select l.conversation_id,
           count(*) as legs,
           array_agg(l.call_id order by l.day_at, l.call_id) as call_ids,
           (array_agg(l.customer order by l.day_at, l.call_id))[1] as customer,
           (array_agg(l.call_direction order by l.day_at, l.call_id))[1] as call_direction,
           (array_agg(l.outcome order by l.day_at, l.call_id))[1] as outcome,
           (array_agg(l.ring_time order by l.day_at, l.call_id))[1] as ring_time,
           (array_agg(extract(epoch from l.progress_time - l.start_time) order by l.day_at, l.call_id))[1] as post_dial_delay,
           min(l.day_at) as first_start,
           max(l.end_time) as last_end,
           -- Where no leg says yes, one that does not say leaves it open.
           case when bool_or(l.answered) then true when count(l.answered) = count(*) then false end as answered,
           case when bool_or(l.effective) then true when count(l.effective) = count(*) then false end as effective,
           coalesce(max(l.billsec), 0) as talked_seconds,
           coalesce(sum(l.billsec), 0) as billsec,
           count(distinct coalesce(l.currency, '')) as currencies,
           min(l.currency) as currency,
           coalesce(sum(l.total_cost), 0) as total_cost,
           array_agg(l.currency) as leg_currency,
           array_agg(coalesce(l.total_cost, 0)) as leg_cost
    from (
      select c.conversation_id, c.before, c.call_id, c.day_at, c.end_time, c.start_time, c.progress_time, c.customer, c.call_direction,
             c.outcome, c.ring_time, c.answered, c.effective, c.billsec, c.currency, c.total_cost, c.number,
             min(c.day_at) over (partition by c.conversation_id, c.number) as began
      from (
        select b.conversation_id, b.before, b.call_id, b.day_at, b.end_time, b.start_time, b.progress_time, b.customer, b.call_direction,
               b.outcome, b.ring_time, b.answered, b.effective, b.billsec, b.currency, b.total_cost,
               count(*) filter (where b.day_at > b.before + interval '12 hours') over (
                      partition by b.conversation_id order by b.day_at, b.call_id) as number
        from (
          select i.conversation_id,
                 lag(i.day_at) over (partition by i.conversation_id order by i.day_at, i.call_id) as before,
                 i.call_id, i.day_at, i.end_time, i.start_time, i.progress_time, i.customer, i.call_direction, i.outcome, i.ring_time,
                 i.answered, i.effective, i.billsec, i.currency, i.total_cost
          from (
          -- A bridge may be the id of another leg, which names one in turn, perhaps this one: from leg to leg, each found by its key
          -- and not among those of the day, so that a leg belongs to the same conversation seen from every day. Of legs that
          -- name one another in a circle, the least id is that of the conversation.
          select case when p.call_id is null then coalesce(nullif(l.bridge_uuid, ''), l.call_id)
                      when p.bridge_uuid = l.call_id then least(l.call_id, p.call_id)
                      else (
                   with recursive hop (number, bridge_uuid, day_at, path) as (
                     select 1, p.bridge_uuid, p.day_at, array[l.call_id, p.call_id]
                     union all
                     select h.number + 1, n.bridge_uuid, n.day_at, h.path || n.call_id
                     from hop h
                     join vobiz.cdr n on n.call_id = h.bridge_uuid
                     where h.bridge_uuid <> all (h.path) and h.number < 100 and n.bridge_uuid <> '' and n.account_id = l.account_id
                       and n.day_at between h.day_at - interval '12 hours' and h.day_at + interval '12 hours'
                   )
                   select case when h.bridge_uuid = any (h.path)
                               then (select min(c.id) from unnest(h.path[array_position(h.path, h.bridge_uuid):]) c (id))
                               else h.bridge_uuid end
                   from hop h order by h.number desc limit 1) end as conversation_id,
                 l.call_id, l.day_at, l.end_time, l.start_time, l.progress_time, l.customer, l.call_direction, l.outcome, l.ring_time,
                 l.answered, l.effective, l.billsec, l.currency, l.total_cost
          from vobiz.leg l
          left join vobiz.cdr p
            on p.call_id = l.bridge_uuid and p.call_id <> l.call_id and p.bridge_uuid <> '' and p.account_id = l.account_id
            and p.day_at between l.day_at - interval '12 hours' and l.day_at + interval '12 hours'
          where l.account_id = k.account_id and l.day_at >= k.from_at - interval '12 hours'
            and l.day_at < (k.day + 1 + time '12:00') at time zone k.billing_zone) i) b) c) l
    -- A conversation belongs to the day in which it began, and takes legs until noon of the next: so half a day to either side shows
    -- all of it, and each leg belongs to one conversation of one day.
    where l.began >= k.from_at or l.day_at >= (k.day + time '12:00') at time zone k.billing_zone
    group by l.conversation_id, l.number
    having min(l.day_at) >= k.from_at and min(l.day_at) < k.to_at) x;

comment on view   vobiz.conversation is 'Legs of one account that Vobiz tied together as one row: those with the same bridge_uuid, and those whose bridge_uuid is the call_id of another leg, which may name one in turn. A leg that names none and is named by none is a conversation by itself. A leg that begins more than 12 hours after the one before it, or after noon of the day after the first, begins a further conversation with the same id. Each leg is in one row, so adding up total_cost over conversations gives the same as over legs.';
comment on column vobiz.conversation.day is 'Day of the first leg in the billing zone.';
comment on column vobiz.conversation.month is 'First day of the month of day.';
comment on column vobiz.conversation.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.conversation.account_id is 'Account that owns the legs.';
comment on column vobiz.conversation.customer is 'Customer of the first leg.';
comment on column vobiz.conversation.conversation_id is 'bridge_uuid, else the call_id of the only leg; of legs that name one another, the least of their ids. One that Vobiz uses again later has several rows.';
comment on column vobiz.conversation.legs is 'How many legs.';
comment on column vobiz.conversation.call_ids is 'The legs, by their start.';
comment on column vobiz.conversation.call_direction is 'Direction of the first leg.';
comment on column vobiz.conversation.first_start is 'Start of the first leg.';
comment on column vobiz.conversation.last_end is 'End of the last leg to end.';
comment on column vobiz.conversation.answered is 'Whether a leg was answered (billsec over 0); NULL where none was as far as is known, and a leg has no billsec.';
comment on column vobiz.conversation.effective is 'Whether a leg was answered or reached its end in the network (busy, no answer, …); NULL as in answered.';
comment on column vobiz.conversation.outcome is 'Our grouping of the hangup cause of the first leg.';
comment on column vobiz.conversation.ring_time is 'Seconds until the first leg was answered or ended.';
comment on column vobiz.conversation.post_dial_delay is 'Seconds from the start of the first leg to its ringing.';
comment on column vobiz.conversation.talked_seconds is 'billsec of the longest leg: how long people talked.';
comment on column vobiz.conversation.billsec is 'Sum of billsec over the legs: what is billed.';
comment on column vobiz.conversation.currency is 'Currency, if all legs have the same; else NULL.';
comment on column vobiz.conversation.total_cost is 'Sum of total_cost, before tax, if all legs have one currency; else NULL: see total_cost_by_currency.';
comment on column vobiz.conversation.total_cost_by_currency is 'Sum of total_cost by currency, as JSON.';
