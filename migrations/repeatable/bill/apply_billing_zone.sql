create or replace function vobiz.apply_billing_zone() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    -- A forgotten psql would keep everything from being folded.
    perform set_config('idle_in_transaction_session_timeout', '30s', true);
    perform vobiz.recompute_rollup_day();
    -- Days of the ledger lie in the billing zone, where Vobiz's lists have not said otherwise. Last, because writers wait from here on.
    perform vobiz.recompute_provider_day(a.account_id, a.day_of = 'start_time') from vobiz.account a
    where a.day_offset is null and exists (select from vobiz.provider_day d where d.account_id = a.account_id);
    return null;
  end $$;
comment on function vobiz.apply_billing_zone() is
  'Trigger: recomputes vobiz.rollup_day, and the ledger of accounts whose zone is not inferred, by the zone that holds from now on. A transaction that then does nothing for 30 seconds is ended.';
