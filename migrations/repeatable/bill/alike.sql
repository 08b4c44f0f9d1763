create or replace function vobiz.alike(name text) returns text
  language sql immutable parallel safe
  as $$ select lower(regexp_replace(name, '[[:space:]]', '', 'g')) $$;
comment on function vobiz.alike(text) is 'A name without its blanks and in lower case: the same of two names that are probably meant to be one.';
