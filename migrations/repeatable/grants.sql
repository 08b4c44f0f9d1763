-- Who may do what. Whom a view shows something is decided here alone: a view reads with the rights of its owner. So the masked role
-- is given views one by one, and nothing that a later version adds reaches it unasked.

-- No function of ours is anybody's to call but by grant, whatever a later version adds. Triggers need none: a writer of the table fires
-- them.
do $$
declare
  routine regprocedure;
begin
  for routine in
    select p.oid from pg_catalog.pg_proc p
    where p.pronamespace = 'vobiz'::regnamespace and has_function_privilege('public', p.oid, 'execute')
  loop
    execute format('revoke execute on routine %s from public', routine);
  end loop;
end $$;

-- Temporary tables and large objects are disk that every login may fill. Who migrates without owning the database, or without being a
-- superuser, cannot take them away: then `vobiz-cdr migrate roles` says by what they are.
do $$
declare
  maker text;
begin
  perform set_config('client_min_messages', 'error', true);
  begin
    if has_database_privilege('public', current_database(), 'temporary') then
      execute format('revoke temporary on database %I from public', current_database());
    end if;
    foreach maker in array array['lo_create(oid)', 'lo_creat(integer)', 'lo_from_bytea(oid, bytea)'] loop
      if has_function_privilege('public', 'pg_catalog.' || maker, 'execute') then
        execute format('revoke execute on function pg_catalog.%s from public', maker);
      end if;
    end loop;
  exception
    when insufficient_privilege then null;
  end;
end $$;

do $$
declare
  relation record;
  routine  regprocedure;
begin
  -- Roles are made by `vobiz-cdr migrate roles`, which then runs this file again.
  if (select count(*) from pg_catalog.pg_roles where rolname in ('vobiz_masked', 'vobiz_finance', 'vobiz_app')) < 3 then
    return;
  end if;
  -- Who may not is told so by the first grant that fails, not by a warning for each table.
  perform set_config('client_min_messages', 'error', true);
  -- What an earlier version gave too much.
  revoke all on all tables in schema vobiz from vobiz_masked, vobiz_finance, vobiz_app;
  grant usage on schema vobiz to vobiz_masked, vobiz_finance, vobiz_app;

  grant select on
    vobiz.billing_day, vobiz.billing_month, vobiz.billing_account_day, vobiz.billing_trunk, vobiz.billing_campaign,
    vobiz.billing_region, vobiz.billing_hangup, vobiz.billing_sub_account,
    vobiz.cost_gap, vobiz.unclear, vobiz.conversation, vobiz.traffic_day, vobiz.quality_day, vobiz.cdr_masked,
    vobiz.cdr_change, vobiz.safe_to_bill, vobiz.billable_day, vobiz.ledger_day, vobiz.callback_loss,
    vobiz.prefix, vobiz.hangup_cause,
    -- Whether a command of ours understands the schema.
    vobiz._sqlx_migrations, vobiz.repeatable,
    -- A function in a view reads with the rights of its reader: these are settings, states of accounts,
    -- bounds of days, and sums.
    vobiz.setting, vobiz.account, vobiz.provider_day_bound, vobiz.rollup, vobiz.rollup_delta
    to vobiz_masked, vobiz_finance;

  grant select on
    -- By the prefix: with a few calls and the last digits of cdr_masked that would be a number.
    vobiz.billing_destination, vobiz.cost_per_minute,
    vobiz.cdr, vobiz.leg, vobiz.stream, vobiz.billing_number, vobiz.customer_cdr, vobiz.customer_rule, vobiz.customer_rule_use,
    vobiz.cdr_revision, vobiz.rollup_day, vobiz.rollup_part, vobiz.rollup_day_part, vobiz.rollup_base, vobiz.provider_day,
    vobiz.ledger_check, vobiz.ledger_total, vobiz.ledger_owner_total, vobiz.ledger_difference, vobiz.safe_to_bill_move, vobiz.wrong_sum,
    vobiz.compared_owner, vobiz.listed_owner, vobiz.unreadable_row,
    vobiz.closed_call, vobiz.audit
    to vobiz_finance;

  for relation in
    select c.oid::regclass as name, c.relkind in ('r', 'p') as is_table,
           -- What happened is written once: these tables, and their partitions, only grow.
           coalesce(pg_partition_root(c.oid), c.oid) in (
             'vobiz.callback'::regclass, 'vobiz.cdr_revision'::regclass, 'vobiz.closed_call'::regclass, 'vobiz.audit'::regclass,
             'vobiz.ledger_check'::regclass, 'vobiz.ledger_total'::regclass, 'vobiz.ledger_owner_total'::regclass,
             'vobiz.ledger_difference'::regclass, 'vobiz.safe_to_bill_move'::regclass, 'vobiz.listed_owner'::regclass,
             'vobiz.unreadable_row'::regclass) as only_grows
    from pg_catalog.pg_class c
    where c.relnamespace = 'vobiz'::regnamespace and c.relkind in ('r', 'p', 'v')
  loop
    -- A view that can be written through would write with the rights of its owner.
    execute format('grant %s on %s to vobiz_app',
                   case when not relation.is_table then 'select'
                        when relation.only_grows then 'select, insert'
                        else 'select, insert, update' end,
                   relation.name);
  end loop;
  -- What the service itself deletes from; and the tables that are the operator's to edit. Calls are among neither.
  grant delete on
    vobiz.account, vobiz.account_pause, vobiz.account_replica, vobiz.backfill, vobiz.cdr_queue, vobiz.listed_call, vobiz.refused_page,
    vobiz.rollup, vobiz.rollup_day, vobiz.rollup_delta, vobiz.task, vobiz.wrong_sum,
    vobiz.customer_rule, vobiz.prefix, vobiz.hangup_cause
    to vobiz_app;
  -- What the service does not do, it may not do.
  revoke all on vobiz.mask_key from vobiz_app;
  revoke insert, update on vobiz._sqlx_migrations, vobiz.repeatable from vobiz_app;
  grant truncate on vobiz.listed_call to vobiz_app;
  grant usage on all sequences in schema vobiz to vobiz_app;

  -- A function in a view is called with the rights of its reader, and reads with them.
  for routine in
    select p.oid from pg_catalog.pg_proc p
    where p.pronamespace = 'vobiz'::regnamespace and not p.prosecdef and p.prorettype <> 'trigger'::regtype
  loop
    execute format('grant execute on routine %s to vobiz_masked, vobiz_finance, vobiz_app', routine);
  end loop;
  grant execute on function vobiz.make_partition(text, date) to vobiz_app;

  -- `reconcile` puts the other side's list into temporary tables.
  execute format('grant temporary on database %I to vobiz_finance, vobiz_app', current_database());
end $$;
