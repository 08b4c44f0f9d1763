-- What the ledger says, for people: how each day stands, up to when it is safe to bill, and how well callbacks arrive.

create view vobiz.reconciliation_day as
  select d.account_id, d.day, t.currency,
         case when d.reopened_at is not null then 'reopened' else d.state end as state,
         t.calls_here, t.calls_there, t.duration_here, t.duration_there, t.billsec_here, t.billsec_there,
         t.cost_here, t.cost_there, t.total_here, t.total_there, t.total_here - t.total_there as difference,
         k.recovered, k.revised, k.missing_here, k.missing_there, k.differing, k.unannounced,
         coalesce(x.dead, 0) as dead,
         coalesce('the last check came to no end: ' || d.error, k.reason) as reason, d.from_at, d.to_at, k.day_of, k.summary_cost, d.checked_at, d.check_at as next_check_at, d.check_id
  from vobiz.day d
  left join vobiz.reconciliation_check k on k.id = d.check_id
  left join vobiz.reconciliation_total t on t.check_id = d.check_id
  left join (
    select q.account_id, vobiz.day_on(q.account_id, coalesce(q.announced_at, q.enqueued_at)) as day, count(*) as dead
    from vobiz.cdr_queue q where q.dead_at is not null group by 1, 2) x on x.account_id = d.account_id and x.day = d.day;
comment on view vobiz.reconciliation_day is 'The last comparison with Vobiz, one row per account, provider day and currency: both sides, what was found, and how the day stands.';
comment on column vobiz.reconciliation_day.account_id is 'The account whose list is read. A parent''s list may repeat the calls of its sub-accounts: they count on its rows here, and once in vobiz.cdr.';
comment on column vobiz.reconciliation_day.day is 'The day as Vobiz cuts it: from from_at to to_at.';
comment on column vobiz.reconciliation_day.currency is 'Currency of the costs; NULL for a day without calls or not yet compared.';
comment on column vobiz.reconciliation_day.state is 'open (not yet compared), settled, differs, unproven, or reopened: something changed here after the comparison.';
comment on column vobiz.reconciliation_day.calls_here is 'Calls of the day that we hold.';
comment on column vobiz.reconciliation_day.calls_there is 'Calls that Vobiz lists.';
comment on column vobiz.reconciliation_day.duration_here is 'Seconds, ringing and talking, here.';
comment on column vobiz.reconciliation_day.duration_there is 'The same at Vobiz.';
comment on column vobiz.reconciliation_day.billsec_here is 'Seconds talked, here.';
comment on column vobiz.reconciliation_day.billsec_there is 'The same at Vobiz.';
comment on column vobiz.reconciliation_day.cost_here is 'Sum of cost here, before tax.';
comment on column vobiz.reconciliation_day.cost_there is 'The same at Vobiz.';
comment on column vobiz.reconciliation_day.total_here is 'Sum of total_cost here, before tax.';
comment on column vobiz.reconciliation_day.total_there is 'The same at Vobiz.';
comment on column vobiz.reconciliation_day.difference is 'total_here less total_there.';
comment on column vobiz.reconciliation_day.recovered is 'Calls that the comparison stored first and nothing had owed.';
comment on column vobiz.reconciliation_day.revised is 'Calls of which the comparison brought a newer version.';
comment on column vobiz.reconciliation_day.missing_here is 'Calls that Vobiz lists and we lack.';
comment on column vobiz.reconciliation_day.missing_there is 'Calls of ours that Vobiz does not list.';
comment on column vobiz.reconciliation_day.differing is 'Calls of which a billed field differs.';
comment on column vobiz.reconciliation_day.unannounced is 'Calls for which no callback had come by then.';
comment on column vobiz.reconciliation_day.dead is 'Dead letters announced in this day, now.';
comment on column vobiz.reconciliation_day.reason is 'Why it is not settled, in words.';
comment on column vobiz.reconciliation_day.from_at is 'First instant of the day.';
comment on column vobiz.reconciliation_day.to_at is 'First instant after the day.';
comment on column vobiz.reconciliation_day.day_of is 'The time of a call that decides its day at Vobiz.';
comment on column vobiz.reconciliation_day.summary_cost is 'The field that Vobiz''s summary adds up: total_cost, cost, or either.';
comment on column vobiz.reconciliation_day.checked_at is 'When it was compared last.';
comment on column vobiz.reconciliation_day.next_check_at is 'When it is compared next; NULL: not by itself any more.';
comment on column vobiz.reconciliation_day.check_id is 'The last comparison: vobiz.reconciliation_check, _total and _difference.';

