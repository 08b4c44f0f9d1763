create or replace view vobiz.safe_to_bill as
  with zone as (
    select billing_zone from vobiz.setting
  ), began as (
    select a.account_id, a.ledger_since, a.day_of, vobiz.provider_day_of(a.account_id, least(a.ledger_since, vobiz.now())) as first_day,
           vobiz.provider_day_of(a.account_id, least(a.retired_at, vobiz.now())) as today, a.retired_at
    from vobiz.account a
  ), unsettled as (
    -- The first day that is not settled. Days before the ledger began do not count. Where several zones fit the lists, its calls may
    -- begin with the earliest of them.
    select a.account_id, d.day, vobiz.provider_day_start_earliest(a.account_id, d.day) as bound, 1 as place,
           case when d.to_at > vobiz.now() then format('day %s is not over', d.day)
                when d.error is not null
                then format('day %s cannot be compared: %s; it is tried again at %s', d.day, d.error,
                            vobiz.time_in_words(d.check_at, z.billing_zone))
                when d.reopened_at is not null
                then format('day %s changed here after it was compared, and is compared again at %s', d.day,
                            vobiz.time_in_words(d.check_at, z.billing_zone))
                when d.state = 'open'
                then format('day %s is compared with Vobiz at %s', d.day,
                            vobiz.time_in_words(d.check_at, z.billing_zone))
                when d.state = 'settled'
                then format('day %s was compared before it was over, or under a clock that was ahead, and is compared again', d.day)
                when d.state = 'unproven' then format('day %s is unproven: %s', d.day, k.reason)
                else format('day %s differs: %s', d.day, k.reason) end as words
    from began a cross join zone z
    cross join lateral (
      select d.day, d.from_at, d.to_at, d.state, d.reopened_at, d.check_id, d.check_at, d.error
      from vobiz.provider_day d
      where d.account_id = a.account_id
        -- A check under a clock that was ahead proves nothing. (What others commit while this begins is a little later than its now.)
        and (d.state <> 'settled' or d.reopened_at is not null or d.began_at < d.to_at or d.to_at > vobiz.now()
             or d.checked_at > vobiz.now() + interval '1 minute')
        and d.day >= a.first_day
      order by d.day limit 1) d
    left join vobiz.ledger_check k on k.id = d.check_id
    union all
    -- The first day of which there is no row.
    select a.account_id, m.day, vobiz.provider_day_start_earliest(a.account_id, m.day), 1,
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
    select a.account_id, vobiz.provider_day_start_earliest(a.account_id, u.day - 1), 4,
           format('calls of day %s may be listed in the day after it: %s', u.day - 1, u.words)
    from began a join (select distinct on (account_id) account_id, day, words from unsettled order by account_id, day) u using (account_id)
    where a.day_of <> 'start_time' and u.day > a.first_day
    union all
    -- Calls that began in a day may run on after it.
    select a.account_id, vobiz.provider_day_start_earliest(a.account_id, d.day), 4,
           format('calls of day %s may be running still until %s', d.day,
                  vobiz.time_in_words((d.to_at + vobiz.longest_call()), z.billing_zone))
    from began a cross join zone z
    cross join lateral (
      select d.day, d.from_at, d.to_at from vobiz.provider_day d
      where d.account_id = a.account_id and d.to_at <= vobiz.now() and d.day >= a.first_day
        and d.to_at + vobiz.longest_call() > vobiz.now() and d.day >= a.today - 3
      order by d.day limit 1) d
    union all
    -- Dead letters. A call that is announced in the first hours of a day may have begun in the one before.
    select q.account_id, vobiz.provider_day_start_earliest(q.account_id, q.day), 2,
           format('%s of %s', case q.calls when 1 then '1 dead letter' else q.calls || ' dead letters' end,
                  vobiz.provider_day_of(q.account_id, q.first_at))
    from (select q.account_id,
                 vobiz.provider_day_of(q.account_id, coalesce(q.announced_at, q.enqueued_at) - vobiz.longest_call()) as day,
                 count(*) as calls, min(coalesce(q.announced_at, q.enqueued_at)) as first_at
          from vobiz.cdr_queue q where q.dead_at is not null and q.certain group by 1, 2) q
    union all
    -- Calls that are owed.
    select q.account_id, vobiz.provider_day_start_earliest(q.account_id, vobiz.provider_day_of(q.account_id, q.first_at - vobiz.longest_call())), 3,
           format('%s owed, the first announced at %s', case q.calls when 1 then '1 call is' else q.calls || ' calls are' end,
                  vobiz.time_in_words(q.first_at, z.billing_zone))
    from (select q.account_id, count(*) as calls, min(coalesce(q.announced_at, q.enqueued_at)) as first_at
          from vobiz.cdr_queue q where q.dead_at is null and q.certain group by 1) q cross join zone z
    union all
    -- Of an account that was retired nothing is promised from there on, and what is owed or differs later holds nothing.
    select a.account_id, a.retired_at, 9, format('it is retired: nothing is promised from %s on', vobiz.time_in_words(a.retired_at, z.billing_zone))
    from began a cross join zone z where a.retired_at is not null
  ), owner as (
    -- Owners of calls that are not configured stand where the accounts stand whose lists show their calls.
    select o.account_id, l.listed_by, f.first_at
    from vobiz.call_owner o
    cross join lateral (
      select c.day_at as first_at, c.listed_by from vobiz.cdr c where c.account_id = o.account_id order by c.day_at limit 1) f
    left join lateral (
      select a.account_id as listed_by
      from vobiz.account a
      where a.account_id = f.listed_by
         or exists (select from vobiz.listed_owner x where x.account_id = a.account_id and x.owner = o.account_id)
         or a.account_id = (select c.listed_by from vobiz.cdr c where c.account_id = o.account_id order by c.day_at desc limit 1)) l on true
    where not exists (select from vobiz.account a where a.account_id = o.account_id)
  ), holding as (
    select h.account_id, h.account_id as listed_by, a.ledger_since, h.place, h.bound, h.words, a.retired_at
    from obstacle h join vobiz.account a on a.account_id = h.account_id
    where h.place = 9 or a.retired_at is null or greatest(h.bound, a.ledger_since) < a.retired_at
    union all
    select o.account_id, o.listed_by, a.ledger_since, h.place, h.bound, format('%s (in the list of %s)', h.words, o.listed_by), a.retired_at
    from owner o
    join vobiz.account a on a.account_id = o.listed_by
    join obstacle h on h.account_id = o.listed_by
    where (h.place = 9 or a.retired_at is null or greatest(h.bound, a.ledger_since) < a.retired_at)
      -- Where another account lists its calls as well, the promise goes on.
      and (h.place < 9 or not exists (
        select from owner n join vobiz.account x on x.account_id = n.listed_by where n.account_id = o.account_id and x.retired_at is null))
    union all
    -- What is owed in its own name.
    select o.account_id, o.listed_by, a.ledger_since, h.place, h.bound, h.words, a.retired_at
    from owner o
    join vobiz.account a on a.account_id = o.listed_by
    join obstacle h on h.account_id = o.account_id
    where a.retired_at is null or greatest(h.bound, a.ledger_since) < a.retired_at
    union all
    select o.account_id, null, o.first_at, 0, o.first_at, 'no account that is configured lists its calls', null
    from owner o where o.listed_by is null
  ), bound as (
    -- Before the ledger began nothing is promised.
    select h.account_id, h.listed_by, h.place, h.words, h.since as ledger_since, greatest(h.bound, h.since) as bound,
           min(greatest(h.bound, h.since)) over (partition by h.account_id) as safe_to, h.retired_at
    from (select h.account_id, h.listed_by, h.place, h.words, h.bound, max(h.ledger_since) over (partition by h.account_id) as since,
                 case when bool_and(h.retired_at is not null) over (partition by h.account_id)
                      then max(h.retired_at) over (partition by h.account_id) end as retired_at
          from holding h) h
  ), held as (
    select b.account_id, b.ledger_since, b.safe_to, string_agg(b.words, '; ' order by b.place, b.words) as held_by, min(b.listed_by) as listed_by, b.retired_at
    from bound b
    where b.bound = b.safe_to
    group by b.account_id, b.ledger_since, b.safe_to, b.retired_at
  )
  select h.account_id, h.ledger_since, h.safe_to, z.billing_zone, h.held_by,
         m.at as since, k.at as moved_back_at, k.was as moved_back_from, h.listed_by, coalesce(y.days, 0) as money_not_compared, h.retired_at
  from held h cross join zone z
  left join lateral (
    select m.at, m.safe_to from vobiz.safe_to_bill_move m where m.account_id = h.account_id order by m.id desc limit 1) m
    on m.safe_to = h.safe_to
  left join lateral (
    select m.at, m.was from vobiz.safe_to_bill_move m
    where m.account_id = h.account_id and m.was > m.safe_to order by m.id desc limit 1) k on true
  left join lateral (
    select count(*) as days
    from vobiz.ledger_check c
    join vobiz.provider_day d on d.account_id = c.account_id and d.day = c.day and d.check_id = c.id
    where c.account_id = h.listed_by and c.money is not null and d.to_at > h.ledger_since and d.from_at < h.safe_to) y on true;

