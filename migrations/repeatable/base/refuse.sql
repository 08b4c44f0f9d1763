-- The ledger is appended to, never mended.
create or replace function vobiz.refuse() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
  as $$
  begin
    raise exception '% of %.% is refused: %', lower(tg_op), tg_table_schema, tg_table_name, tg_argv[0]
      using errcode = 'object_not_in_prerequisite_state';
  end $$;
comment on function vobiz.refuse() is 'Trigger: refuses the statement; its argument says why and what to do instead.';
