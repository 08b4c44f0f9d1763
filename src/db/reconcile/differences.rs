//! What a comparison found: how many, the sums of both sides, and each difference.

use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use serde::Serialize;
use sqlx::PgConnection;

use super::SIDES;

/// How many calls and rows came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Counts {
    /// Our calls that were compared; not those that they name of accounts that were not asked for.
    pub calls_here: i64,
    /// Their calls that were compared; one that is repeated counts once.
    pub calls_there: i64,
    /// Calls on which both sides agree.
    pub equal: i64,
    /// Calls that only they have.
    pub missing_here: i64,
    /// Calls that only we have.
    pub missing_there: i64,
    /// Calls that both have, with other values.
    pub differing: i64,
    /// Rows of theirs that could not be read.
    pub unreadable: i64,
    /// Calls that they have more than once, with different values.
    pub contradicting: i64,
    /// Calls on which both sides agree, but that they charge more than once: rows that say seconds or amounts again.
    pub charged_twice: i64,
    /// Rows that say again what a row before said: a mismatch only where they charge something.
    pub repeated: i64,
    /// Our calls that several rows may be about, or whose row may be about several.
    pub ambiguous_here: i64,
    /// The rows in question.
    pub ambiguous_there: i64,
    /// Rows outside of the days or of the accounts that were asked for.
    pub left_out: i64,
}

impl Counts {
    /// Calls and rows that are missing, differ or are in doubt: as many as there are [`differences`].
    pub fn differences(&self) -> i64 {
        self.missing_here
            + self.missing_there
            + self.differing
            + self.unreadable
            + self.contradicting
            + self.charged_twice
            + self.ambiguous_here
            + self.ambiguous_there
    }
}

/// Counts them.
pub async fn counts(connection: &mut PgConnection) -> Result<Counts, sqlx::Error> {
    sqlx::query_as(
        "select count(call_id) filter (where not of_others) as calls_here, count(line) as calls_there,
                count(*) filter (where kind = 'equal') as equal,
                count(*) filter (where kind = 'missing_here') as missing_here,
                count(*) filter (where kind = 'missing_there') as missing_there,
                count(*) filter (where kind = 'differs') as differing,
                count(*) filter (where kind = 'unreadable') as unreadable,
                count(*) filter (where kind = 'repeated') as contradicting,
                count(*) filter (where kind = 'charged_twice') as charged_twice,
                count(call_id) filter (where kind = 'ambiguous') as ambiguous_here,
                count(line) filter (where kind = 'ambiguous') as ambiguous_there,
                (select count(*) from pg_temp.reconcile_match where repeats is not null and not contradicted) as repeated,
                (select count(*) from pg_temp.reconcile_match where repeats is null) - count(line) as left_out
         from pg_temp.reconcile_pair",
    )
    .fetch_one(connection)
    .await
}

/// A sum of both sides in one currency. Numbers are texts: exact, and as large as they come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct ReconcileTotal {
    /// The currency; None where neither side names one. Different ones are never added up.
    pub currency: Option<String>,
    /// `calls`, or one of [`FIELDS`](super::FIELDS): seconds or money.
    pub what: String,
    /// Our sum.
    pub here: Option<String>,
    /// Their sum.
    pub there: Option<String>,
    /// Ours less theirs.
    pub difference: Option<String>,
}

/// Sums up what was compared, by currency. Of theirs each row counts, as they charge it; a call of several rows is one call.
pub async fn totals(connection: &mut PgConnection) -> Result<Vec<ReconcileTotal>, sqlx::Error> {
    sqlx::query_as(
        "with side as (
           select true as here, true as is_call, c.currency, c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost
           from pg_temp.reconcile_pair p join pg_temp.reconcile_our c using (call_id)
           where not p.of_others
           union all
           select false, t.line = p.line, coalesce(t.currency, c.currency), t.duration, t.billsec, t.cost, t.streaming_cost, t.total_cost
           from pg_temp.reconcile_pair p
           join pg_temp.reconcile_match m on coalesce(m.repeats, m.line) = p.line
           join pg_temp.reconcile_their t on t.line = m.line
           left join pg_temp.reconcile_our c on c.call_id = p.call_id
         ),
         total as (
           select currency,
                  count(*) filter (where here) as calls, count(*) filter (where not here and is_call) as their_calls,
                  sum(duration) filter (where here) as duration, sum(duration) filter (where not here) as their_duration,
                  sum(billsec) filter (where here) as billsec, sum(billsec) filter (where not here) as their_billsec,
                  sum(cost) filter (where here) as cost, sum(cost) filter (where not here) as their_cost,
                  sum(streaming_cost) filter (where here) as streaming_cost,
                  sum(streaming_cost) filter (where not here) as their_streaming_cost,
                  sum(total_cost) filter (where here) as total_cost, sum(total_cost) filter (where not here) as their_total_cost
           from side
           group by currency
         )
         select currency, what, trim_scale(here)::text as here, trim_scale(there)::text as there,
                trim_scale(coalesce(here, 0) - coalesce(there, 0))::text as difference
         from total cross join lateral (values
           (1, 'calls', calls::numeric, their_calls::numeric), (2, 'duration', duration, their_duration),
           (3, 'billsec', billsec, their_billsec), (4, 'cost', cost, their_cost),
           (5, 'streaming_cost', streaming_cost, their_streaming_cost), (6, 'total_cost', total_cost, their_total_cost)
         ) as v (nth, what, here, there)
         order by currency nulls last, nth",
    )
    .fetch_all(connection)
    .await
}

