-- Who may do what. Whom a view shows something is decided here alone: a view reads with the rights of its owner. So the masked role
-- is given views one by one, and nothing that a later version adds reaches it unasked.

-- What acts with the rights of its owner is nobody's to call but by grant. Triggers need none: a writer of the table fires them.
do $$
declare
  definer regprocedure;
begin
  for definer in select oid from pg_catalog.pg_proc where pronamespace = 'vobiz'::regnamespace and prosecdef loop
    execute format('revoke execute on function %s from public', definer);
  end loop;
end $$;

do $$
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
    vobiz.compared_owner, vobiz.listed_owner,
    vobiz.closed_call, vobiz.audit
    to vobiz_finance;

  grant select, insert, update, delete on all tables in schema vobiz to vobiz_app;
  -- What the service does not do, it may not do.
  revoke all on vobiz.mask_key from vobiz_app;
  revoke insert, update, delete on vobiz._sqlx_migrations, vobiz.repeatable from vobiz_app;
  grant truncate on vobiz.listed_call to vobiz_app;
  grant usage on all sequences in schema vobiz to vobiz_app;
  grant execute on function vobiz.make_partition(text, date) to vobiz_app;
end $$;
