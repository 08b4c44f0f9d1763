create or replace function vobiz.first_rule(own_number text, campaign text, trunk text, account text) returns text
  language sql immutable parallel safe
  as $$ select coalesce(own_number, campaign, trunk, account, 'unassigned') $$;
comment on function vobiz.first_rule(text, text, text, text) is
  'The customer of a call, of the customers that its rules name: that of its own number goes before that of its campaign, its trunk, its account.';
