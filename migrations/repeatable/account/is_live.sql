create or replace function vobiz.is_live(r vobiz.account_replica) returns boolean
  language sql stable parallel safe
  as $$ select r.seen_at > vobiz.now() - interval '150 seconds' and r.seen_at <= vobiz.now() + interval '5 seconds' $$;
comment on function vobiz.is_live(vobiz.account_replica) is
  'Whether the process still looks at the account. It does about every twenty seconds; one that sweeps only, every sweep interval.';
