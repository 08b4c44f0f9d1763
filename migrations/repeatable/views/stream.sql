create or replace view vobiz.stream as
  select k.day, k.month, k.billing_zone, k.account_id, c.customer, c.call_id, c.day_at, s.number,
         coalesce(s.item ->> 'stream_id', s.item ->> 'id', s.item ->> 'uuid') as stream_id,
         vobiz.read_number(s.item ->> 'billed_amount') as billed_amount,
         c.currency,
         vobiz.read_number(coalesce(s.item ->> 'bill_duration', s.item ->> 'duration')) as bill_duration,
         vobiz.read_number(s.item ->> 'rounded_bill_duration') as rounded_bill_duration,
         coalesce(s.item ->> 'stream_termination_reason', s.item ->> 'termination_reason') as termination_reason,
         c.streaming_cost as call_streaming_cost,
         s.item
  from vobiz.billing_account_day k
  cross join lateral (
    -- The fence keeps the next step from the calls that have no streams.
    select c.customer, c.call_id, c.day_at, c.currency, c.streaming_cost, c.extra
    from vobiz.customer_cdr c
    where c.account_id = k.account_id and c.day_at >= k.from_at and c.day_at < k.to_at
      -- Postgres cannot read keys beside an escaped U+0000.
      and c.extra is not null and c.extra::text like '%stream_cdrs%' and c.extra::text not like '%\\u0000%'
    offset 0) c
  cross join lateral json_array_elements(
    case json_typeof(c.extra -> 'stream_cdrs')
      when 'array' then c.extra -> 'stream_cdrs'
      when 'object' then json_build_array(c.extra -> 'stream_cdrs')
    end) with ordinality s (item, number);

comment on view   vobiz.stream is 'The audio streams of the calls, one row each, from stream_cdrs in the record. Vobiz does not publish its form: what cannot be read is NULL, and item is what came.';
comment on column vobiz.stream.day is 'Day of the call in the billing zone.';
comment on column vobiz.stream.month is 'First day of the month of day.';
comment on column vobiz.stream.billing_zone is 'The zone in which days begin (vobiz.setting).';
comment on column vobiz.stream.account_id is 'Account that owns the call.';
comment on column vobiz.stream.customer is 'Customer by vobiz.customer_rule at the time of the call.';
comment on column vobiz.stream.call_id is 'The call.';
comment on column vobiz.stream.day_at is 'The billing instant of the call.';
comment on column vobiz.stream.number is 'Place of the stream in the record, from 1.';
comment on column vobiz.stream.stream_id is 'Id of the stream.';
comment on column vobiz.stream.billed_amount is 'What the stream cost, in currency, before tax.';
comment on column vobiz.stream.currency is 'Currency of the call.';
comment on column vobiz.stream.bill_duration is 'Seconds streamed.';
comment on column vobiz.stream.rounded_bill_duration is 'Seconds as billed, in whole pulses.';
comment on column vobiz.stream.termination_reason is 'Why the stream ended.';
comment on column vobiz.stream.call_streaming_cost is 'streaming_cost of the whole call: on each of its streams, so never add it up.';
comment on column vobiz.stream.item is 'The stream as it came.';