comment on view   vobiz.safe_to_bill is 'Per account, and per owner of calls that the list of another account shows, the instant up to which every day is settled and nothing certain is owed or dead, and what holds it there. It may move back.';
comment on column vobiz.safe_to_bill.account_id is 'The account that owns the calls.';
comment on column vobiz.safe_to_bill.ledger_since is 'Completeness is promised from here on: the first start of the service, or the beginning of a backfill.';
comment on column vobiz.safe_to_bill.safe_to is 'Everything from ledger_since up to this instant is complete and equals Vobiz''s own rows and totals.';
comment on column vobiz.safe_to_bill.billing_zone is 'The billing zone, in which the times in held_by are said.';
comment on column vobiz.safe_to_bill.held_by is 'What keeps it from moving on, in words.';
comment on column vobiz.safe_to_bill.since is 'Since when it stands there; NULL if that was not noted yet.';
comment on column vobiz.safe_to_bill.moved_back_at is 'When it last moved back; NULL if it never did.';
comment on column vobiz.safe_to_bill.moved_back_from is 'Where it stood before it last moved back.';
comment on column vobiz.safe_to_bill.listed_by is 'The account whose list its days are compared with: itself, or for an owner that is not configured the one whose list shows its calls (of several the first by name). NULL: none that is configured.';
comment on column vobiz.safe_to_bill.money_not_compared is 'Days up to safe_to that settled although something is to be said of their money: see money in vobiz.ledger_day.';
comment on column vobiz.safe_to_bill.retired_at is 'The account was retired, or every account whose list shows its calls: from here on nothing is promised, and nothing is waited for. NULL: the promise goes on.';
