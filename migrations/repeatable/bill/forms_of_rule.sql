create or replace function vobiz.forms_of_rule(field text, value text, home text) returns text[]
  language sql immutable parallel safe
  as $$ select case when field = 'our_number' then vobiz.number_forms(value, home) else array[value] end $$;
comment on function vobiz.forms_of_rule(text, text, text) is 'What calls may show that a rule of this field and value is about, by the home country.';
