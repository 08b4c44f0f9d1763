create or replace function vobiz.read_number(words text) returns numeric
  language sql immutable parallel safe
  as $$ select case when words ~ '^\s*[+-]?\d{1,20}(\.\d{1,20})?\s*$' then words::numeric end $$;
comment on function vobiz.read_number(text) is 'A decimal number, or NULL where the text is none.';