create table vobiz.safe_to_bill_move (
  id         bigint generated always as identity primary key,
  account_id text        not null,
  at         timestamptz not null default vobiz.now(),
  safe_to    timestamptz not null,
  was        timestamptz,
  held_by    text        not null
);
create index safe_to_bill_move_account on vobiz.safe_to_bill_move (account_id, id);
create trigger append_only before update or truncate on vobiz.safe_to_bill_move
  for each statement execute function vobiz.refuse('what is in it is evidence; a further move appends to it');
comment on table  vobiz.safe_to_bill_move is 'Each move of safe_to_bill, forth and back; append only.';
comment on column vobiz.safe_to_bill_move.id is 'Order of moving.';
comment on column vobiz.safe_to_bill_move.account_id is 'The account.';
comment on column vobiz.safe_to_bill_move.at is 'When it was noticed.';
comment on column vobiz.safe_to_bill_move.safe_to is 'Where it stood from then on.';
comment on column vobiz.safe_to_bill_move.was is 'Where it stood before; null at first.';
comment on column vobiz.safe_to_bill_move.held_by is 'What held it there.';

create function vobiz.longest_call() returns interval
  language sql immutable parallel safe
  as $$ select interval '4 hours' $$;
comment on function vobiz.longest_call() is
  'How long before its end a call may have begun, for what is safe to bill (Vobiz publishes no limit; four hours is the usual one of such platforms). A longer one reopens its day when it comes.';

