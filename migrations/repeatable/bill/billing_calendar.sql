-- It says that it returns few rows: a plan that expects many is compiled first, which takes longer than the bill of a month.
create or replace function vobiz.billing_calendar()
  returns table (day date, from_at timestamptz, to_at timestamptz, billing_zone text)
  language plpgsql stable parallel safe rows 100
  as $$
  declare
    zone  constant text := (select s.billing_zone from vobiz.setting s);
    first date;
    reach timestamptz := '-infinity';
  begin
    loop
      -- Nine weeks at a time, from call to call: one with an odd year costs a step more, not the centuries between.
      first := vobiz.billing_day_of(least((select min(r.bucket) from vobiz.rollup r where r.bucket >= reach),
                                  (select min(r.bucket) from vobiz.rollup_delta r where r.bucket >= reach)), zone);
      exit when first is null;
      return query
        select first + d, vobiz.billing_day_start(first + d, zone), vobiz.billing_day_start(first + d + 1, zone), zone
        from generate_series(0, 62) d;
      reach := vobiz.billing_day_start(first + 63, zone);
    end loop;
  end $$;
comment on function vobiz.billing_calendar() is
  'The days of the billing zone (vobiz.setting) around which there are calls, each with its half-open range of instants: 23, 24 or 25 hours. No call lies outside of them.';
