create or replace function vobiz.disabled_trigger() returns setof text
  language sql stable
  as $$
    select t.tgname || ' on vobiz.' || c.relname
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_class c on c.oid = t.tgrelid
    where c.relnamespace = 'vobiz'::regnamespace and not t.tgisinternal
      -- What fires always or, as is usual, wherever the session is no replica.
      and t.tgenabled not in ('O', 'A')
  $$;
comment on function vobiz.disabled_trigger() is
  'Triggers that do not fire, as `name on table`. Without them sums, revisions and days do not follow the calls.';
