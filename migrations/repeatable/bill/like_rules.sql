create or replace function vobiz.like_rules(r vobiz.customer_rule) returns bigint[]
  language sql stable
  as $$
    select array(select o.id from vobiz.customer_rule o
                 where o.id <> r.id
                   and ((o.customer <> r.customer and vobiz.alike(o.customer) = vobiz.alike(r.customer))
                        or (o.field = r.field and o.value <> r.value and not o.forms && r.forms and vobiz.alike(o.value) = vobiz.alike(r.value)))
                 order by o.id)
  $$;
comment on function vobiz.like_rules(vobiz.customer_rule) is
  'The rules whose customer or value differs from those of this one only by blanks or letter case.';
