create or replace function vobiz.read_customer_rule() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    zone constant text := (select s.billing_zone from vobiz.setting s);
    home constant text := (select s.home_country from vobiz.setting s);
    nobody constant text := vobiz.first_rule(null, null, null, null);
  begin
    if vobiz.alike(new.customer) in ('', nobody) then
      raise exception '% is no name of a customer', quote_literal(new.customer)
        using errcode = 'check_violation', hint = format('What no rule claims is shown as %L by itself.', nobody);
    elsif vobiz.alike(new.value) = '' then
      raise exception 'a rule whose value is blank matches no call' using errcode = 'check_violation';
    end if;
    new.forms := vobiz.forms_of_rule(new.field, new.value, home);
    if tg_op = 'INSERT' or new.valid_from is distinct from old.valid_from then
      new.valid_from := vobiz.instant_of_rule(new.valid_from, zone, current_query());
    end if;
    if tg_op = 'INSERT' or new.valid_to is distinct from old.valid_to then
      new.valid_to := vobiz.instant_of_rule(new.valid_to, zone, current_query());
    end if;
    return new;
  end $$;
comment on function vobiz.read_customer_rule() is
  'Trigger: a name that nobody could tell from no name is refused; the forms of an own number, and dates without a zone as dates of the billing zone.';
