create or replace function vobiz.check_billing_zone() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  begin
    if not vobiz.is_zone(new.billing_zone) then
      raise exception '% is no name of a time zone', quote_literal(new.billing_zone)
        using errcode = 'invalid_parameter_value',
              hint = 'Take one of pg_timezone_names, such as Asia/Kolkata, Europe/London or UTC; abbreviations and offsets mean something else than they seem to.';
    end if;
    return new;
  end $$;
comment on function vobiz.check_billing_zone() is 'Trigger: refuses what is no name of a time zone.';
