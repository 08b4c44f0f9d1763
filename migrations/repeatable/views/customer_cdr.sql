-- No two rules for the same thing and time: at most one row of each join fits.
create or replace view vobiz.customer_cdr as
  select c.call_id, c.vobiz_id, c.account_id, c.call_direction, c.caller_id_name, c.caller_id_number, c.destination_number,
         c.start_time, c.progress_time, c.answer_time, c.end_time, c.duration, c.billsec, c.ring_time, c.cost, c.streaming_cost,
         c.total_cost, c.currency, c.hangup_cause, c.hangup_cause_code, c.hangup_cause_name, c.hangup_disposition,
         c.hangup_source, c.failure_code, c.failure_reason, c.bridge_uuid, c.sip_call_id, c.sip_user_agent, c.codec, c.mos,
         c.jitter, c.packet_loss, c.network_addr, c.carrier_ip, c.context, c.region, c.origination_region, c.campaign_id,
         c.customer_endpoint, c.trunk_id, c.terminated_to, c.created_at, c.updated_at, c.caller_e164, c.destination_e164,
         c.our_number, c.other_number, c.extra, c.notes, c.listed_by, c.origin, c.first_callback_at, c.attempts, c.stored_at,
         c.fetched_at, c.revision, c.content_hash, c.day_at,
         vobiz.first_rule(n.customer, k.customer, t.customer, a.customer) as customer
  from vobiz.cdr c
  left join vobiz.number_rule n on n.form = c.our_number and vobiz.rule_is_valid(n.valid_from, n.valid_to, c.day_at)
  left join vobiz.customer_rule k on vobiz.rule_holds(k, 'campaign_id', c.campaign_id, c.day_at)
  left join vobiz.customer_rule t on vobiz.rule_holds(t, 'trunk_id', c.trunk_id, c.day_at)
  left join vobiz.customer_rule a on vobiz.rule_holds(a, 'account_id', c.account_id, c.day_at);

