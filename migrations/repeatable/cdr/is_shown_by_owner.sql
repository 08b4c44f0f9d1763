create or replace function vobiz.is_shown_by_owner(c vobiz.cdr) returns boolean
  language sql stable parallel safe
  as $$
    select c.listed_by = c.account_id and c.account_id like 'SA\_%'
           and exists (select from vobiz.account a where a.account_id = c.account_id and a.retired_at is null)
  $$;
comment on function vobiz.is_shown_by_owner(vobiz.cdr) is
  'Whether the call is of a sub-account that is asked by itself, and what is shown of it is what its own list or record said.';
