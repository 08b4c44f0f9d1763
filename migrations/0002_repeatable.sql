-- Which text of migrations/repeatable/ this database has: see src/db/migration.rs.

create table vobiz.repeatable (
  only_row   boolean     primary key default true check (only_row),
  number     integer     not null check (number >= 1),
  hash       bytea       not null check (length(hash) = 32),
  applied_at timestamptz not null default vobiz.now()
);

comment on table  vobiz.repeatable is 'One row: the text of views, functions, triggers and grants that is in force. `vobiz-cdr migrate apply` replaces an older one, never a newer one.';
comment on column vobiz.repeatable.only_row is 'Always true: holds the table to one row.';
comment on column vobiz.repeatable.number is 'Number of the text, on the first line of migrations/repeatable/ORDER: a higher one is newer.';
comment on column vobiz.repeatable.hash is 'SHA-256 over the whole text.';
comment on column vobiz.repeatable.applied_at is 'When it was applied (vobiz.now()).';
