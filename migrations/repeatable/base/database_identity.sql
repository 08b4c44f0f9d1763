create or replace function vobiz.database_identity() returns text
  language sql stable set search_path = pg_catalog, pg_temp
  as $$
    select concat_ws('/', case when has_function_privilege('pg_catalog.pg_control_system()', 'execute')
                               then (select s.system_identifier::text from pg_control_system() s) end,
                     (select d.oid from pg_database d where d.datname = current_database()))
  $$;
comment on function vobiz.database_identity() is
  'Which database of which cluster this is: what was restored from another one brings along what that one had proved.';
