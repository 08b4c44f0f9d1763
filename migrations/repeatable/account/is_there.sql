create or replace function vobiz.is_there(r vobiz.account_replica) returns boolean
  language sql stable parallel safe
  as $$ select r.seen_at > vobiz.now() - interval '150 seconds' and r.seen_at <= vobiz.now() + interval '150 seconds' $$;
comment on function vobiz.is_there(vobiz.account_replica) is
  'Whether the process runs and is configured with the account: it says so every fifteen seconds, whatever it does.';
