create or replace view vobiz.ledger_day as
  select d.account_id, d.day, t.currency,
         case when d.reopened_at is not null then 'reopened' else d.state end as state,
         t.calls_here, t.calls_there, t.duration_here, t.duration_there, t.billsec_here, t.billsec_there,
         t.cost_here, t.cost_there, t.total_here, t.total_there, t.total_here - t.total_there as difference,
         k.recovered, k.revised, k.missing_here, k.missing_there, k.differing, k.unannounced,
         coalesce(x.dead, 0) as dead,
         coalesce('the last check came to no end: ' || d.error, k.reason) as reason, d.from_at, d.to_at, k.day_of, k.summary_cost, d.checked_at, d.check_at as next_check_at, d.check_id,
         k.billed_elsewhere, k.wrong_sums, k.money, k.listed_twice
  from vobiz.provider_day d
  left join vobiz.ledger_check k on k.id = d.check_id
  left join vobiz.ledger_total t on t.check_id = d.check_id
  left join (
    select q.account_id, vobiz.provider_day_of(q.account_id, coalesce(q.announced_at, q.enqueued_at)) as day, count(*) as dead
    from vobiz.cdr_queue q where q.dead_at is not null group by 1, 2) x on x.account_id = d.account_id and x.day = d.day;

comment on view   vobiz.ledger_day is 'The last comparison with Vobiz, one row per account, provider day and currency: both sides, what was found, and how the day stands.';
comment on column vobiz.ledger_day.account_id is 'The account whose list is read. A parent''s list may repeat the calls of its sub-accounts: they count on its rows here, and once in vobiz.cdr.';
comment on column vobiz.ledger_day.day is 'The day as Vobiz names it: from from_at to to_at.';
comment on column vobiz.ledger_day.currency is 'Currency of the costs; NULL for a day without calls or not yet compared.';
comment on column vobiz.ledger_day.state is 'open (not yet compared), settled, differs, unproven, or reopened: something changed here after the comparison.';
comment on column vobiz.ledger_day.calls_here is 'Calls of the day that we hold.';
comment on column vobiz.ledger_day.calls_there is 'Calls that Vobiz lists; one that it shows more than once, as often as its summary counts it.';
comment on column vobiz.ledger_day.duration_here is 'Seconds, ringing and talking, here.';
comment on column vobiz.ledger_day.duration_there is 'The same at Vobiz.';
comment on column vobiz.ledger_day.billsec_here is 'Seconds talked, here.';
comment on column vobiz.ledger_day.billsec_there is 'The same at Vobiz.';
comment on column vobiz.ledger_day.cost_here is 'Sum of cost here, before tax.';
comment on column vobiz.ledger_day.cost_there is 'The same at Vobiz.';
comment on column vobiz.ledger_day.total_here is 'Sum of total_cost here, before tax.';
comment on column vobiz.ledger_day.total_there is 'The same at Vobiz.';
comment on column vobiz.ledger_day.difference is 'total_here less total_there.';
comment on column vobiz.ledger_day.recovered is 'Calls that the comparison stored first and nothing had owed.';
comment on column vobiz.ledger_day.revised is 'Calls of which the comparison brought a newer version.';
comment on column vobiz.ledger_day.missing_here is 'Calls that Vobiz lists and we lack.';
comment on column vobiz.ledger_day.missing_there is 'Calls of ours that Vobiz does not list.';
comment on column vobiz.ledger_day.differing is 'Calls of which a billed field differs.';
comment on column vobiz.ledger_day.unannounced is 'Calls for which no callback had come by then.';
comment on column vobiz.ledger_day.dead is 'Dead letters announced in this day, now.';
comment on column vobiz.ledger_day.reason is 'Why it is not settled, in words.';
comment on column vobiz.ledger_day.from_at is 'First instant of the day.';
comment on column vobiz.ledger_day.to_at is 'First instant after the day.';
comment on column vobiz.ledger_day.day_of is 'The time of a call that decides its day at Vobiz.';
comment on column vobiz.ledger_day.summary_cost is 'The field that Vobiz''s summary adds up: total_cost, cost, or either.';
comment on column vobiz.ledger_day.checked_at is 'When it was compared last.';
comment on column vobiz.ledger_day.next_check_at is 'When it is compared next; NULL: not by itself any more.';
comment on column vobiz.ledger_day.check_id is 'The last comparison: vobiz.ledger_check, _total and _difference.';
comment on column vobiz.ledger_day.billed_elsewhere is 'Calls that are listed in this day and billed in another, which the way Vobiz cuts its days does not explain.';
comment on column vobiz.ledger_day.wrong_sums is 'Sums of the bill that did not equal their calls.';
comment on column vobiz.ledger_day.money is 'What is to be said of the money, also where the day is settled: which of it was not compared with Vobiz''s total_cost (several currencies, rows whose total_cost is not cost + streaming_cost where the summary adds up cost), or which call the summary counts more than once. NULL: nothing.';
comment on column vobiz.ledger_day.listed_twice is 'Calls that lie in a day beside this one, whose list shows them as well: here they are on both sides of both days, in the bill once. vobiz.ledger_difference names them.';
