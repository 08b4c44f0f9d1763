create or replace function vobiz.begin_customer_rule() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    -- A forgotten psql would hold all of them for ever.
    perform set_config('idle_in_transaction_session_timeout', '30s', true);
    perform vobiz.lock_customer_rule(true);
    return null;
  end $$;
comment on function vobiz.begin_customer_rule() is 'Trigger: waits for those who write calls, and keeps others waiting until the rules are changed. A transaction that then does nothing for 30 seconds is ended.';
