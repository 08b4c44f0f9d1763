-- A throttling pause is an hour at most (src/vobiz/header.rs): one that ends later was written under a clock that was wrong.
create or replace function vobiz.is_paused(a vobiz.account) returns boolean
  language sql stable parallel safe
  as $$ select a.pause_reason is not null
                and (a.pause_reason <> 'throttled' or a.paused_until > vobiz.now() and a.paused_until <= vobiz.now() + interval '61 minutes') $$;
comment on function vobiz.is_paused(vobiz.account) is
  'Whether no replica asks for calls of the account for now: a throttling pause ends by itself, the others when a probe succeeds.';
