create or replace function vobiz.is_paused_for(a vobiz.account, asking uuid) returns boolean
  language sql stable parallel safe
  as $$
    select vobiz.is_paused(a) or exists (
      select from vobiz.account_replica r
      where r.account_id = a.account_id and r.replica = asking and r.pause_reason is not null
        and (r.pause_reason <> 'throttled' or r.probe_at > vobiz.now() and r.probe_at <= vobiz.now() + interval '61 minutes'))
  $$;
comment on function vobiz.is_paused_for(vobiz.account, uuid) is
  'Whether a replica asks for no calls of the account for now: all are paused, or it alone is.';
