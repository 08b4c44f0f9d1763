-- All triggers of vobiz.cdr.

-- For each row with a condition, so that fresh calls and confirmed ones cost nothing: no day is settled before it has been over
-- for an hour.
create or replace trigger reopen_day_insert after insert on vobiz.cdr for each row
  -- The time of the statement, not that of a transaction that has begun long before it.
  when (new.day_at < vobiz.now() + (clock_timestamp() - now()) - interval '1 hour')
  execute function vobiz.reopen_day();

create or replace trigger reopen_day_update
  after update of call_id, account_id, call_direction, start_time, end_time, created_at, duration, billsec, cost, streaming_cost,
                  total_cost, currency on vobiz.cdr for each row
  when ((new.call_id, new.account_id, new.day_at, new.end_time, new.created_at, new.call_direction, new.duration, new.billsec, new.cost,
         new.streaming_cost, new.total_cost, new.currency)
        is distinct from
        (old.call_id, old.account_id, old.day_at, old.end_time, old.created_at, old.call_direction, old.duration, old.billsec, old.cost,
         old.streaming_cost, old.total_cost, old.currency))
  execute function vobiz.reopen_day();

create or replace trigger reopen_day_delete after delete on vobiz.cdr for each row
  execute function vobiz.reopen_day();

create or replace trigger cdr_is_not_truncated before truncate on vobiz.cdr
  for each statement execute function vobiz.refuse('it leaves no trace; delete rows, and vobiz.audit keeps what they said');

create or replace trigger deleted_cdr_is_audited after delete on vobiz.cdr
  referencing old table as deleted for each statement execute function vobiz.audit_deleted_cdr();

-- For each row with a condition, not with transition tables: those would copy every row that a sweep only confirms, while the
-- list of columns and the condition are looked at without a call. Writes of the service that touch these columns bring a new
-- version, and count it in revision.
create or replace trigger changed_cdr_is_audited
  after update of call_id, account_id, call_direction, start_time, end_time, created_at, stored_at, duration, billsec, cost,
                  streaming_cost, total_cost, currency on vobiz.cdr
  for each row
  when (new.revision = old.revision and new.content_hash = old.content_hash
        and (new.call_id, new.account_id, new.day_at, new.call_direction, new.duration, new.billsec, new.cost, new.streaming_cost,
             new.total_cost, new.currency)
            is distinct from
            (old.call_id, old.account_id, old.day_at, old.call_direction, old.duration, old.billsec, old.cost, old.streaming_cost,
             old.total_cost, old.currency))
  execute function vobiz.audit_changed_cdr();

-- A writer of calls waits from here to the end of the migration: then all calls are in the sums.
create or replace trigger roll_up_insert after insert on vobiz.cdr
  referencing new table as changed for each statement execute function vobiz.roll_up();

create or replace trigger roll_up_delete after delete on vobiz.cdr
  referencing old table as changed for each statement execute function vobiz.roll_up();

-- For each row with a condition, so that answers which only confirm a call cost nothing: transition tables would copy them all.
create or replace trigger roll_up_update
  after update of account_id, trunk_id, campaign_id, call_direction, caller_id_number, caller_e164, destination_number,
                  destination_e164, start_time, end_time, created_at, stored_at, duration, billsec, cost, streaming_cost,
                  total_cost, currency, notes on vobiz.cdr
  for each row
  when ((new.account_id, new.trunk_id, new.campaign_id, new.our_number, new.day_at, new.currency, new.call_direction,
         new.duration, new.billsec, new.cost, new.streaming_cost, new.total_cost, new.start_time is null and new.end_time is null,
         new.notes)
        is distinct from
        (old.account_id, old.trunk_id, old.campaign_id, old.our_number, old.day_at, old.currency, old.call_direction,
         old.duration, old.billsec, old.cost, old.streaming_cost, old.total_cost, old.start_time is null and old.end_time is null,
         old.notes))
  execute function vobiz.roll_up_change();
