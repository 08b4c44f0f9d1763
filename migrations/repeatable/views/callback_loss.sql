create or replace view vobiz.callback_loss as
  select d.account_id, d.day, d.from_at, d.to_at, l.calls, l.announced, l.calls - l.announced as only_listed,
         round((l.calls - l.announced)::numeric / nullif(l.calls, 0), 6) as loss,
         l.callback_median, l.callback_p99, l.commit_median, l.commit_p99
  from vobiz.provider_day d
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

comment on view   vobiz.callback_loss is 'Per account and day: how many calls a callback announced, and how many only the list showed, however they were stored first.';
comment on column vobiz.callback_loss.account_id is 'Account that owns the calls.';
comment on column vobiz.callback_loss.day is 'The day as Vobiz names it.';
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
