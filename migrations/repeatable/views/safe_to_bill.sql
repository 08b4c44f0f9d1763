create or replace view vobiz.safe_to_bill as
  with zone as (
    select billing_zone from vobiz.setting
  ), began as (
    select a.account_id, a.ledger_since, a.day_of, vobiz.provider_day_of(a.account_id, a.ledger_since) as first_day, vobiz.provider_day_of(a.account_id, vobiz.now()) as today
    from vobiz.account a
  ), unsettled as (
    -- The first day that is not settled. Days before the ledger began do not count.
    select a.account_id, d.day, d.from_at as bound, 1 as place,
           case when d.to_at > vobiz.now() then format('day %s is not over', d.day)
                when d.error is not null
                then format('day %s cannot be compared: %s; it is tried again at %s', d.day, d.error,
                            to_char(d.check_at at time zone z.billing_zone, 'YYYY-MM-DD HH24:MI'))
                when d.reopened_at is not null
                then format('day %s changed here after it was compared, and is compared again at %s', d.day,
                            to_char(d.check_at at time zone z.billing_zone, 'YYYY-MM-DD HH24:MI'))
                when d.state = 'open'
                then format('day %s is compared with Vobiz at %s', d.day,
                            to_char(d.check_at at time zone z.billing_zone, 'YYYY-MM-DD HH24:MI'))
                when d.state = 'unproven' then format('day %s is unproven: %s', d.day, k.reason)
                else format('day %s differs: %s', d.day, k.reason) end as words
    from began a cross join zone z
    cross join lateral (
      select d.day, d.from_at, d.to_at, d.state, d.reopened_at, d.check_id, d.check_at, d.error
      from vobiz.provider_day d
      where d.account_id = a.account_id and (d.state <> 'settled' or d.reopened_at is not null) and d.day >= a.first_day
      order by d.day limit 1) d
    left join vobiz.ledger_check k on k.id = d.check_id
    union all
    -- The first day of which there is no row.
    select a.account_id, m.day, vobiz.provider_day_start(a.account_id, m.day), 1,
           format('day %s has not been looked at: it takes a process that sweeps', m.day)
    from began a
    cross join lateral (
      select g::date as day from generate_series(a.first_day, a.today, interval '1 day') g
      where not exists (select from vobiz.provider_day d where d.account_id = a.account_id and d.day = g::date)
      order by g limit 1) m
  ), obstacle as (
    select u.account_id, u.bound, u.place, u.words from unsettled u
    union all
    -- Sums that do not equal their calls: what is settled is not what is billed.
    select a.account_id, vobiz.billing_day_start(w.day, z.billing_zone), 0,
           format('the bill of day %s does not equal its calls (%s sums): `vobiz-cdr verify --repair`', w.day, w.sums)
    from began a cross join zone z
    cross join lateral (
      select w.day, sum(w.sums) as sums from vobiz.wrong_sum w
      -- An owner without any call left is in no list of owners.
      where (w.account_id = a.account_id or not exists (select from vobiz.account x where x.account_id = w.account_id))
        and vobiz.billing_day_start(w.day + 1, z.billing_zone) > a.ledger_since
      group by w.day order by w.day limit 1) w
    union all
    select a.account_id, '-infinity', 0, format('triggers are disabled, so bill, versions and days do not follow the calls: %s', t.names)
    from began a cross join (select string_agg(t.name, ', ' order by t.name) as names from vobiz.disabled_trigger() t (name)) t
    where t.names is not null
    union all
    -- Where it is not the start that decides, calls that began in the day before it may be listed in it.
    select a.account_id, vobiz.provider_day_start(a.account_id, u.day - 1), 4,
           format('calls of day %s may be listed in the day after it: %s', u.day - 1, u.words)
    from began a join (select distinct on (account_id) account_id, day, words from unsettled order by account_id, day) u using (account_id)
    where a.day_of <> 'start_time' and u.day > a.first_day
    union all
    -- Calls that began in a day may run on after it.
    select a.account_id, d.from_at, 4,
           format('calls of day %s may be running still until %s', d.day,
                  to_char((d.to_at + vobiz.longest_call()) at time zone z.billing_zone, 'YYYY-MM-DD HH24:MI'))
    from began a cross join zone z
    cross join lateral (
      select d.day, d.from_at, d.to_at from vobiz.provider_day d
      where d.account_id = a.account_id and d.to_at <= vobiz.now() and d.day >= a.first_day
        and d.to_at + vobiz.longest_call() > vobiz.now() and d.day >= a.today - 3
      order by d.day limit 1) d
    union all
    -- Dead letters. A call that is announced in the first hours of a day may have begun in the one before.
    select q.account_id, vobiz.provider_day_start(q.account_id, q.day), 2,
           format('%s of %s', case q.calls when 1 then '1 dead letter' else q.calls || ' dead letters' end,
                  vobiz.provider_day_of(q.account_id, q.first_at))
    from (select q.account_id,
                 vobiz.provider_day_of(q.account_id, coalesce(q.announced_at, q.enqueued_at) - vobiz.longest_call()) as day,
                 count(*) as calls, min(coalesce(q.announced_at, q.enqueued_at)) as first_at
          from vobiz.cdr_queue q where q.dead_at is not null and q.certain group by 1, 2) q
    union all
    -- Calls that are owed.
    select q.account_id, vobiz.provider_day_start(q.account_id, vobiz.provider_day_of(q.account_id, q.first_at - vobiz.longest_call())), 3,
           format('%s owed, the first announced at %s', case q.calls when 1 then '1 call is' else q.calls || ' calls are' end,
                  to_char(q.first_at at time zone z.billing_zone, 'YYYY-MM-DD HH24:MI'))
    from (select q.account_id, count(*) as calls, min(coalesce(q.announced_at, q.enqueued_at)) as first_at
          from vobiz.cdr_queue q where q.dead_at is null and q.certain group by 1) q cross join zone z
  ), bound as (
    -- Before the ledger began nothing is promised.
    select h.account_id, h.place, h.words, a.ledger_since, greatest(h.bound, a.ledger_since) as bound,
           min(greatest(h.bound, a.ledger_since)) over (partition by h.account_id) as safe_to
    from obstacle h join vobiz.account a using (account_id)
  )
  select b.account_id, b.ledger_since, b.safe_to, z.billing_zone, string_agg(b.words, '; ' order by b.place, b.words) as held_by,
         max(m.at) as since, max(k.at) as moved_back_at, max(k.was) as moved_back_from
  from bound b cross join zone z
  left join lateral (
    select m.at, m.safe_to from vobiz.safe_to_bill_move m where m.account_id = b.account_id order by m.id desc limit 1) m
    on m.safe_to = b.safe_to
  left join lateral (
    select m.at, m.was from vobiz.safe_to_bill_move m
    where m.account_id = b.account_id and m.was > m.safe_to order by m.id desc limit 1) k on true
  where b.bound = b.safe_to
  group by b.account_id, b.ledger_since, b.safe_to, z.billing_zone;

comment on view   vobiz.safe_to_bill is 'Per account the instant up to which every day is settled and nothing certain is owed or dead, and what holds it there. It may move back.';
comment on column vobiz.safe_to_bill.account_id is 'The account.';
comment on column vobiz.safe_to_bill.ledger_since is 'Completeness is promised from here on: the first start of the service, or the beginning of a backfill.';
comment on column vobiz.safe_to_bill.safe_to is 'Everything from ledger_since up to this instant is complete and equals Vobiz''s own rows and totals.';
comment on column vobiz.safe_to_bill.billing_zone is 'The zone of the times in held_by.';
comment on column vobiz.safe_to_bill.held_by is 'What keeps it from moving on, in words.';
comment on column vobiz.safe_to_bill.since is 'Since when it stands there; NULL if that was not noted yet.';
comment on column vobiz.safe_to_bill.moved_back_at is 'When it last moved back; NULL if it never did.';
comment on column vobiz.safe_to_bill.moved_back_from is 'Where it stood before it last moved back.';
