create or replace function vobiz.present_author() returns text
  language sql stable
  as $$ select session_user || coalesce(' (' || nullif(current_setting('vobiz.by', true), '') || ')', '') $$;
comment on function vobiz.present_author() is
  'Who is at work: the user of the session, and in parentheses the person that a command names in the setting vobiz.by.';

-- The table is made before this function is.
alter table vobiz.audit alter column by set default vobiz.present_author();
