create or replace function vobiz.is_live(r vobiz.account_replica) returns boolean
  language sql stable parallel safe
  as $$ select r.duty <> 'receive' and vobiz.is_there(r) $$;
comment on function vobiz.is_live(vobiz.account_replica) is
  'Whether the process is there and asks Vobiz for the account. One that only takes callbacks is no voice in its pause.';
