-- What the beginning of a number says of its place: a table that users may edit.

create table vobiz.prefix (
  prefix  text primary key check (prefix ~ '^\+[1-9][0-9]{0,8}$'),
  name    text not null check (name <> ''),
  country text not null check (country <> '')
);

comment on table  vobiz.prefix is 'What the beginning of an E.164 number says of its place: the longest match counts. Yours to edit: insert, update and delete rows as your tariff cuts destinations. Numbers are portable in India: a series names the operator to whom it was given or fell, not the one that serves the number today. Every reader sees these rows: name no single numbers.';
comment on column vobiz.prefix.prefix is 'Beginning of the number, with +, 2 to 10 characters.';
comment on column vobiz.prefix.name is 'Name of the destination.';
comment on column vobiz.prefix.country is 'Country or network, in English.';
