create or replace view vobiz.number_rule as
  select r.id, f.form, r.customer, r.valid_from, r.valid_to
  from vobiz.customer_rule r
  cross join lateral unnest(r.forms) f (form)
  where r.field = 'our_number';

comment on view   vobiz.number_rule is 'The rules of own numbers, a row for each way in which calls may show the number. No two for the same form and time.';
comment on column vobiz.number_rule.id is 'Number of the rule.';
comment on column vobiz.number_rule.form is 'What vobiz.cdr.our_number may say of this number.';
comment on column vobiz.number_rule.customer is 'The customer.';
comment on column vobiz.number_rule.valid_from is 'First billing instant for which the rule holds.';
comment on column vobiz.number_rule.valid_to is 'First billing instant for which it holds no more.';
