create or replace function vobiz.longest_call() returns interval
  language sql immutable parallel safe
  as $$ select interval '4 hours' $$;
comment on function vobiz.longest_call() is
  'How long before its end a call may have begun, for what is safe to bill (Vobiz publishes no limit; four hours is the usual one of such platforms). A longer one reopens its day when it comes.';
