-- Postgres has read a date without a zone by the zone of the session when a trigger sees it. What was written stands in the statement.
create or replace function vobiz.instant_of_rule(at timestamptz, zone text, statement text) returns timestamptz
  language plpgsql stable
  as $$
  declare
    local   constant timestamp := at at time zone current_setting('TimeZone');
    wording  text;
    is_it    boolean;
    zoned    boolean := false;
    zoneless boolean := false;
    parts    text[];
    abbreviation text;
    -- The day and those beside it: with a zone, a day may be written as another one than this session reads.
    near     constant text[] := array(
      select to_char(local + make_interval(days => d), w)
      from generate_series(-1, 1) d cross join unnest(array['YYYY-MM-DD', 'YYYY/MM/DD', 'YYYYMMDD']) w
      where isfinite(at));
    of_day   constant integer := case when isfinite(at) then extract(day from local) end;
    of_month constant integer := case when isfinite(at) then extract(month from local) end;
  begin
    if not isfinite(at) then
      return at;
    end if;
    -- Postgres itself says which texts of the statement are this instant, in whatever spelling, and whether they say a zone: only where
    -- none is there can one be put behind.
    for wording in
      select distinct btrim(w.wording) from unnest(string_to_array(statement, '''')) w (wording)
      where length(w.wording) between 4 and 64
        and (lower(btrim(w.wording)) in ('today', 'tomorrow', 'yesterday')
             or exists (select from unnest(near) d (written) where strpos(w.wording, to_char(d.written::date, 'YY')) > 0))
    loop
      begin
        is_it := wording::timestamptz = at;
      exception when data_exception then
        is_it := false;
      end;
      continue when not is_it;
      -- Postgres reads 05/11/2026 by the DateStyle of the session, which nobody sees: a rule may begin half a year too early.
      parts := regexp_match(wording, '(?<![0-9])([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4}|[0-9]{2})(?![0-9])');
      if parts[1]::integer <> parts[2]::integer
         and (length(parts[3]) = 2 or parts[1]::integer <= 12 and parts[2]::integer <= 12) then
        raise exception '% may be either of two days; this session reads %',
          array_to_string(parts, '/'), to_char(wording::timestamp, 'FMDD FMMonth YYYY')
          using errcode = 'datetime_field_overflow', hint = format('Write the year first, as in %L.', to_char(wording::timestamp, 'YYYY-MM-DD'));
      end if;
      -- IST is Israel's to Postgres, and CST America's: in India or China, nobody means that.
      select max(b.abbrev) into abbreviation
      from regexp_matches(wording, '(?<![A-Za-z/_])([A-Za-z]{2,6})(?![A-Za-z/_])', 'g') as word (words)
      join pg_timezone_abbrevs b on b.abbrev = upper(word.words[1])
      join pg_timezone_names n on n.name = zone
      where b.abbrev = n.abbrev and b.utc_offset <> n.utc_offset;
      if abbreviation is not null then
        raise exception 'Postgres reads % as another zone than %', abbreviation, zone
          using errcode = 'datetime_field_overflow', hint = format('Write the zone by its name: %L.', to_char(wording::timestamp, 'YYYY-MM-DD HH24:MI ') || zone);
      end if;
      begin
        perform (wording || ' UTC')::timestamptz;
        zoneless := true;
      exception when data_exception then
        zoned := true;
      end;
    end loop;
    -- The same of a text that is read by a function of the statement.
    if not zoned and not zoneless and of_day <> of_month and not exists (select from unnest(near) d (written) where strpos(statement, d.written) > 0) then
      for parts in select regexp_matches(statement, '''\s*(\d{1,2})[-/.](\d{1,2})[-/.](\d{2}|\d{4})(?!\d)', 'g') loop
        if array[of_day, of_month] <@ parts::integer[] and (length(parts[3]) = 2 or parts[1]::integer <= 12 and parts[2]::integer <= 12) then
          raise exception '% may be either of two days; this session reads %',
            array_to_string(parts, '/'), to_char(local, 'FMDD FMMonth YYYY')
            using errcode = 'datetime_field_overflow', hint = format('Write the year first, as in %L.', to_char(local, 'YYYY-MM-DD'));
        end if;
      end loop;
      -- A parameter or a row of COPY, of which the statement shows nothing: who wrote it reads which day it became.
      if of_day <= 12 then
        raise notice 'the rule is taken to begin or end at % (%)', to_char(at at time zone zone, 'FMDD FMMonth YYYY HH24:MI'), zone;
      end if;
    end if;
    if at at time zone zone = local then
      return at;
    end if;
    -- With a zone somewhere in the statement, and without one elsewhere: which of them this one is cannot be told.
    if zoneless and not zoned then
      return local at time zone zone;
    end if;
    if local::time = time '00:00' and (at at time zone zone)::time <> time '00:00' then
      raise warning 'the rule is taken to begin or end at % (%), which is midnight in the zone of this session (%)',
        to_char(at at time zone zone, 'YYYY-MM-DD HH24:MI'), zone, current_setting('TimeZone')
        using hint = format('If midnight of the billing zone is meant, write the zone, too: %L.', to_char(local, 'YYYY-MM-DD HH24:MI ') || zone);
    end if;
    return at;
  end $$;
comment on function vobiz.instant_of_rule(timestamptz, text, text) is
  'When a rule begins or ends: the instant, or where the statement wrote it without a zone, the same in the billing zone. Refuses a day in numbers that may be two, and warns of other midnights of the session.';
