create or replace function vobiz.billed(c vobiz.cdr) returns json
  language sql stable
  as $$
    select json_build_object(
      'account_id', c.account_id, 'day_at', c.day_at, 'call_direction', c.call_direction, 'duration', c.duration,
      'billsec', c.billsec, 'cost', c.cost, 'streaming_cost', c.streaming_cost, 'total_cost', c.total_cost, 'currency', c.currency)
  $$;
comment on function vobiz.billed(vobiz.cdr) is 'The billed fields of a CDR as JSON: seconds, and amounts in currency before tax.';
