create or replace view vobiz.cdr_change as
  with version as (
    select r.call_id, coalesce(c.account_id, r.account_id) as account_id, r.revision, r.fetched_at, r.source, r.updated_at, r.day_at,
           r.call_direction, r.duration, r.billsec, r.cost, r.streaming_cost, r.total_cost, r.currency, r.content_hash,
           coalesce(r.day_from, 'start_time') as day_from, r.precedence, c.stored_at, r.account_id as owner,
           -- A row of a list that names nobody, or the account that was asked, leaves the owner.
           case when r.source = 'single' or r.precedence <> '0' || r.account_id then r.account_id end as named,
           coalesce(c.content_hash = r.content_hash, false)
           -- One that overruled is kept twice: what it changed, it changed the second time.
             and r.revision = max(r.revision) over (partition by r.call_id, r.content_hash) as shown,
           r.fetched_at >= coalesce(max(r.fetched_at) filter (where r.overrules) over (partition by r.call_id), '-infinity') as valid
    from vobiz.cdr_revision r left join vobiz.cdr c on c.call_id = r.call_id
    -- Where one version is kept, nothing changed.
    where c.revision is null or c.revision > 1
  ), record as (
    -- A single record begins anew; the list rows after it are laid over it.
    select v.call_id, v.account_id, v.revision, v.fetched_at, v.source, v.updated_at, v.day_at, v.call_direction, v.duration,
           v.billsec, v.cost, v.streaming_cost, v.total_cost, v.currency, v.content_hash, v.day_from, v.stored_at, v.shown, v.valid, v.precedence, v.owner, v.named,
           count(*) filter (where source = 'single') over oldest as base,
           -- Never shown: the list that comes first had spoken by then.
           v.precedence < max(v.precedence) over (partition by v.call_id, v.valid order by v.fetched_at) as hidden
    from version v
    window oldest as (
      partition by v.call_id order by shown, valid, precedence, updated_at nulls first, fetched_at, content_hash, revision rows unbounded preceding)
  ), said as (
    select r.call_id, r.account_id, r.revision, r.fetched_at, r.updated_at as vobiz_updated_at, r.hidden, r.shown, r.valid, r.precedence, r.updated_at, r.content_hash,
           array_agg(r.day_at) filter (where day_from = 'start_time') over sofar as started,
           array_agg(r.day_at) filter (where day_from = 'end_time') over sofar as ended,
           array_agg(r.day_at) filter (where day_from = 'created_at') over sofar as created,
           coalesce(r.stored_at, r.day_at) as otherwise,
           first_value(r.owner) over sofar as first_owner,
           array_agg(r.named) filter (where r.named is not null) over sofar as named,
           array_agg(r.call_direction) filter (where r.call_direction is not null) over sofar as call_direction,
           array_agg(r.duration) filter (where r.duration is not null) over sofar as duration,
           array_agg(r.billsec) filter (where r.billsec is not null) over sofar as billsec,
           array_agg(r.cost) filter (where r.cost is not null) over sofar as cost,
           array_agg(r.streaming_cost) filter (where r.streaming_cost is not null) over sofar as streaming_cost,
           array_agg(r.total_cost) filter (where r.total_cost is not null) over sofar as total_cost,
           array_agg(r.currency) filter (where r.currency is not null) over sofar as currency
    from record r
    window sofar as (
      partition by r.call_id, base
      order by shown, valid, precedence, r.updated_at nulls first, r.fetched_at, content_hash, r.revision rows unbounded preceding)
  ), state as (
    select s.call_id, s.account_id, s.revision, s.fetched_at, s.vobiz_updated_at, s.hidden, s.shown, s.valid, s.precedence, s.updated_at, s.content_hash,
           coalesce(started[cardinality(started)], ended[cardinality(ended)], created[cardinality(created)], otherwise) as day_at,
           coalesce(named[cardinality(named)], first_owner) as owner,
           call_direction[cardinality(call_direction)] as call_direction,
           duration[cardinality(duration)] as duration,
           billsec[cardinality(billsec)] as billsec,
           cost[cardinality(cost)] as cost,
           streaming_cost[cardinality(streaming_cost)] as streaming_cost,
           total_cost[cardinality(total_cost)] as total_cost,
           currency[cardinality(currency)] as currency
    from said s
  ), step as (
    select s.call_id, s.account_id, s.revision, s.fetched_at, s.vobiz_updated_at, s.shown, s.valid, s.precedence, s.updated_at, s.content_hash, s.day_at,
           s.owner, s.call_direction, s.duration, s.billsec, s.cost, s.streaming_cost, s.total_cost, s.currency,
           row_number() over following as place,
           lag(day_at) over following as was_day_at,
           lag(owner) over following as was_owner,
           lag(call_direction) over following as was_call_direction,
           lag(duration) over following as was_duration,
           lag(billsec) over following as was_billsec,
           lag(cost) over following as was_cost,
           lag(streaming_cost) over following as was_streaming_cost,
           lag(total_cost) over following as was_total_cost,
           lag(currency) over following as was_currency
    from state s
    where not s.hidden or s.shown
    window following as (
      partition by s.call_id order by shown, valid, precedence, updated_at nulls first, fetched_at, content_hash, revision)
  )
  select s.call_id, s.account_id, s.day_at, f.field, f.was, f."is",
         -- Amounts of different currencies have no difference.
         case when f.field not like '%cost' or s.currency is not distinct from s.was_currency then f.difference end as difference,
         s.fetched_at as changed_at, s.vobiz_updated_at, s.revision
  from step s cross join lateral (values
    ('day_at', to_char(s.was_day_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               to_char(s.day_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               s.day_at is distinct from s.was_day_at, null::numeric),
    ('account_id', s.was_owner, s.owner, s.owner is distinct from s.was_owner, null),
    ('call_direction', s.was_call_direction, s.call_direction, s.call_direction is distinct from s.was_call_direction, null),
    ('duration', s.was_duration::text, s.duration::text, s.duration is distinct from s.was_duration, s.duration - s.was_duration),
    ('billsec', s.was_billsec::text, s.billsec::text, s.billsec is distinct from s.was_billsec, s.billsec - s.was_billsec),
    ('cost', s.was_cost::text, s.cost::text, s.cost is distinct from s.was_cost, s.cost - s.was_cost),
    ('streaming_cost', s.was_streaming_cost::text, s.streaming_cost::text,
                       s.streaming_cost is distinct from s.was_streaming_cost, s.streaming_cost - s.was_streaming_cost),
    ('total_cost', s.was_total_cost::text, s.total_cost::text,
                   s.total_cost is distinct from s.was_total_cost, s.total_cost - s.was_total_cost),
    ('currency', s.was_currency, s.currency, s.currency is distinct from s.was_currency, null)
  ) as f (field, was, "is", differs, difference)
  where s.place > 1 and f.differs;

comment on view   vobiz.cdr_change is 'One row per billed field that differs between two versions of a call that follow one another in the order of the service; a field that a list row leaves out has not changed. The column account_id and the order of versions are those of today; a call that moved from one account to another has a row for the field account_id.';
comment on column vobiz.cdr_change.call_id is 'The call.';
comment on column vobiz.cdr_change.account_id is 'Account that owns the call.';
comment on column vobiz.cdr_change.day_at is 'The billing instant after the change.';
comment on column vobiz.cdr_change.field is 'day_at, account_id, call_direction, duration, billsec, cost, streaming_cost, total_cost or currency.';
comment on column vobiz.cdr_change.was is 'The value before, as text (times in UTC); NULL if there was none.';
comment on column vobiz.cdr_change."is" is 'The value after, as text (times in UTC); NULL if there is none any more.';
comment on column vobiz.cdr_change.difference is 'After minus before: seconds for duration and billsec, currency for costs. NULL where either is missing, for other fields, and for costs whose currency changed.';
comment on column vobiz.cdr_change.changed_at is 'When the version that brought the change was asked for, by the clock of Postgres.';
comment on column vobiz.cdr_change.vobiz_updated_at is 'Vobiz''s updated_at in that version.';
comment on column vobiz.cdr_change.revision is 'Number of that version in vobiz.cdr_revision.';
