create or replace function vobiz.day_of(at timestamptz, zone text) returns date
  language plpgsql immutable parallel safe cost 10
  as $$
  declare
    local constant timestamp := at at time zone zone;
    -- What the clocks show. A change over midnight shows a day before it begins, or once more when the next one has begun.
    shown constant date := local::date;
  begin
    -- Since 1970 no clock was put over midnight from so far; at most a whole day was left out.
    if at >= timestamptz '1970-01-01Z' and extract(hour from local) between 4 and 19 then
      return shown;
    end if;
    return case when vobiz.day_begins(shown + 1, zone) <= at then shown + 1
                when vobiz.day_begins(shown, zone) <= at then shown
                else shown - 1 end;
  end $$;
comment on function vobiz.day_of(timestamptz, text) is 'The day of a zone in which an instant lies: the last one that has begun by then (vobiz.day_begins).';
