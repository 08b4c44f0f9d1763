create or replace function vobiz.is_live(r vobiz.account_replica) returns boolean
  language sql stable parallel safe
  as $$ select r.seen_at > vobiz.now() - interval '150 seconds' and r.seen_at <= vobiz.now() + interval '150 seconds' $$;
comment on function vobiz.is_live(vobiz.account_replica) is
  'Whether the process still looks at the account (by a clock that may have been set back a little since). It does about every twenty seconds; one that sweeps only, every sweep interval.';