comment on view   vobiz.customer_cdr is 'Every CDR with the customer it belongs to, by vobiz.customer_rule.';
comment on column vobiz.customer_cdr.call_id is 'Vobiz''s uuid of the call: text, not always a UUID.';
comment on column vobiz.customer_cdr.vobiz_id is 'Vobiz''s internal number of the record (its field id).';
comment on column vobiz.customer_cdr.account_id is 'Account that owns the call, as the CDR says; else the account that was asked.';
comment on column vobiz.customer_cdr.call_direction is 'inbound or outbound; other values are kept as they come.';
comment on column vobiz.customer_cdr.caller_id_name is 'Caller name as sent: a name, digits or empty.';
comment on column vobiz.customer_cdr.caller_id_number is 'Caller as sent; normalised in caller_e164.';
comment on column vobiz.customer_cdr.destination_number is 'Destination as sent: a number or a SIP identifier; normalised in destination_e164.';
comment on column vobiz.customer_cdr.start_time is 'Start of the call (Vobiz sends UTC).';
comment on column vobiz.customer_cdr.progress_time is 'First progress, that is ringing.';
comment on column vobiz.customer_cdr.answer_time is 'When it was answered; NULL if it was not.';
comment on column vobiz.customer_cdr.end_time is 'End of the call.';
comment on column vobiz.customer_cdr.duration is 'Seconds, ringing and talking together.';
comment on column vobiz.customer_cdr.billsec is 'Seconds talked; 0 means not answered.';
comment on column vobiz.customer_cdr.ring_time is 'Seconds until answer or end.';
comment on column vobiz.customer_cdr.cost is 'Cost of this leg in currency, before tax, to the last digit sent. An unanswered call can cost money.';
comment on column vobiz.customer_cdr.streaming_cost is 'Cost of audio streaming in currency, before tax.';
comment on column vobiz.customer_cdr.total_cost is 'Total in currency, before tax, as Vobiz states it; never recomputed.';
comment on column vobiz.customer_cdr.currency is 'Currency of the three costs (INR); never add different ones.';
comment on column vobiz.customer_cdr.hangup_cause is 'Text cause such as NORMAL_CLEARING; an open list.';
comment on column vobiz.customer_cdr.hangup_cause_code is 'Vobiz''s hangup code such as 4000; an open list.';
comment on column vobiz.customer_cdr.hangup_cause_name is 'Vobiz''s name of the code such as Normal Hangup.';
comment on column vobiz.customer_cdr.hangup_disposition is 'send_bye, recv_bye, send_cancel, send_refuse, answered, …; an open list.';
comment on column vobiz.customer_cdr.hangup_source is 'Who ended it: Caller, Callee, Carrier, Vobiz, Error, …; not reliable on conference legs.';
comment on column vobiz.customer_cdr.failure_code is 'Failure code as text; Q.850 numbers were seen.';
comment on column vobiz.customer_cdr.failure_reason is 'Failure reason such as NO_ANSWER.';
comment on column vobiz.customer_cdr.bridge_uuid is 'Id shared by bridged legs; NULL when unanswered.';
comment on column vobiz.customer_cdr.sip_call_id is 'SIP Call-ID.';
comment on column vobiz.customer_cdr.sip_user_agent is 'SIP user agent.';
comment on column vobiz.customer_cdr.codec is 'PCMU, PCMA, opus, …; set even on unanswered calls.';
comment on column vobiz.customer_cdr.mos is 'Mean opinion score, 1 to 5; 0 means that no media flowed, not bad quality.';
comment on column vobiz.customer_cdr.jitter is 'Jitter in milliseconds.';
comment on column vobiz.customer_cdr.packet_loss is 'Packet loss in percent.';
comment on column vobiz.customer_cdr.network_addr is 'Network address as text.';
comment on column vobiz.customer_cdr.carrier_ip is 'Carrier address as text.';
comment on column vobiz.customer_cdr.context is 'voice-api, sip-trunking, …';
comment on column vobiz.customer_cdr.region is 'Region such as ap-south-1.';
comment on column vobiz.customer_cdr.origination_region is 'Place such as mumbai.';
comment on column vobiz.customer_cdr.campaign_id is 'Campaign, where the call belongs to one.';
comment on column vobiz.customer_cdr.customer_endpoint is 'Customer endpoint as sent.';
comment on column vobiz.customer_cdr.trunk_id is 'Trunk; NULL for voice API calls.';
comment on column vobiz.customer_cdr.terminated_to is 'Forward target.';
comment on column vobiz.customer_cdr.created_at is 'When Vobiz wrote the record.';
comment on column vobiz.customer_cdr.updated_at is 'When Vobiz last changed the record: the first thing by which versions are ordered.';
comment on column vobiz.customer_cdr.caller_e164 is 'Caller as E.164 with +, by vobiz.setting.home_country; NULL where it is no phone number.';
comment on column vobiz.customer_cdr.destination_e164 is 'Destination as E.164 with +; NULL where it is no phone number.';
comment on column vobiz.customer_cdr.our_number is 'The number on our side: destination of inbound calls, caller of outbound ones.';
comment on column vobiz.customer_cdr.other_number is 'The number on the other side.';
comment on column vobiz.customer_cdr.extra is 'Keys of the record that have no column here, as they came.';
comment on column vobiz.customer_cdr.notes is 'What could not be read and why, one line a field; empty if all was clear.';
comment on column vobiz.customer_cdr.listed_by is 'Configured account whose list or path showed the record (a parent may show calls of its sub-accounts).';
comment on column vobiz.customer_cdr.origin is 'How we came to know of it: callback (one announced it before a fetch or a list stored it), sweep (a list showed it and nothing had announced it), backfill or manual.';
comment on column vobiz.customer_cdr.first_callback_at is 'When the first callback for the call was committed; NULL if none came.';
comment on column vobiz.customer_cdr.attempts is 'Single fetches answered for it until it was stored the first time; 0 if a list brought it before the first one.';
comment on column vobiz.customer_cdr.stored_at is 'When the first version was stored.';
comment on column vobiz.customer_cdr.fetched_at is 'When the newest confirmation of this version was asked for, by the clock of Postgres.';
comment on column vobiz.customer_cdr.revision is 'Number of versions kept in vobiz.cdr_revision.';
comment on column vobiz.customer_cdr.content_hash is 'SHA-256 of the version shown here: its payload with nulls stripped and keys sorted.';
comment on column vobiz.customer_cdr.day_at is 'The billing instant: start_time, else end_time, created_at, stored_at.';
comment on column vobiz.customer_cdr.customer is 'The customer, by the rule that holds at day_at; ''unassigned'' where none does.';
