-- What is appended to is never changed.

create or replace trigger audit_is_append_only before update or delete or truncate on vobiz.audit
  for each statement execute function vobiz.refuse('the audit log is append only; write a further row instead');
