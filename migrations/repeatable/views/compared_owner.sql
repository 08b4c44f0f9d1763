create or replace view vobiz.compared_owner as
  select a.account_id, o.account_id as owner
  from vobiz.account a cross join vobiz.call_owner o
  where o.account_id = a.account_id or not exists (select from vobiz.account x where x.account_id = o.account_id and x.retired_at is null);

comment on view   vobiz.compared_owner is 'Owners of calls that only the list of an account can show: itself, and accounts that are not configured or retired (of these, the calls that its list showed).';
comment on column vobiz.compared_owner.account_id is 'The account whose list is compared.';
comment on column vobiz.compared_owner.owner is 'The account that owns the calls.';
