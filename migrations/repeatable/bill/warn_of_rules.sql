create or replace function vobiz.warn_of_rules(rules bigint[], unused bigint[]) returns void
  language plpgsql stable security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    rule record;
    said integer := 0;
  begin
    for rule in
      select r.id, r.field, r.value, r.customer, r.id = any (unused) as is_unused, vobiz.like_rules(r) as like_rules
      from vobiz.customer_rule r
      where r.id = any (rules) and (r.id = any (unused) or vobiz.like_rules(r) <> '{}')
      order by r.id
    loop
      said := said + 1;
      if said > 20 then
        raise warning 'there are more rules like that: vobiz.customer_rule_use shows all';
        exit;
      end if;
      if rule.is_unused then
        raise warning 'rule % (% = %, %) matches no call so far', rule.id, rule.field, quote_literal(rule.value), quote_literal(rule.customer)
          using hint = 'If there should be calls, look at like_calls in vobiz.customer_rule_use (what calls show that differs only by blanks or letter case), '
                       || 'and at valid_from and valid_to.';
      end if;
      if rule.like_rules <> '{}' then
        raise warning 'rule % (% = %, %) differs from rule % only by blanks or letter case', rule.id, rule.field,
          quote_literal(rule.value), quote_literal(rule.customer), array_to_string(rule.like_rules, ', ')
          using hint = 'The bill takes them for different ones: write the name or value alike in all rules, or leave it if they are meant to differ.';
      end if;
    end loop;
  end $$;
comment on function vobiz.warn_of_rules(bigint[], bigint[]) is
  'Warns whoever changed these rules of those that match no call (the second), and of those that differ from others only by blanks or letter case. Reads no calls.';
