create or replace view vobiz.compared_owner as
  with recursive owner as (
    select min(account_id) as id from vobiz.cdr
    union all
    select (select min(c.account_id) from vobiz.cdr c where c.account_id > o.id) from owner o where o.id is not null
  )
  select a.account_id, o.id as owner
  from vobiz.account a cross join owner o
  where o.id = a.account_id or not exists (select from vobiz.account x where x.account_id = o.id);

comment on view   vobiz.compared_owner is 'Owners of calls that only the list of an account can show: itself, and accounts that are not configured (of these, the calls that its list showed).';
comment on column vobiz.compared_owner.account_id is 'The account whose list is compared.';
comment on column vobiz.compared_owner.owner is 'The account that owns the calls.';
