-- A writer who may delete or change rows need not be allowed to write into the audit log; the log names them all the same.
create or replace function vobiz.audit_deleted_cdr() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    insert into vobiz.audit (action, call_id, account_id, detail)
    select 'cdr_deleted', d.call_id, d.account_id,
           json_build_object('was', vobiz.billed(d), 'start_time', d.start_time, 'end_time', d.end_time, 'updated_at', d.updated_at,
                             'stored_at', d.stored_at, 'revision', d.revision, 'content_hash', encode(d.content_hash, 'hex'))
    from deleted d;
    return null;
  end $$;
comment on function vobiz.audit_deleted_cdr() is 'Trigger: notes every deleted CDR in vobiz.audit. Deleting is never silent.';
