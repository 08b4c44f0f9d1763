create or replace function vobiz.need_read_committed() returns void
  language plpgsql
  as $$
  begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
      raise exception 'neither the ledger nor the bill can be kept exact in a transaction that is %', current_setting('transaction_isolation')
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Change vobiz.cdr and vobiz.customer_rule in a transaction that is read committed.';
    end if;
  end $$;
comment on function vobiz.need_read_committed() is 'Refuses transactions with one snapshot for all statements: they do not see what was committed before a statement of theirs began.';