create view vobiz.safe_to_bill as
  with zone as (
    select billing_zone from vobiz.setting
  ), began as (
    select a.*, vobiz.day_on(a.account_id, a.ledger_since) as first_day, vobiz.day_on(a.account_id, vobiz.now()) as today
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
      select d.* from vobiz.day d
      where d.account_id = a.account_id and (d.state <> 'settled' or d.reopened_at is not null) and d.day >= a.first_day
      order by d.day limit 1) d
    left join vobiz.reconciliation_check k on k.id = d.check_id
    union all
    -- The first day of which there is no row.
    select a.account_id, m.day, vobiz.day_start(a.account_id, m.day), 1,
           format('day %s has not been looked at: it takes a process that sweeps', m.day)
    from began a
    cross join lateral (
      select g::date as day from generate_series(a.first_day, a.today, interval '1 day') g
      where not exists (select from vobiz.day d where d.account_id = a.account_id and d.day = g::date)
      order by g limit 1) m
  ), hold as (
    select u.account_id, u.bound, u.place, u.words from unsettled u
    union all
    -- Where it is not the start that decides, calls that began in the day before it may be listed in it.
    select a.account_id, vobiz.day_start(a.account_id, u.day - 1), 4,
           format('calls of day %s may be listed in the day after it: %s', u.day - 1, u.words)
    from began a join (select distinct on (account_id) * from unsettled order by account_id, day) u using (account_id)
    where a.day_of <> 'start_time' and u.day > a.first_day
    union all
    -- Calls that began in a day may run on after it.
    select a.account_id, d.from_at, 4,
           format('calls of day %s may be running still until %s', d.day,
                  to_char((d.to_at + vobiz.longest_call()) at time zone z.billing_zone, 'YYYY-MM-DD HH24:MI'))
    from began a cross join zone z
    cross join lateral (
      select d.* from vobiz.day d
      where d.account_id = a.account_id and d.to_at <= vobiz.now() and d.day >= a.first_day
        and d.to_at + vobiz.longest_call() > vobiz.now() and d.day >= a.today - 3
      order by d.day limit 1) d
    union all
    -- Dead letters. A call that is announced in the first hours of a day may have begun in the one before.
    select q.account_id, vobiz.day_start(q.account_id, q.day), 2,
           format('%s of %s', case q.calls when 1 then '1 dead letter' else q.calls || ' dead letters' end,
                  vobiz.day_on(q.account_id, q.first_at))
    from (select q.account_id,
                 vobiz.day_on(q.account_id, coalesce(q.announced_at, q.enqueued_at) - vobiz.longest_call()) as day,
                 count(*) as calls, min(coalesce(q.announced_at, q.enqueued_at)) as first_at
          from vobiz.cdr_queue q where q.dead_at is not null and q.certain group by 1, 2) q
    union all
    -- Calls that are owed.
    select q.account_id, vobiz.day_start(q.account_id, vobiz.day_on(q.account_id, q.first_at - vobiz.longest_call())), 3,
           format('%s owed, the first announced at %s', case q.calls when 1 then '1 call is' else q.calls || ' calls are' end,
                  to_char(q.first_at at time zone z.billing_zone, 'YYYY-MM-DD HH24:MI'))
    from (select q.account_id, count(*) as calls, min(coalesce(q.announced_at, q.enqueued_at)) as first_at
          from vobiz.cdr_queue q where q.dead_at is null and q.certain group by 1) q cross join zone z
  ), bound as (
    -- Before the ledger began nothing is promised.
    select h.account_id, h.place, h.words, a.ledger_since, greatest(h.bound, a.ledger_since) as bound,
           min(greatest(h.bound, a.ledger_since)) over (partition by h.account_id) as safe_to
    from hold h join vobiz.account a using (account_id)
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
comment on view vobiz.safe_to_bill is 'Per account the instant up to which every day is settled and nothing certain is owed or dead, and what holds it there. It may move back.';
comment on column vobiz.safe_to_bill.account_id is 'The account.';
comment on column vobiz.safe_to_bill.ledger_since is 'Completeness is promised from here on: the first start of the service, or the beginning of a backfill.';
comment on column vobiz.safe_to_bill.safe_to is 'Everything from ledger_since up to this instant is complete and equals Vobiz''s own rows and totals.';
comment on column vobiz.safe_to_bill.billing_zone is 'The zone of the times in held_by.';
comment on column vobiz.safe_to_bill.held_by is 'What keeps it from moving on, in words.';
comment on column vobiz.safe_to_bill.since is 'Since when it stands there; NULL if that was not noted yet.';
comment on column vobiz.safe_to_bill.moved_back_at is 'When it last moved back; NULL if it never did.';
comment on column vobiz.safe_to_bill.moved_back_from is 'Where it stood before it last moved back.';

create function vobiz.safe_to_bill(account text) returns timestamptz
  language sql stable
  as $$ select safe_to from vobiz.safe_to_bill where account_id = account $$;
comment on function vobiz.safe_to_bill(text) is
  'The instant up to which this account is safe to bill: see the view of the same name for what holds it. NULL for an account that is not configured.';

create view vobiz.callback_loss as
  select d.account_id, d.day, d.from_at, d.to_at, l.calls, l.announced, l.calls - l.announced as only_listed,
         round((l.calls - l.announced)::numeric / nullif(l.calls, 0), 6) as loss,
         l.callback_median, l.callback_p99, l.commit_median, l.commit_p99
  from vobiz.day d
  join vobiz.account a on a.account_id = d.account_id
  -- Its own calls, and those of accounts that nobody configured and its list shows.
  cross join lateral (
    select array_agg(o.owner) as ids from vobiz.compared_owner o where o.account_id = d.account_id) whose
  cross join lateral (
    select count(*) as calls, count(x.announced_at) as announced,
           round((percentile_cont(0.5) within group (order by extract(epoch from x.announced_at - x.end_time)))::numeric, 3) as callback_median,
           round((percentile_cont(0.99) within group (order by extract(epoch from x.announced_at - x.end_time)))::numeric, 3) as callback_p99,
           round((percentile_cont(0.5) within group (order by extract(epoch from x.stored_at - x.end_time)))::numeric, 3) as commit_median,
           round((percentile_cont(0.99) within group (order by extract(epoch from x.stored_at - x.end_time)))::numeric, 3) as commit_p99
    from (select c.end_time, c.stored_at,
                 -- A note that was lost on its way is in the log, until it is pruned; each check of the day carries it over.
                 coalesce(c.first_callback_at,
                          (select min(b.received_at) from vobiz.callback b where b.call_id = c.call_id and b.outcome = 'owed')) as announced_at
          from vobiz.cdr c
          where c.account_id = any (whose.ids) and c.day_at >= d.from_at and c.day_at < d.to_at
            and (c.account_id = d.account_id or c.listed_by = d.account_id)
            -- What was before the service could be told was announced to nobody.
            and (c.first_callback_at is not null or c.day_at >= a.registered_at)) x) l;
comment on view vobiz.callback_loss is 'Per account and day: how many calls a callback announced, and how many only the list showed, whoever stored them first.';
comment on column vobiz.callback_loss.account_id is 'Account that owns the calls.';
comment on column vobiz.callback_loss.day is 'The day as Vobiz cuts it.';
comment on column vobiz.callback_loss.from_at is 'First instant of the day.';
comment on column vobiz.callback_loss.to_at is 'First instant after the day.';
comment on column vobiz.callback_loss.calls is 'Calls that began in the day, since the service has known of the account.';
comment on column vobiz.callback_loss.announced is 'Of these, calls for which a callback came, before or after the CDR was stored.';
comment on column vobiz.callback_loss.only_listed is 'Of these, calls that only the list showed.';
comment on column vobiz.callback_loss.loss is 'only_listed by calls, 0 to 1; NULL without calls.';
comment on column vobiz.callback_loss.callback_median is 'Seconds from the end of a call to the commit of its first callback: the median. Vobiz may call before the end that it states.';
comment on column vobiz.callback_loss.callback_p99 is 'The same: 99 of 100 came within this.';
comment on column vobiz.callback_loss.commit_median is 'Seconds from the end of a call to the commit of its CDR: the median.';
comment on column vobiz.callback_loss.commit_p99 is 'The same: 99 of 100 came within this.';

create table vobiz.backfill (
  id          bigint generated always as identity primary key,
  account_id  text        not null references vobiz.account,
  first_day   date        not null,
  last_day    date        not null check (last_day >= first_day),
  next_day    date,
  started_at  timestamptz not null default vobiz.now(),
  finished_at timestamptz,
  constraint finished_has_no_next check ((next_day is null) = (finished_at is not null))
);
create unique index backfill_open on vobiz.backfill (account_id) where finished_at is null;
comment on table  vobiz.backfill is 'Ranges of days that an operator had listed, and how far each got: from the last day back to the first.';
comment on column vobiz.backfill.id is 'Order of starting.';
comment on column vobiz.backfill.account_id is 'The account whose list is read.';
comment on column vobiz.backfill.first_day is 'First day of the range.';
comment on column vobiz.backfill.last_day is 'Last day of the range, the first to be listed.';
comment on column vobiz.backfill.next_day is 'The day that is listed next; days after it are done. Null when finished.';
comment on column vobiz.backfill.started_at is 'When it was started.';
comment on column vobiz.backfill.finished_at is 'When it was finished; null while it is not.';