/// The first calls that they charge more than once, by id; of those that differ or that we have not, too.
pub async fn charged_twice(connection: &mut PgConnection, most: i64) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(t.call_id, p.call_id, 'line ' || t.line)
         from pg_temp.reconcile_pair p join pg_temp.reconcile_their t using (line)
         where p.kind in ('charged_twice', 'differs', 'missing_here')
           and (t.duration <> 0 or t.billsec <> 0 or t.cost <> 0 or t.streaming_cost <> 0 or t.total_cost <> 0)
           and exists (select from pg_temp.reconcile_match m where m.repeats = p.line)
         order by t.line
         limit $1",
    )
    .bind(most)
    .fetch_all(connection)
    .await
}

/// A call on which the two sides do not agree.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ReconcileDifference {
    /// missing_here, missing_there, differs, unreadable, repeated, charged_twice or ambiguous.
    pub kind: String,
    /// Where their row stands.
    pub line: Option<i64>,
    /// The call: ours, else as they name it.
    pub call_id: Option<String>,
    /// Its account.
    pub account_id: Option<String>,
    /// Who called.
    pub from_number: Option<String>,
    /// Who was called.
    pub to_number: Option<String>,
    /// When it began: by us, else by them.
    pub called_at: Option<DateTime<Utc>>,
    /// What we say of each of [`SIDES`].
    pub here: Vec<Option<String>>,
    /// What they say.
    pub there: Vec<Option<String>>,
    /// Which of them differ, by name.
    pub differs: Vec<String>,
    /// What there is to say of it in words.
    pub why: Option<String>,
}

impl ReconcileDifference {
    /// The fields that differ: name, ours, theirs. Only of calls that both sides have.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Option<&str>, Option<&str>)> {
        let both = self.kind == "differs";
        let values = SIDES.into_iter().zip(self.here.iter().zip(&self.there));
        values.filter(move |_| both).filter_map(|(field, (here, there))| {
            let differs = self.differs.iter().any(|name| name == field);
            differs.then_some((field, here.as_deref(), there.as_deref()))
        })
    }
}

/// All differences, the earliest call first; at most `most`, where that is given.
pub fn differences(
    connection: &mut PgConnection,
    most: Option<i64>,
) -> BoxStream<'_, Result<ReconcileDifference, sqlx::Error>> {
    sqlx::query_as(
        "select p.kind, p.line, coalesce(c.call_id, t.call_id) as call_id, coalesce(c.account_id, t.account_id) as account_id,
                coalesce(c.from_number, t.from_number) as from_number, coalesce(c.to_number, t.to_number) as to_number,
                coalesce(c.called_at, t.called_at) as called_at,
                array[trim_scale(c.duration)::text, trim_scale(c.billsec)::text, trim_scale(c.cost)::text,
                      trim_scale(c.streaming_cost)::text, trim_scale(c.total_cost)::text, c.currency, c.account_id] as here,
                array[trim_scale(t.duration)::text, trim_scale(t.billsec)::text, trim_scale(t.cost)::text,
                      trim_scale(t.streaming_cost)::text, trim_scale(t.total_cost)::text, t.currency, t.account_id] as there,
                coalesce(p.differs, '{}') as differs,
                nullif(concat_ws('; ', case p.kind
                  when 'unreadable' then t.unreadable
                  when 'repeated' then (
                    select 'said differently in line ' || string_agg(m.line::text, ', ' order by m.line)
                    from pg_temp.reconcile_match m where m.repeats = p.line)
                  when 'charged_twice' then (
                    select 'charged again in line ' || string_agg(m.line::text, ', ' order by m.line)
                    from pg_temp.reconcile_match m where m.repeats = p.line)
                  when 'ambiguous' then coalesce(
                    (select 'may be ' || string_agg(a.call_id, ' or ' order by a.call_id)
                     from pg_temp.reconcile_candidate a where a.line = p.line),
                    (select 'may be theirs ' || string_agg(
                              concat_ws(' ', a.call_id, 'from', a.from_number, 'to', a.to_number, 'at', a.called_at), ' or '
                              order by a.called_at, a.line)
                     from (select t.* from pg_temp.reconcile_candidate a join pg_temp.reconcile_their t using (line)
                           where a.call_id = p.call_id) a))
                end, case when p.of_others then 'a call of ' || c.account_id || ', which was not asked for' end), '') as why
         from pg_temp.reconcile_pair p
         left join pg_temp.reconcile_our c on c.call_id = p.call_id
         left join pg_temp.reconcile_their t on t.line = p.line
         where p.kind <> 'equal'
         order by called_at, p.line, call_id
         limit $1",
    )
    .bind(most)
    .fetch(connection)
}
