-- The schema and its one clock. Nothing of ours lives in `public`.

create schema if not exists vobiz;
comment on schema vobiz is
  'Every Vobiz call of this owner: its CDR, what is still owed, and the proof. Written by the vobiz-cdr service.';

create function vobiz.now() returns timestamptz
  language sql stable parallel safe
  as $$ select pg_catalog.now() $$;
comment on function vobiz.now() is
  'The one clock of the service: the start of the current transaction. Every statement of ours reads it, so that tests and the simulator can shift it.';
