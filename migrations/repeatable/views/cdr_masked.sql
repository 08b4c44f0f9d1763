create or replace view vobiz.cdr_masked as
  select l.call_id, l.account_id, l.customer, l.day, l.billing_zone, l.day_at, l.call_direction,
         case when l.our_number ~ '^\+\d{7,15}$' then right(l.our_number, 4) end as our_number_end,
         case when l.other_number ~ '^\+\d{7,15}$' then right(l.other_number, 4) end as other_number_end,
         left(encode(sha256((select m.key from vobiz.mask_key m)
                            || sha256((select m.key from vobiz.mask_key m) || convert_to(l.our_number, 'UTF8'))), 'hex'), 32) as our_number_hash,
         left(encode(sha256((select m.key from vobiz.mask_key m)
                            || sha256((select m.key from vobiz.mask_key m) || convert_to(l.other_number, 'UTF8'))), 'hex'), 32) as other_number_hash,
         -- With the last four digits, a prefix of a few numbers would show who it is.
         case when length(l.destination_e164) >= length(l.prefix) + 8 then l.prefix
              else (select p.prefix from vobiz.prefix p
                    where p.prefix = any (array(select left(l.destination_e164, n) from generate_series(2, 9) n))
                      and length(l.destination_e164) >= length(p.prefix) + 8
                    order by length(p.prefix) desc limit 1) end as prefix,
         l.trunk_id, l.campaign_id, l.context, l.region, l.origination_region,
         l.start_time, l.progress_time, l.answer_time, l.end_time, l.duration, l.billsec, l.ring_time, l.answered, l.pulse_minutes,
         l.cost, l.streaming_cost, l.total_cost, l.currency, l.hangup_cause, l.hangup_cause_code, l.hangup_name, l.outcome,
         l.hangup_source, l.bridge_uuid, l.codec, l.mos, l.jitter, l.packet_loss, l.origin, l.stored_at, l.revision,
         l.unclear_fields
  from vobiz.leg l;

comment on view   vobiz.cdr_masked is 'The calls without who spoke: numbers cut to their last four digits and hashed, no names, SIP ids, addresses, and nothing of the raw record. Pseudonymous, not anonymous: a reader who knows when a person called may find the call.';
comment on column vobiz.cdr_masked.call_id is 'Vobiz''s uuid of the call.';
comment on column vobiz.cdr_masked.account_id is 'Account that owns the call.';
comment on column vobiz.cdr_masked.customer is 'Customer by vobiz.customer_rule at day_at; ''unassigned'' where no rule fits.';
comment on column vobiz.cdr_masked.day is 'Day of day_at in the billing zone.';
comment on column vobiz.cdr_masked.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.cdr_masked.day_at is 'The billing instant: start_time, else end_time, created_at, stored_at.';
comment on column vobiz.cdr_masked.call_direction is 'inbound or outbound.';
comment on column vobiz.cdr_masked.our_number_end is 'Last four digits of the number on our side; NULL where it is no phone number.';
comment on column vobiz.cdr_masked.other_number_end is 'Last four digits of the number on the other side; NULL where it is no phone number.';
comment on column vobiz.cdr_masked.our_number_hash is 'Keyed hash of the number on our side: the same number has the same hash, so repeats can be counted.';
comment on column vobiz.cdr_masked.other_number_hash is 'The same for the other side.';
comment on column vobiz.cdr_masked.prefix is 'Longest match of the number that was called in vobiz.prefix that leaves eight digits or more; NULL without one.';
comment on column vobiz.cdr_masked.trunk_id is 'Trunk; NULL for voice API calls.';
comment on column vobiz.cdr_masked.campaign_id is 'Campaign.';
comment on column vobiz.cdr_masked.context is 'voice-api, sip-trunking, …';
comment on column vobiz.cdr_masked.region is 'Region such as ap-south-1.';
comment on column vobiz.cdr_masked.origination_region is 'Place such as mumbai.';
comment on column vobiz.cdr_masked.start_time is 'Start of the call.';
comment on column vobiz.cdr_masked.progress_time is 'First progress, that is ringing.';
comment on column vobiz.cdr_masked.answer_time is 'When it was answered; NULL if it was not.';
comment on column vobiz.cdr_masked.end_time is 'End of the call.';
comment on column vobiz.cdr_masked.duration is 'Seconds, ringing and talking together.';
comment on column vobiz.cdr_masked.billsec is 'Seconds talked.';
comment on column vobiz.cdr_masked.ring_time is 'Seconds until answer or end.';
comment on column vobiz.cdr_masked.answered is 'Whether billsec is more than 0; NULL where billsec is: then nobody knows.';
comment on column vobiz.cdr_masked.pulse_minutes is 'billsec rounded up to whole minutes (pulse of 60 s); NULL where billsec is.';
comment on column vobiz.cdr_masked.cost is 'Cost of the leg in currency, before tax.';
comment on column vobiz.cdr_masked.streaming_cost is 'Cost of audio streaming in currency, before tax.';
comment on column vobiz.cdr_masked.total_cost is 'Total in currency, before tax, as Vobiz states it.';
comment on column vobiz.cdr_masked.currency is 'Currency of the three costs.';
comment on column vobiz.cdr_masked.hangup_cause is 'Text cause.';
comment on column vobiz.cdr_masked.hangup_cause_code is 'Vobiz''s hangup code.';
comment on column vobiz.cdr_masked.hangup_name is 'Name of the code, else of the text (vobiz.hangup_cause), else what the CDR calls it.';
comment on column vobiz.cdr_masked.outcome is 'Our grouping of the code, else of the text; unknown where neither is listed.';
comment on column vobiz.cdr_masked.hangup_source is 'Who ended it.';
comment on column vobiz.cdr_masked.bridge_uuid is 'Id shared by bridged legs.';
comment on column vobiz.cdr_masked.codec is 'PCMU, PCMA, opus, …';
comment on column vobiz.cdr_masked.mos is 'Mean opinion score, 1 to 5; NULL where no media flowed (Vobiz says 0).';
comment on column vobiz.cdr_masked.jitter is 'Jitter in milliseconds; NULL where no media flowed.';
comment on column vobiz.cdr_masked.packet_loss is 'Packet loss in percent; NULL where no media flowed.';
comment on column vobiz.cdr_masked.origin is 'Who stored it first: callback, sweep, backfill or manual.';
comment on column vobiz.cdr_masked.stored_at is 'When the first version was stored.';
comment on column vobiz.cdr_masked.revision is 'Number of versions kept.';
comment on column vobiz.cdr_masked.unclear_fields is 'Fields of the bill that could not be read; empty for a clear call (vobiz.unclear).';
