create or replace function vobiz.alike(name text) returns text
  language sql immutable parallel safe
  as $$ select lower(regexp_replace(name, '[[:space:][:cntrl:]\u0085\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0]', '', 'g')) $$;
comment on function vobiz.alike(text) is 'A name without its blanks (of any width, also none) and in lower case: the same of two names that are probably meant to be one.';
