-- What was compared under a clock that was ahead, or before the day was over, is not compared: the day is, once it is over.
create or replace function vobiz.mend_days(account text) returns setof date
  language sql
  as $$
    with misdated as (
      select d.day from vobiz.provider_day d
      where d.account_id = account
        -- What others commit while this begins is a little later than its now.
        and (greatest(d.began_at, d.checked_at, d.reopened_at) > vobiz.now() + interval '1 minute'
             or d.state = 'settled' and (d.began_at < d.to_at or d.to_at > vobiz.now()))
      order by d.day for no key update of d
    ), opened as (
      update vobiz.provider_day d set
        state = 'open', checked_at = null, check_id = null, began_at = null, reopened_at = null, reopenings = 0, tries = 0, error = null,
        check_at = greatest(d.to_at + interval '1 hour', vobiz.now())
      from misdated m where d.account_id = account and d.day = m.day
      returning d.day
    ), late as (
      update vobiz.provider_day d set check_at = greatest(d.to_at + interval '1 hour', vobiz.now())
      where d.account_id = account and d.check_at > vobiz.latest_check(d)
        and not exists (select from misdated m where m.day = d.day)
      returning d.day
    )
    select day from opened union all select day from late
  $$;
comment on function vobiz.mend_days(text) is
  'Opens the days of an account that were compared before they were over, or later than now, and brings back checks that lie too far ahead; returns them.';
