-- Rules and calls must not change past one another: a call that is being stored while a rule changes would be counted by the one
-- and missed by the other. Writers of calls share this lock, and a change of rules waits for them and keeps them waiting. It is
-- good only where each statement sees what was committed before it.
create or replace function vobiz.lock_customer_rule(change boolean) returns void
  language plpgsql
  as $$
  begin
    if change then
      perform pg_advisory_xact_lock(hashtextextended('vobiz customer_rule', 0));
    else
      perform pg_advisory_xact_lock_shared(hashtextextended('vobiz customer_rule', 0));
    end if;
    perform vobiz.need_read_committed();
  end $$;
comment on function vobiz.lock_customer_rule(boolean) is
  'Until the end of the transaction, no rule changes (false), or no call changes either (true). Refuses transactions with one snapshot for all statements.';
