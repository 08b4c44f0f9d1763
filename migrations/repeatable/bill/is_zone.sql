-- Postgres takes more for a zone than there are: IST is Israel to it, CET has no summer, and +05:30 lies west of Greenwich.
create or replace function vobiz.is_zone(zone text) returns boolean
  language sql stable
  as $$
    select exists (select from pg_catalog.pg_timezone_names z where z.name = zone)
      and zone !~ '^(posix|right)/' and zone not in ('posixrules', 'localtime', 'Factory')
      and (zone in ('UTC', 'GMT') or not exists (select from pg_catalog.pg_timezone_abbrevs a where a.abbrev = zone))
  $$;
comment on function vobiz.is_zone(text) is 'Whether this is the name of a time zone, and nothing that Postgres would take for something else.';
