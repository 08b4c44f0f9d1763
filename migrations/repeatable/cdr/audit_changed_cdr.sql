create or replace function vobiz.audit_changed_cdr() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    insert into vobiz.audit (action, call_id, account_id, detail)
    values ('cdr_changed_by_hand', old.call_id, old.account_id,
            json_build_object('was', vobiz.billed(old), 'is', vobiz.billed(new),
                              'call_id', case when new.call_id <> old.call_id then new.call_id end));
    return null;
  end $$;
comment on function vobiz.audit_changed_cdr() is
  'Trigger: notes a CDR in vobiz.audit whose billed fields were changed without a new version, that is by hand.';
