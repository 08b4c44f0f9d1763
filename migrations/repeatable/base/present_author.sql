create or replace function vobiz.present_author() returns text
  language sql stable
  as $$ select session_user || coalesce(' (' || nullif(current_setting('vobiz.by', true), '') || ')', '') $$;
comment on function vobiz.present_author() is
  'Who is at work: the user of the session, and in parentheses the person that a command names in the setting vobiz.by.';

-- The table is made before this function is. Once only: it waits for all who read the table, and any reader could keep each later text out.
do $$
begin
  if not exists (
    select from pg_catalog.pg_attrdef d
    join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
    join pg_catalog.pg_depend p on p.classid = 'pg_catalog.pg_attrdef'::regclass and p.objid = d.oid
    where d.adrelid = 'vobiz.audit'::regclass and a.attname = 'by'
      and p.refclassid = 'pg_catalog.pg_proc'::regclass and p.refobjid = 'vobiz.present_author()'::regprocedure) then
    alter table vobiz.audit alter column by set default vobiz.present_author();
  end if;
end $$;
