create or replace function vobiz.is_paused_for(a vobiz.account, asking uuid) returns boolean
  language sql stable parallel safe
  as $$
    select vobiz.is_paused(a) or exists (
      select from vobiz.account_replica r
      where r.account_id = a.account_id and r.replica = asking and vobiz.is_paused_alone(r))
  $$;
comment on function vobiz.is_paused_for(vobiz.account, uuid) is
  'Whether a replica asks for no calls of the account for now: all are paused, or it alone is.';
