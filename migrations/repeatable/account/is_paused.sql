create or replace function vobiz.is_paused(a vobiz.account) returns boolean
  language sql stable parallel safe
  as $$ select a.pause_reason is not null and (a.pause_reason <> 'throttled' or a.paused_until > vobiz.now()) $$;
comment on function vobiz.is_paused(vobiz.account) is
  'Whether no calls of the account are asked for now: a throttling pause ends by itself, the others when a probe succeeds.';
