create or replace view vobiz.billable_day as
  select s.account_id, d.day, d.from_at, d.to_at
  from vobiz.safe_to_bill s
  cross join lateral (
    select g::date as day, vobiz.billing_day_start(g::date, s.billing_zone) as from_at,
           vobiz.billing_day_start(g::date + 1, s.billing_zone) as to_at
    from generate_series(vobiz.billing_day_of(s.ledger_since, s.billing_zone), vobiz.billing_day_of(s.safe_to, s.billing_zone), interval '1 day') g) d
  where d.from_at >= s.ledger_since
    and (d.to_at <= s.safe_to
         -- The last day of an account that was retired within it, where nothing came after that.
         or (s.retired_at <= s.safe_to and d.from_at < s.safe_to and d.to_at <= vobiz.now()
             and not exists (select from vobiz.cdr c where c.account_id = s.account_id and c.day_at >= s.retired_at and c.day_at < d.to_at)));

comment on view   vobiz.billable_day is 'The days that may be billed: one row per owner of calls and billing day that lies whole between the beginning of its ledger and safe_to, and the last day of an account that was retired. What is joined with it has neither a day before the one nor one after the other.';
comment on column vobiz.billable_day.account_id is 'The account that owns the calls.';
comment on column vobiz.billable_day.day is 'Day in the billing zone.';
comment on column vobiz.billable_day.from_at is 'Its first instant.';
comment on column vobiz.billable_day.to_at is 'The first instant after it.';
