-- What must be the same for all readers and all replicas, therefore not an environment variable alone.

create table vobiz.setting (
  only_row     boolean primary key default true check (only_row),
  billing_zone text    not null default 'Asia/Kolkata' check (billing_zone <> ''),
  home_country text    not null default '91' check (home_country ~ '^[1-9][0-9]{0,2}$'),
  billing_zone_said boolean not null default false,
  home_country_said boolean not null default false
);
insert into vobiz.setting default values;

comment on table  vobiz.setting is 'One row: settings that every reader and every replica must share.';
comment on column vobiz.setting.only_row is 'Always true: holds the table to one row.';
comment on column vobiz.setting.billing_zone is 'Name of the time zone in which billing days and months begin (default Asia/Kolkata).';
comment on column vobiz.setting.home_country is 'Calling code by which national numbers become E.164 (default 91, India).';
comment on column vobiz.setting.billing_zone_said is 'A process was started with billing_zone by name: one that is started with another is refused, though there is no call yet.';
comment on column vobiz.setting.home_country_said is 'The same of home_country.';
