create or replace function vobiz.warn_of_rules(rules bigint[]) returns void
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    used record;
    said integer := 0;
  begin
    for used in
      select u.id, u.field, u.value, u.customer, u.calls, u.like_rules, u.like_calls from vobiz.customer_rule_use u
      where u.id = any (rules) and (u.calls = 0 or u.like_rules <> '{}')
      order by u.id
    loop
      said := said + 1;
      if said > 20 then
        raise warning 'there are more rules like that: vobiz.customer_rule_use shows all';
        exit;
      end if;
      if used.calls = 0 then
        raise warning 'rule % (% = %, %) matches no call so far', used.id, used.field, quote_literal(used.value), quote_literal(used.customer)
          using hint = case when used.like_calls is not null
                            then format('Calls show %L, which differs only by blanks or letter case: update the rule to say exactly that.', used.like_calls)
                            else 'If there should be calls, look at how they show it (select distinct ' || used.field || ' from vobiz.cdr), and at valid_from and valid_to.' end;
      end if;
      if used.like_rules <> '{}' then
        raise warning 'rule % (% = %, %) differs from rule % only by blanks or letter case', used.id, used.field,
          quote_literal(used.value), quote_literal(used.customer), array_to_string(used.like_rules, ', ')
          using hint = 'The bill takes them for different ones: write the name or value alike in all rules, or leave it if they are meant to differ.';
      end if;
    end loop;
  end $$;
comment on function vobiz.warn_of_rules(bigint[]) is
  'Warns whoever changed these rules of those that match no call, and of those that differ from others only by blanks or letter case.';
