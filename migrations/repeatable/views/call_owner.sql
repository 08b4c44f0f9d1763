create or replace view vobiz.call_owner as
  with recursive owner as (
    select min(account_id) as id from vobiz.cdr
    union all
    select (select min(c.account_id) from vobiz.cdr c where c.account_id > o.id) from owner o where o.id is not null
  )
  select o.id as account_id from owner o where o.id is not null;

comment on view   vobiz.call_owner is 'Every account that owns a call, by one step in the index each.';
comment on column vobiz.call_owner.account_id is 'The account.';
