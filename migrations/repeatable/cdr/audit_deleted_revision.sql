create or replace function vobiz.audit_deleted_revision() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    insert into vobiz.audit (action, call_id, account_id, detail)
    select 'revision_deleted', d.call_id, d.account_id,
           json_build_object('revision', d.revision, 'fetched_at', d.fetched_at, 'source', d.source, 'updated_at', d.updated_at,
                             'day_at', d.day_at, 'call_direction', d.call_direction, 'duration', d.duration, 'billsec', d.billsec,
                             'cost', d.cost, 'streaming_cost', d.streaming_cost, 'total_cost', d.total_cost,
                             'currency', d.currency, 'content_hash', encode(d.content_hash, 'hex'))
    from deleted d;
    return null;
  end $$;
comment on function vobiz.audit_deleted_revision() is
  'Trigger: notes every deleted version in vobiz.audit, without its payload. Dropping a partition is no deletion of rows and fires none.';
