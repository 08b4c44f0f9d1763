create or replace view vobiz.traffic_day as
  select t.day, t.month, t.billing_zone, t.account_id, t.call_direction, t.conversations, t.answered,
         round(100.0 * t.answered / nullif(t.conversations - t.answered_unknown, 0), 2) as asr_percent,
         round(100.0 * t.effective / nullif(t.effective_known, 0), 2) as ner_percent,
         round(t.talked_seconds::numeric / nullif(t.answered, 0), 1) as acd_seconds,
         t.talked_seconds, t.ring_median, t.ring_p95, t.post_dial_delay_median, t.post_dial_delay_p95, t.busy_hour,
         t.busy_hour_conversations,
         (select max(p.running) from (
            select sum(e.step) over (order by e.at, e.step rows unbounded preceding) as running
            from (select c.day_at, coalesce(c.end_time, c.day_at + make_interval(secs => c.duration)) as end_at from vobiz.cdr c
                  where c.account_id = t.account_id and c.call_direction is not distinct from t.call_direction
                    and c.day_at >= b.from_at - interval '12 hours' and c.day_at < b.to_at) l
            cross join lateral (values (greatest(l.day_at, b.from_at), 1), (l.end_at, -1)) e (at, step)
            where l.end_at > l.day_at and l.end_at > b.from_at) p) as peak_legs,
         (select max(p.running) from (
            select sum(e.step) over (order by e.at, e.step rows unbounded preceding) as running
            from (select c.day_at, coalesce(c.end_time, c.day_at + make_interval(secs => c.duration)) as end_at from vobiz.cdr c
                  where c.account_id = t.account_id
                    and c.day_at >= b.from_at - interval '12 hours' and c.day_at < b.to_at) l
            cross join lateral (values (greatest(l.day_at, b.from_at), 1), (l.end_at, -1)) e (at, step)
            where l.end_at > l.day_at and l.end_at > b.from_at) p) as account_peak_legs,
         t.answered_unknown
  from (
    select h.day, h.month, h.billing_zone, h.account_id, h.call_direction,
           count(*) as conversations,
           count(*) filter (where h.answered) as answered,
           count(*) filter (where h.answered is null) as answered_unknown,
           count(*) filter (where h.effective) as effective,
           count(h.effective) as effective_known,
           coalesce(sum(h.talked_seconds) filter (where h.answered), 0)::bigint as talked_seconds,
           round((percentile_cont(0.5) within group (order by h.ring_time))::numeric, 1) as ring_median,
           round((percentile_cont(0.95) within group (order by h.ring_time))::numeric, 1) as ring_p95,
           round((percentile_cont(0.5) within group (order by h.post_dial_delay))::numeric, 1) as post_dial_delay_median,
           round((percentile_cont(0.95) within group (order by h.post_dial_delay))::numeric, 1) as post_dial_delay_p95,
           mode() within group (order by h.hour) filter (where h.in_hour = h.most_in_hour) as busy_hour,
           max(h.in_hour) as busy_hour_conversations
    from (
      select i.day, i.month, i.billing_zone, i.account_id, i.call_direction, i.answered, i.effective, i.talked_seconds, i.ring_time,
             i.post_dial_delay, i.hour, i.in_hour,
             max(i.in_hour) over (partition by i.day, i.month, i.billing_zone, i.account_id, i.call_direction) as most_in_hour
      from (
        select c.day, c.month, c.billing_zone, c.account_id, c.call_direction, c.answered, c.effective, c.talked_seconds, c.ring_time,
               c.post_dial_delay, extract(hour from c.first_start at time zone c.billing_zone)::int as hour,
               count(*) over (partition by c.day, c.month, c.billing_zone, c.account_id, c.call_direction,
                                           extract(hour from c.first_start at time zone c.billing_zone)::int) as in_hour
        from vobiz.conversation c) i) h
    group by h.day, h.month, h.billing_zone, h.account_id, h.call_direction) t
  -- The fence: once a day, not once a call.
  cross join lateral (
    select vobiz.billing_day_start(t.day, t.billing_zone) as from_at, vobiz.billing_day_start(t.day + 1, t.billing_zone) as to_at
    offset 0) b;

comment on view   vobiz.traffic_day is 'Traffic of each day by account and direction. Counts conversations, not legs (vobiz.conversation); only the peaks count legs, since each takes a line.';
comment on column vobiz.traffic_day.day is 'Day in the billing zone, by the start of the first leg.';
comment on column vobiz.traffic_day.month is 'First day of the month of day.';
comment on column vobiz.traffic_day.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.traffic_day.account_id is 'Account that owns the calls.';
comment on column vobiz.traffic_day.call_direction is 'Direction of the first leg.';
comment on column vobiz.traffic_day.conversations is 'All attempts.';
comment on column vobiz.traffic_day.answered is 'Of these, answered: a leg with billsec over 0.';
comment on column vobiz.traffic_day.asr_percent is 'Answer seizure ratio: answered by the conversations of which that is known (conversations less answered_unknown), in percent, 2 decimals.';
comment on column vobiz.traffic_day.ner_percent is 'Network effectiveness ratio: answered, busy, no answer, rejected and cancelled (vobiz.hangup_cause.effective) by the conversations of which that is known, in percent, 2 decimals.';
comment on column vobiz.traffic_day.acd_seconds is 'Average call duration: talked_seconds by answered, 1 decimal; NULL without answered ones.';
comment on column vobiz.traffic_day.talked_seconds is 'Seconds talked, of each conversation its longest leg.';
comment on column vobiz.traffic_day.ring_median is 'Seconds until answer or end: the median over conversations that state it, 1 decimal.';
comment on column vobiz.traffic_day.ring_p95 is 'The same: 95 of 100 rang no longer.';
comment on column vobiz.traffic_day.post_dial_delay_median is 'Seconds from start to ringing (progress_time - start_time): the median over conversations that state it, 1 decimal.';
comment on column vobiz.traffic_day.post_dial_delay_p95 is 'The same: 95 of 100 rang sooner.';
comment on column vobiz.traffic_day.busy_hour is 'Hour of the clock, 0 to 23 in the zone, in which most conversations began; the first of several. An hour that the clock shows twice counts as one.';
comment on column vobiz.traffic_day.busy_hour_conversations is 'How many began in it.';
comment on column vobiz.traffic_day.peak_legs is 'Most legs of this direction at one instant, ringing or talking, those of the day before included (12 hours back).';
comment on column vobiz.traffic_day.account_peak_legs is 'The same over both directions: on each row of the day, so never add it up.';
comment on column vobiz.traffic_day.answered_unknown is 'Conversations of which nobody knows whether they were answered, since a leg has no billsec (vobiz.unclear): in neither side of asr_percent; of ner_percent unless their cause says that the network did its work.';
