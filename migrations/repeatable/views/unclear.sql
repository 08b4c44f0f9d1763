create or replace view vobiz.unclear as
  select k.day, k.month, k.billing_zone, k.account_id, x.customer, x.call_id, x.day_at, x.call_direction, x.field, x.why, x.billed, x.lost,
         -- What a note does not quote stands in the newest version that has the field. Of fields that may name a person nothing is shown.
         case when x.is_shown then coalesce(nullif(x.quoted, ''), (
           select nullif(left((r.payload -> x.field)::text, 80), 'null')
           from vobiz.cdr_revision r
           -- Postgres reads no key beside an escaped U+0000 or half of a surrogate pair.
           where r.call_id = x.call_id
             and case when r.payload::text !~* '\\u(0000|d[89a-f])' then (r.payload -> x.field) is not null else false end
           order by r.revision desc limit 1)) end as came
  from vobiz.billing_account_day k
  cross join lateral (
    select c.customer, c.call_id, c.day_at, c.call_direction, f.field, f.why, f.quoted,
           f.field = any (vobiz.unclear_fields(c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency,
                                               c.start_time, c.end_time, c.notes)) as billed,
           f.field in (
             'id', 'account_id', 'call_direction', 'start_time', 'progress_time', 'answer_time', 'end_time', 'created_at', 'updated_at',
             'duration', 'billsec', 'ring_time', 'cost', 'streaming_cost', 'total_cost', 'currency', 'hangup_cause', 'hangup_cause_code',
             'hangup_cause_name', 'hangup_disposition', 'hangup_source', 'failure_code', 'failure_reason', 'bridge_uuid', 'codec', 'mos',
             'jitter', 'packet_loss', 'context', 'region', 'origination_region', 'campaign_id', 'trunk_id') as is_shown,
           -- A record that names no owner that can be read is taken for one of the account that was asked.
           f.field in ('account_id', 'day_at') or f.field = any (array_remove(array[
             case when c.vobiz_id is null then 'id' end,
             case when c.call_direction is null then 'call_direction' end,
             case when c.caller_id_name is null then 'caller_id_name' end,
             case when c.caller_id_number is null then 'caller_id_number' end,
             case when c.caller_e164 is null then 'caller_e164' end,
             case when c.destination_number is null then 'destination_number' end,
             case when c.destination_e164 is null then 'destination_e164' end,
             case when c.start_time is null then 'start_time' end,
             case when c.progress_time is null then 'progress_time' end,
             case when c.answer_time is null then 'answer_time' end,
             case when c.end_time is null then 'end_time' end,
             case when c.created_at is null then 'created_at' end,
             case when c.updated_at is null then 'updated_at' end,
             case when c.duration is null then 'duration' end,
             case when c.billsec is null then 'billsec' end,
             case when c.ring_time is null then 'ring_time' end,
             case when c.cost is null then 'cost' end,
             case when c.streaming_cost is null then 'streaming_cost' end,
             case when c.total_cost is null then 'total_cost' end,
             case when c.currency is null then 'currency' end,
             case when c.hangup_cause is null then 'hangup_cause' end,
             case when c.hangup_cause_code is null then 'hangup_cause_code' end,
             case when c.hangup_cause_name is null then 'hangup_cause_name' end,
             case when c.hangup_disposition is null then 'hangup_disposition' end,
             case when c.hangup_source is null then 'hangup_source' end,
             case when c.failure_code is null then 'failure_code' end,
             case when c.failure_reason is null then 'failure_reason' end,
             case when c.bridge_uuid is null then 'bridge_uuid' end,
             case when c.sip_call_id is null then 'sip_call_id' end,
             case when c.sip_user_agent is null then 'sip_user_agent' end,
             case when c.codec is null then 'codec' end,
             case when c.mos is null then 'mos' end,
             case when c.jitter is null then 'jitter' end,
             case when c.packet_loss is null then 'packet_loss' end,
             case when c.network_addr is null then 'network_addr' end,
             case when c.carrier_ip is null then 'carrier_ip' end,
             case when c.context is null then 'context' end,
             case when c.region is null then 'region' end,
             case when c.origination_region is null then 'origination_region' end,
             case when c.campaign_id is null then 'campaign_id' end,
             case when c.customer_endpoint is null then 'customer_endpoint' end,
             case when c.trunk_id is null then 'trunk_id' end,
             case when c.terminated_to is null then 'terminated_to' end], null)) as lost
    from vobiz.customer_cdr c
    cross join lateral (
      -- `field: why: what came`
      select split_part(n.note, ': ', 1) as field, split_part(n.note, ': ', 2) as why,
             substr(n.note, length(split_part(n.note, ': ', 1)) + length(split_part(n.note, ': ', 2)) + 5) as quoted
      from unnest(c.notes) n (note)
      union all
      -- What is missing without a note.
      select u.field, case u.field when 'day_at' then 'neither start nor end: billed by when the record was made' else 'not stated' end, ''
      from unnest(vobiz.unclear_fields(c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency, c.start_time,
                                       c.end_time, c.notes)) u (field)
      where not vobiz.has_note(c.notes, u.field)) f
    -- As the index cdr_unclear has it.
    where c.account_id = k.account_id and c.day_at >= k.from_at and c.day_at < k.to_at
      and (c.notes <> '{}' or c.duration is null or c.billsec is null or (c.start_time is null and c.end_time is null))) x;

comment on view   vobiz.unclear is 'What could not be read of a call, or only from an odd spelling: one row a note, and one for seconds or times that are missing without one. The calls with a row where billed is true are those that the bill counts as unclear. Of fields that may name a person neither what came nor what the note quotes is shown: see vobiz.cdr.notes.';
comment on column vobiz.unclear.day is 'Day in the billing zone, from its midnight up to the next.';
comment on column vobiz.unclear.month is 'First day of the month of day.';
comment on column vobiz.unclear.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.unclear.account_id is 'Account that owns the call.';
comment on column vobiz.unclear.customer is 'Customer by vobiz.customer_rule at the time of the call; ''unassigned'' where no rule fits.';
comment on column vobiz.unclear.call_id is 'The call.';
comment on column vobiz.unclear.day_at is 'The billing instant.';
comment on column vobiz.unclear.call_direction is 'inbound or outbound.';
comment on column vobiz.unclear.field is 'The field of the record, by Vobiz''s name; day_at where there is neither start nor end; payload for the record as a whole.';
comment on column vobiz.unclear.why is 'What is the matter, as the note says it; ''not stated'' where the record says nothing.';
comment on column vobiz.unclear.billed is 'Whether this makes the call unclear to the bill (billing_day.unclear): seconds, an amount or currency, or the day.';
comment on column vobiz.unclear.lost is 'Whether the value was lost: the column is NULL (of account_id, the account that was asked; of day_at, when the record was made). False: it was read all the same.';
comment on column vobiz.unclear.came is 'What came, as it was written, cut to about 80 characters; NULL where nothing came, where it may name a person, or where Postgres cannot show it.';
