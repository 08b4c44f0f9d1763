-- All triggers of vobiz.cdr_revision.

create or replace trigger revision_is_never_changed before update on vobiz.cdr_revision
  for each row execute function vobiz.refuse('a version is kept as it came; vobiz-cdr reparse rebuilds the columns of vobiz.cdr');

create or replace trigger revision_is_not_truncated before truncate on vobiz.cdr_revision
  for each statement execute function vobiz.refuse('it leaves no trace; delete rows, or drop the partition of a month');

create or replace trigger deleted_revision_is_audited after delete on vobiz.cdr_revision
  referencing old table as deleted for each statement execute function vobiz.audit_deleted_revision();
