-- The CDRs: Vobiz's fields under Vobiz's names, and beside them what we know about how we came to have them.

create table vobiz.cdr (
  call_id            text primary key check (length(call_id) between 1 and 280),
  vobiz_id           bigint,
  account_id         text not null,
  call_direction     text,
  caller_id_name     text,
  caller_id_number   text,
  destination_number text,
  start_time         timestamptz,
  progress_time      timestamptz,
  answer_time        timestamptz,
  end_time           timestamptz,
  duration           integer,
  billsec            integer,
  ring_time          integer,
  cost               numeric,
  streaming_cost     numeric,
  total_cost         numeric,
  currency           text,
  hangup_cause       text,
  hangup_cause_code  integer,
  hangup_cause_name  text,
  hangup_disposition text,
  hangup_source      text,
  failure_code       text,
  failure_reason     text,
  bridge_uuid        text,
  sip_call_id        text,
  sip_user_agent     text,
  codec              text,
  mos                numeric,
  jitter             numeric,
  packet_loss        numeric,
  network_addr       text,
  carrier_ip         text,
  context            text,
  region             text,
  origination_region text,
  campaign_id        text,
  customer_endpoint  text,
  trunk_id           text,
  terminated_to      text,
  created_at         timestamptz,
  updated_at         timestamptz,
  caller_e164        text,
  destination_e164   text,
  our_number         text generated always as (
                       case call_direction
                         when 'inbound'  then coalesce(destination_e164, destination_number)
                         when 'outbound' then coalesce(caller_e164, caller_id_number)
                       end) stored,
  other_number       text generated always as (
                       case call_direction
                         when 'inbound'  then coalesce(caller_e164, caller_id_number)
                         when 'outbound' then coalesce(destination_e164, destination_number)
                       end) stored,
  extra              json,
  notes              text[] not null default '{}',
  listed_by          text not null,
  origin             text not null check (origin in ('callback', 'sweep', 'backfill', 'manual')),
  first_callback_at  timestamptz,
  attempts           integer not null check (attempts >= 0),
  stored_at          timestamptz not null default vobiz.now(),
  fetched_at         timestamptz not null,
  revision           integer not null check (revision >= 1),
  content_hash       bytea not null check (length(content_hash) = 32),
  day_at             timestamptz not null
                     generated always as (coalesce(start_time, end_time, created_at, stored_at)) stored
);
create index cdr_day_at on vobiz.cdr (account_id, day_at);
-- Calls of more than a day: by its end such a one lies in a day that no look a day back finds.
create index cdr_long on vobiz.cdr (account_id, end_time) where end_time - start_time > interval '1 day';
-- As vobiz.unclear says it.
create index cdr_unclear on vobiz.cdr (account_id, day_at)
  where notes <> '{}' or duration is null or billsec is null or (start_time is null and end_time is null);

