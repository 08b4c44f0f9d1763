-- Postgres has read a date without a zone by the zone of the session when a trigger sees it. What was written stands in the statement.
create or replace function vobiz.instant_of_rule(at timestamptz, zone text, statement text) returns timestamptz
  language plpgsql stable parallel safe
  as $$
  declare
    local   constant timestamp := at at time zone current_setting('TimeZone');
    wording text;
    wordings constant text[] :=
      array['YYYY-MM-DD', 'YYYY-MM-DD HH24:MI', 'YYYY-MM-DD HH24:MI:SS', 'YYYY-MM-DD"T"HH24:MI', 'YYYY-MM-DD"T"HH24:MI:SS'];
    parts    text[];
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
    -- Postgres reads 05/11/2026 by the DateStyle of the session, which nobody sees: a rule may begin half a year too early.
    if of_day <> of_month and not exists (select from unnest(near) d (written) where strpos(statement, d.written) > 0) then
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
    if not exists (select from unnest(wordings) w (wording)
                   where statement ~ ('''' || to_char(local, w.wording) || ' ?([+-][0-9]|Z|[A-Za-z]{3,})')) then
      foreach wording in array wordings loop
        if strpos(statement, quote_literal(to_char(local, wording))) > 0 and to_char(local, wording)::timestamp = local then
          return local at time zone zone;
        end if;
      end loop;
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
