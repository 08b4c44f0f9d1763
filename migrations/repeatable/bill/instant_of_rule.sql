-- Postgres has read a date without a zone by the zone of the session when a trigger sees it. What was written stands in the statement.
create or replace function vobiz.instant_of_rule(at timestamptz, zone text, statement text) returns timestamptz
  language plpgsql stable parallel safe
  as $$
  declare
    local   constant timestamp := at at time zone current_setting('TimeZone');
    wording text;
    wordings constant text[] :=
      array['YYYY-MM-DD', 'YYYY-MM-DD HH24:MI', 'YYYY-MM-DD HH24:MI:SS', 'YYYY-MM-DD"T"HH24:MI', 'YYYY-MM-DD"T"HH24:MI:SS'];
  begin
    if not isfinite(at) or at at time zone zone = local then
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
  'When a rule begins or ends: the instant, or where the statement wrote it without a zone, the same in the billing zone. Warns of other midnights of the session.';