comment on table  vobiz.cdr is 'One row per CDR, the newest version of it; every version lies in vobiz.cdr_revision. NULL means that Vobiz said nothing, or what it said could not be read (see notes).';
comment on column vobiz.cdr.call_id is 'Vobiz''s uuid of the call: text, not always a UUID. A further record of the same uuid, told apart by its number, is kept as uuid~number.';
comment on column vobiz.cdr.vobiz_id is 'Vobiz''s internal number of the record (its field id).';
comment on column vobiz.cdr.account_id is 'Account that owns the call, as the CDR says; else the account that was asked.';
comment on column vobiz.cdr.call_direction is 'inbound or outbound; other values are kept as they come.';
comment on column vobiz.cdr.caller_id_name is 'Caller name as sent: a name, digits or empty.';
comment on column vobiz.cdr.caller_id_number is 'Caller as sent; normalised in caller_e164.';
comment on column vobiz.cdr.destination_number is 'Destination as sent: a number or a SIP identifier; normalised in destination_e164.';
comment on column vobiz.cdr.start_time is 'Start of the call (Vobiz sends UTC).';
comment on column vobiz.cdr.progress_time is 'First progress, that is ringing.';
comment on column vobiz.cdr.answer_time is 'When it was answered; NULL if it was not.';
comment on column vobiz.cdr.end_time is 'End of the call.';
comment on column vobiz.cdr.duration is 'Seconds, ringing and talking together.';
comment on column vobiz.cdr.billsec is 'Seconds talked; 0 means not answered.';
comment on column vobiz.cdr.ring_time is 'Seconds until answer or end.';
comment on column vobiz.cdr.cost is 'Cost of this leg in currency, before tax, to the last digit sent. An unanswered call can cost money.';
comment on column vobiz.cdr.streaming_cost is 'Cost of audio streaming in currency, before tax.';
comment on column vobiz.cdr.total_cost is 'Total in currency, before tax, as Vobiz states it; never recomputed.';
comment on column vobiz.cdr.currency is 'Currency of the three costs (INR); never add different ones.';
comment on column vobiz.cdr.hangup_cause is 'Text cause such as NORMAL_CLEARING; an open list.';
comment on column vobiz.cdr.hangup_cause_code is 'Vobiz''s hangup code such as 4000; an open list.';
comment on column vobiz.cdr.hangup_cause_name is 'Vobiz''s name of the code such as Normal Hangup.';
comment on column vobiz.cdr.hangup_disposition is 'send_bye, recv_bye, send_cancel, send_refuse, answered, …; an open list.';
comment on column vobiz.cdr.hangup_source is 'Who ended it: Caller, Callee, Carrier, Vobiz, Error, …; not reliable on conference legs.';
comment on column vobiz.cdr.failure_code is 'Failure code as text; Q.850 numbers were seen.';
comment on column vobiz.cdr.failure_reason is 'Failure reason such as NO_ANSWER.';
comment on column vobiz.cdr.bridge_uuid is 'Id shared by bridged legs; NULL when unanswered.';
comment on column vobiz.cdr.sip_call_id is 'SIP Call-ID.';
comment on column vobiz.cdr.sip_user_agent is 'SIP user agent.';
comment on column vobiz.cdr.codec is 'PCMU, PCMA, opus, …; set even on unanswered calls.';
comment on column vobiz.cdr.mos is 'Mean opinion score, 1 to 5; 0 means that no media flowed, not bad quality.';
comment on column vobiz.cdr.jitter is 'Jitter in milliseconds.';
comment on column vobiz.cdr.packet_loss is 'Packet loss in percent.';
comment on column vobiz.cdr.network_addr is 'Network address as text.';
comment on column vobiz.cdr.carrier_ip is 'Carrier address as text.';
comment on column vobiz.cdr.context is 'voice-api, sip-trunking, …';
comment on column vobiz.cdr.region is 'Region such as ap-south-1.';
comment on column vobiz.cdr.origination_region is 'Place such as mumbai.';
comment on column vobiz.cdr.campaign_id is 'Campaign, where the call belongs to one.';
comment on column vobiz.cdr.customer_endpoint is 'Customer endpoint as sent.';
comment on column vobiz.cdr.trunk_id is 'Trunk; NULL for voice API calls.';
comment on column vobiz.cdr.terminated_to is 'Forward target.';
comment on column vobiz.cdr.created_at is 'When Vobiz wrote the record.';
comment on column vobiz.cdr.updated_at is 'When Vobiz last changed the record: the first thing by which versions are ordered.';
comment on column vobiz.cdr.caller_e164 is 'Caller as E.164 with +, by vobiz.setting.home_country; NULL where it is no phone number.';
comment on column vobiz.cdr.destination_e164 is 'Destination as E.164 with +; NULL where it is no phone number.';
comment on column vobiz.cdr.our_number is 'The number on our side: destination of inbound calls, caller of outbound ones.';
comment on column vobiz.cdr.other_number is 'The number on the other side.';
comment on column vobiz.cdr.extra is 'Keys of the record that have no column here, as they came.';
comment on column vobiz.cdr.notes is 'What could not be read and why, one line a field; empty if all was clear.';
comment on column vobiz.cdr.listed_by is 'Configured account whose list or path showed the record (a parent may show calls of its sub-accounts).';
comment on column vobiz.cdr.origin is 'How we came to know of it: callback (one announced it before a fetch or a list stored it), sweep (a list showed it and nothing had announced it), backfill or manual.';
comment on column vobiz.cdr.first_callback_at is 'When the first callback for the call was committed; NULL if none came.';
comment on column vobiz.cdr.attempts is 'Single fetches answered for it until it was stored the first time; 0 if a list brought it before the first one.';
comment on column vobiz.cdr.stored_at is 'When the first version was stored.';
comment on column vobiz.cdr.fetched_at is 'When the newest confirmation of this version was asked for, by the clock of Postgres.';
comment on column vobiz.cdr.revision is 'Number of versions kept in vobiz.cdr_revision.';
comment on column vobiz.cdr.content_hash is 'SHA-256 of the version shown here: its payload with nulls stripped and keys sorted.';
comment on column vobiz.cdr.day_at is 'The billing instant: start_time, else end_time, created_at, stored_at.';
