-- What is appended to is never changed.

create or replace trigger append_only before update or truncate on vobiz.ledger_check
  for each statement execute function vobiz.refuse('what is in it is evidence; a further check appends to it');

create or replace trigger append_only before update or truncate on vobiz.ledger_total
  for each statement execute function vobiz.refuse('what is in it is evidence; a further check appends to it');

create or replace trigger append_only before update or truncate on vobiz.ledger_owner_total
  for each statement execute function vobiz.refuse('what is in it is evidence; a further check appends to it');

create or replace trigger append_only before update or truncate on vobiz.ledger_difference
  for each statement execute function vobiz.refuse('what is in it is evidence; a further check appends to it');

create or replace trigger append_only before update or truncate on vobiz.safe_to_bill_move
  for each statement execute function vobiz.refuse('what is in it is evidence; a further move appends to it');
