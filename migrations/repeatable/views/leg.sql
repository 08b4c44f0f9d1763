create or replace view vobiz.leg as
  -- Since 2011 clocks have been right about the day at every quarter of an hour; before, a few were put over midnight.
  select case when c.day_at >= timestamptz '2011-01-01Z' then (c.day_at at time zone (select s.billing_zone from vobiz.setting s))::date
              else vobiz.billing_day_of(c.day_at, (select s.billing_zone from vobiz.setting s)) end as day,
         (select s.billing_zone from vobiz.setting s) as billing_zone,
         c.call_id, c.account_id, c.listed_by, c.customer, c.day_at, c.call_direction, c.our_number, c.other_number, c.destination_number, c.destination_e164,
         coalesce(p10.prefix, p9.prefix, p8.prefix, p7.prefix, p6.prefix, p5.prefix, p4.prefix, p3.prefix, p2.prefix) as prefix,
         c.trunk_id, c.campaign_id, c.context, c.region, c.origination_region,
         c.start_time, c.progress_time, c.answer_time, c.end_time, c.duration, c.billsec, c.ring_time,
         c.billsec > 0 as answered,
         vobiz.pulse_minutes(c.billsec) as pulse_minutes,
         c.cost, c.streaming_cost, c.total_cost, c.currency,
         c.hangup_cause, c.hangup_cause_code, coalesce(k.name, t.name, c.hangup_cause_name) as hangup_name,
         coalesce(k.outcome, t.outcome, 'unknown') as outcome,
         c.billsec > 0 or coalesce(k.effective, t.effective, false) as effective,
         c.hangup_source, c.hangup_disposition, c.bridge_uuid, c.codec,
         nullif(c.mos, 0) as mos,
         case when c.mos > 0 then c.jitter end as jitter,
         case when c.mos > 0 then c.packet_loss end as packet_loss,
         c.origin, c.stored_at, c.revision,
         vobiz.unclear_fields(c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency, c.start_time, c.end_time,
                              c.notes) as unclear_fields
  from vobiz.customer_cdr c
  left join vobiz.hangup_cause k on k.code = c.hangup_cause_code
  left join vobiz.hangup_cause t on t.cause = c.hangup_cause
  -- One join for each length: three times as fast as one look for the longest, and none of them happens where nobody asks.
  left join vobiz.prefix p10 on p10.prefix = left(c.destination_e164, 10)
  left join vobiz.prefix p9 on p9.prefix = left(c.destination_e164, 9)
  left join vobiz.prefix p8 on p8.prefix = left(c.destination_e164, 8)
  left join vobiz.prefix p7 on p7.prefix = left(c.destination_e164, 7)
  left join vobiz.prefix p6 on p6.prefix = left(c.destination_e164, 6)
  left join vobiz.prefix p5 on p5.prefix = left(c.destination_e164, 5)
  left join vobiz.prefix p4 on p4.prefix = left(c.destination_e164, 4)
  left join vobiz.prefix p3 on p3.prefix = left(c.destination_e164, 3)
  left join vobiz.prefix p2 on p2.prefix = left(c.destination_e164, 2);

comment on view   vobiz.leg is 'One row per CDR, that is per leg, with what the billing views derive from it. The base of all views below. Filter on account_id and day_at (see vobiz.billing_day_start): a condition on day reads all calls of the account.';
comment on column vobiz.leg.day is 'Day of day_at in the billing zone.';
comment on column vobiz.leg.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.leg.call_id is 'Vobiz''s uuid of the call.';
comment on column vobiz.leg.account_id is 'Account that owns the call.';
comment on column vobiz.leg.listed_by is 'Configured account whose list or path showed it.';
comment on column vobiz.leg.customer is 'Customer by vobiz.customer_rule at day_at; ''unassigned'' where no rule fits.';
comment on column vobiz.leg.day_at is 'The billing instant: start_time, else end_time, created_at, stored_at.';
comment on column vobiz.leg.call_direction is 'inbound or outbound.';
comment on column vobiz.leg.our_number is 'The number on our side: caller of outbound calls, destination of inbound ones.';
comment on column vobiz.leg.other_number is 'The number on the other side.';
comment on column vobiz.leg.destination_number is 'Destination as sent.';
comment on column vobiz.leg.destination_e164 is 'Destination as E.164; NULL where it is no phone number.';
comment on column vobiz.leg.prefix is 'Longest match of destination_e164 in vobiz.prefix; NULL without one.';
comment on column vobiz.leg.trunk_id is 'Trunk; NULL for voice API calls.';
comment on column vobiz.leg.campaign_id is 'Campaign.';
comment on column vobiz.leg.context is 'voice-api, sip-trunking, …';
comment on column vobiz.leg.region is 'Region such as ap-south-1.';
comment on column vobiz.leg.origination_region is 'Place such as mumbai.';
comment on column vobiz.leg.start_time is 'Start of the call.';
comment on column vobiz.leg.progress_time is 'First progress, that is ringing.';
comment on column vobiz.leg.answer_time is 'When it was answered; NULL if it was not.';
comment on column vobiz.leg.end_time is 'End of the call.';
comment on column vobiz.leg.duration is 'Seconds, ringing and talking together.';
comment on column vobiz.leg.billsec is 'Seconds talked.';
comment on column vobiz.leg.ring_time is 'Seconds until answer or end.';
comment on column vobiz.leg.answered is 'Whether billsec is more than 0; NULL where billsec is: then nobody knows.';
comment on column vobiz.leg.pulse_minutes is 'billsec rounded up to whole minutes (pulse of 60 s); NULL where billsec is.';
comment on column vobiz.leg.cost is 'Cost of the leg in currency, before tax.';
comment on column vobiz.leg.streaming_cost is 'Cost of audio streaming in currency, before tax.';
comment on column vobiz.leg.total_cost is 'Total in currency, before tax, as Vobiz states it.';
comment on column vobiz.leg.currency is 'Currency of the three costs.';
comment on column vobiz.leg.hangup_cause is 'Text cause.';
comment on column vobiz.leg.hangup_cause_code is 'Vobiz''s hangup code.';
comment on column vobiz.leg.hangup_name is 'Name of the code, else of the text (vobiz.hangup_cause), else what the CDR calls it.';
comment on column vobiz.leg.outcome is 'Our grouping of the code, else of the text; unknown where neither is listed.';
comment on column vobiz.leg.effective is 'Answered, or the network did its work (busy, no answer, …): the numerator of the NER. NULL where billsec is and the cause does not say so.';
comment on column vobiz.leg.hangup_source is 'Who ended it.';
comment on column vobiz.leg.hangup_disposition is 'How it was ended.';
comment on column vobiz.leg.bridge_uuid is 'Id shared by bridged legs.';
comment on column vobiz.leg.codec is 'PCMU, PCMA, opus, …';
comment on column vobiz.leg.mos is 'Mean opinion score, 1 to 5; NULL where no media flowed (Vobiz says 0).';
comment on column vobiz.leg.jitter is 'Jitter in milliseconds; NULL where no media flowed.';
comment on column vobiz.leg.packet_loss is 'Packet loss in percent; NULL where no media flowed.';
comment on column vobiz.leg.origin is 'Who stored it first: callback, sweep, backfill or manual.';
comment on column vobiz.leg.stored_at is 'When the first version was stored.';
comment on column vobiz.leg.revision is 'Number of versions kept.';
comment on column vobiz.leg.unclear_fields is 'Fields of the bill that could not be read: seconds, amounts, currency, or day_at without start and end; empty for a clear call. vobiz.unclear says what came, and why.';
