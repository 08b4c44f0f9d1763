create or replace function vobiz.billing_day_of(at timestamptz, zone text) returns date
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
    return case when vobiz.billing_day_start(shown + 1, zone) <= at then shown + 1
                when vobiz.billing_day_start(shown, zone) <= at then shown
                else shown - 1 end;
  end $$;
comment on function vobiz.billing_day_of(timestamptz, text) is 'The day of a zone in which an instant lies: the last one that has begun by then (vobiz.billing_day_start).';

create or replace function vobiz.billing_day_of(at timestamptz) returns date
  language sql stable parallel safe
  as $$ select vobiz.billing_day_of(at, (select s.billing_zone from vobiz.setting s)) $$;
comment on function vobiz.billing_day_of(timestamptz) is 'The day of the billing zone in which an instant lies.';
