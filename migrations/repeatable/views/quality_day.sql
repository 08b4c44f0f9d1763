create or replace view vobiz.quality_day as
  select k.day, k.month, k.billing_zone, k.account_id, x.codec, x.trunk_id, x.call_direction, x.calls, x.answered_without_media,
         x.mos_mean, x.mos_median, x.mos_p5, x.mos_min, x.poor_percent, x.jitter_median, x.jitter_p95, x.packet_loss_median,
         x.packet_loss_p95, x.packet_loss_max
  from vobiz.billing_account_day k
  cross join lateral (
    select l.codec, l.trunk_id, l.call_direction,
           count(l.mos) as calls,
           count(*) filter (where l.mos is null) as answered_without_media,
           round(avg(l.mos), 3) as mos_mean,
           round((percentile_cont(0.5) within group (order by l.mos))::numeric, 2) as mos_median,
           round((percentile_cont(0.05) within group (order by l.mos))::numeric, 2) as mos_p5,
           min(l.mos) as mos_min,
           round(100.0 * count(*) filter (where l.mos < 3.5) / nullif(count(l.mos), 0), 2) as poor_percent,
           round((percentile_cont(0.5) within group (order by l.jitter))::numeric, 2) as jitter_median,
           round((percentile_cont(0.95) within group (order by l.jitter))::numeric, 2) as jitter_p95,
           round((percentile_cont(0.5) within group (order by l.packet_loss))::numeric, 3) as packet_loss_median,
           round((percentile_cont(0.95) within group (order by l.packet_loss))::numeric, 3) as packet_loss_p95,
           max(l.packet_loss) as packet_loss_max
    from vobiz.leg l
    where l.account_id = k.account_id and l.day_at >= k.from_at and l.day_at < k.to_at and (l.answered or l.mos is not null)
    group by l.codec, l.trunk_id, l.call_direction) x;

comment on view   vobiz.quality_day is 'Voice quality of each day by codec, trunk and direction, over the legs that carried media (mos over 0): Vobiz says 0 where there was none, which is not bad quality.';
comment on column vobiz.quality_day.day is 'Day in the billing zone, from its midnight up to the next.';
comment on column vobiz.quality_day.month is 'First day of the month of day.';
comment on column vobiz.quality_day.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.quality_day.account_id is 'Account that owns the calls.';
comment on column vobiz.quality_day.codec is 'PCMU, PCMA, opus, …';
comment on column vobiz.quality_day.trunk_id is 'Trunk; NULL for voice API calls.';
comment on column vobiz.quality_day.call_direction is 'inbound or outbound.';
comment on column vobiz.quality_day.calls is 'Legs that carried media: the denominator of all that follows but the next column.';
comment on column vobiz.quality_day.answered_without_media is 'Legs that were answered and have no quality.';
comment on column vobiz.quality_day.mos_mean is 'Mean opinion score, 1 to 5: the mean, 3 decimals.';
comment on column vobiz.quality_day.mos_median is 'The median, 2 decimals.';
comment on column vobiz.quality_day.mos_p5 is '5 of 100 legs were worse.';
comment on column vobiz.quality_day.mos_min is 'The worst.';
comment on column vobiz.quality_day.poor_percent is 'Legs with mos under 3.5, in percent, 2 decimals.';
comment on column vobiz.quality_day.jitter_median is 'Jitter in milliseconds: the median.';
comment on column vobiz.quality_day.jitter_p95 is '95 of 100 legs had less.';
comment on column vobiz.quality_day.packet_loss_median is 'Packet loss in percent: the median.';
comment on column vobiz.quality_day.packet_loss_p95 is '95 of 100 legs had less.';
comment on column vobiz.quality_day.packet_loss_max is 'The worst.';
