create or replace function vobiz.renew_number_forms() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    -- Before the statement looks: a rule that is being written meanwhile is read anew, too.
    perform vobiz.lock_customer_rule(true);
    update vobiz.customer_rule set value = value where field = 'our_number';
    return null;
  end $$;
comment on function vobiz.renew_number_forms() is 'Trigger: with another home country, rules of own numbers are read anew.';
