create or replace function vobiz.has_note(notes text[], field text) returns boolean
  language sql immutable parallel safe
  as $$ select exists (select from unnest(has_note.notes) n (note) where starts_with(n.note, has_note.field || ': ')) $$;
comment on function vobiz.has_note(text[], text) is 'Whether one of the notes on a call (vobiz.cdr.notes) is about this field.';
