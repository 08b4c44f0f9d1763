-- Rules and calls must not change past one another: a call that is being stored while a rule changes would be counted by the one
-- and missed by the other. Writers of calls share this lock, and a change of rules waits for them and keeps them waiting. It is
-- good only where each statement sees what was committed before it.
-- It is a lock on the table to which both are about to write, so that nobody can take it who may not write there. (Not the table
-- of the rules: two changes have that already when they come here, and each would wait for the other.)
create or replace function vobiz.lock_customer_rule(change boolean) returns void
  language plpgsql
  as $$
  begin
    if change then
      lock table vobiz.rollup_delta in share row exclusive mode;
    else
      lock table vobiz.rollup_delta in row exclusive mode;
    end if;
    perform vobiz.need_read_committed();
  end $$;
comment on function vobiz.lock_customer_rule(boolean) is
  'Until the end of the transaction, no rule changes (false), or no call changes either (true). Refuses transactions with one snapshot for all statements.';
