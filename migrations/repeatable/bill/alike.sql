create or replace function vobiz.alike(name text) returns text
  language sql immutable parallel safe
  as $$ select lower(regexp_replace(name, '[[:space:]\u0085\u00a0\u1680\u180e\u2000-\u200f\u2028\u2029\u202f\u205f\u2060\u3000\ufeff]', '', 'g')) $$;
comment on function vobiz.alike(text) is 'A name without its blanks (of any width, also none) and in lower case: the same of two names that are probably meant to be one.';
