create or replace function vobiz.safe_to_bill(account text) returns timestamptz
  language sql stable
  as $$ select safe_to from vobiz.safe_to_bill where account_id = account $$;
comment on function vobiz.safe_to_bill(text) is
  'The instant up to which this account is safe to bill: see the view of the same name for what holds it. NULL for an account that is not configured.';
