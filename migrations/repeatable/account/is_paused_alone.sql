create or replace function vobiz.is_paused_alone(r vobiz.account_replica) returns boolean
  language sql stable parallel safe
  as $$ select r.pause_reason is not null
               and (r.pause_reason <> 'throttled' or r.probe_at > vobiz.now() and r.probe_at <= vobiz.now() + interval '61 minutes') $$;
comment on function vobiz.is_paused_alone(vobiz.account_replica) is
  'Whether the process asks for no calls of the account for now, by what it sees itself.';
