-- The secret of vobiz.cdr_masked.

create table vobiz.mask_key (
  only_row boolean primary key default true check (only_row),
  key      bytea not null check (length(key) = 32)
);
insert into vobiz.mask_key (key)
  values (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

comment on table  vobiz.mask_key is 'The secret of the hashes in vobiz.cdr_masked, made at random in each database. A reader of it can find the number behind a hash by trying all. Changing it changes all hashes.';
comment on column vobiz.mask_key.only_row is 'Always true: holds the table to one row.';
comment on column vobiz.mask_key.key is '32 random bytes.';
