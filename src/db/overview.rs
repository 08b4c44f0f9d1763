//! What an operator wants to know of the database at once. Quick polls cost a few index lookups and may be repeated every
//! few seconds; thorough ones read the whole queue's index.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use super::account::{self, ReplicaSnapshot};
use super::base::migration::{self, MigrationState, SchemaError};
use super::base::partition;
use super::bill::proof::{self, SumsSnapshot};
use super::bill::unclear::{self, UnclearSnapshot};
use super::ledger::status::{self, LedgerSnapshot};

/// The status of an account.
#[derive(Debug, Clone, Serialize)]
pub struct AccountSnapshot {
    /// The account.
    pub account_id: String,
    /// Casing of the API path that works; none until found out.
    pub api_path: Option<String>,
    /// Why it is paused; none if it is not.
    pub pause_reason: Option<String>,
    /// For how many seconds it has been paused.
    pub paused_seconds: Option<f64>,
    /// Next probe, or end of a throttling pause.
    pub paused_until: Option<DateTime<Utc>>,
    /// Share of its rate limit in force, from 0.02 to 1.
    pub rate_share: f64,
    /// Start of the last completed sweep.
    pub sweep_from: Option<DateTime<Utc>>,
    /// Seconds since the last completed sweep, or since the account was registered.
    pub swept_seconds_ago: f64,
    /// Completeness is promised from here on.
    pub ledger_since: DateTime<Utc>,
    /// Last good answer of the API, to about 10 s.
    pub last_answer_at: Option<DateTime<Utc>>,
    /// For how many seconds its oldest due call has been due; zero if none is.
    pub oldest_due_seconds: f64,
    /// The same among the calls that are to be fetched singly: those under a reservation wait for the list.
    pub oldest_single_due_seconds: f64,
    /// Calls that fell due up to here are being resolved by pages of the list; none if there is no reservation.
    pub listed_due_to: Option<DateTime<Utc>>,
    /// Which part of the last 15 minutes it was paused by 429, from 0 to 1.
    pub throttled_share: f64,
    /// Seconds since its last pause for another reason ended; none if there was none.
    pub unpaused_seconds: Option<f64>,
    /// For how many seconds no process has fetched its calls, though one is configured with it; zero while one does.
    pub unfetched_seconds: f64,
    /// Pages of its list that Vobiz refuses while others come, in words; none if there is none.
    pub refused_pages: Option<String>,
    /// Rows of these pages that could not be read by smaller pages either.
    pub rows_lost: i64,
}

/// The newest calls of an account, of the last hour and 200 at most for each owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewestCalls {
    /// The account.
    pub account_id: String,
    /// How many.
    pub calls: i64,
    /// Of which a callback announced.
    pub announced: i64,
}

/// Dead letters of an account and class.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetterSnapshot {
    /// The account.
    pub account_id: String,
    /// Why they died.
    pub class: String,
    /// How many.
    pub calls: i64,
    /// Seconds since the first of them died.
    pub oldest_seconds: f64,
}

/// What a quick poll sees.
#[derive(Debug, Clone)]
pub struct Quick {
    /// The wall clock of Postgres.
    pub clock: DateTime<Utc>,
    /// `server_version`.
    pub version: String,
    /// Why it takes no writes, if so: `standby`, or where it was set to read only (the `source` of `pg_settings`).
    pub read_only: Option<String>,
    /// All accounts that have a row, sorted.
    pub accounts: Vec<AccountSnapshot>,
    /// The processes that are configured with them.
    pub replicas: Vec<ReplicaSnapshot>,
}

/// Calls that an account owes.
#[derive(Debug, Clone, Serialize)]
pub struct OwedSnapshot {
    /// The account.
    pub account_id: String,
    /// Due by now: to be fetched as soon as the rate limit lets them.
    pub due: i64,
    /// Under a lease, waiting for their first fetch or in a backoff.
    pub waiting: i64,
    /// The account was retired: they came after that.
    pub retired: bool,
}

/// Certain calls of an account and class that have been owed for over 36 hours, whatever their next try.
#[derive(Debug, Clone, Serialize)]
pub struct LongOwedSnapshot {
    /// The account.
    pub account_id: String,
    /// Class of their last failure; `none` where they have not failed.
    pub class: String,
    /// How many.
    pub calls: i64,
    /// Seconds since the first of them was owed.
    pub oldest_seconds: f64,
}

/// Instants of an account that lie later than their own rules can write them.
#[derive(Debug, Clone, Serialize)]
pub struct AheadSnapshot {
    /// The account.
    pub account_id: String,
    /// Their columns, the furthest first.
    pub columns: String,
    /// How far ahead the furthest lies, in seconds.
    pub seconds: f64,
}

/// What a thorough poll sees.
#[derive(Debug, Clone)]
pub struct Thorough {
    /// The queue without its dead letters, by account.
    pub owed: Vec<OwedSnapshot>,
    /// Of them, those that have been owed for long, sorted by account and class.
    pub long_owed: Vec<LongOwedSnapshot>,
    /// Instants that lie later than now, sorted by account.
    pub instants_ahead: Vec<AheadSnapshot>,
    /// Dead letters, sorted by account and class.
    pub dead: Vec<DeadLetterSnapshot>,
    /// The newest calls, by account.
    pub newest: Vec<NewestCalls>,
    /// The ledger of days.
    pub ledger: LedgerSnapshot,
    /// The sums of the bill.
    pub sums: SumsSnapshot,
    /// Calls with something that could not be read.
    pub unclear: UnclearSnapshot,
    /// Partitions of this month and the next that are not there.
    pub missing_partitions: Vec<String>,
    /// Migrations that the database lacks.
    pub pending: usize,
    /// Migrations that the database has with another text than this binary.
    pub changed: usize,
    /// Migrations that this binary does not know.
    pub ahead: usize,
}

/// Polls what a few index lookups tell.
pub async fn quick(connection: &mut PgConnection) -> Result<Quick, sqlx::Error> {
    // One snapshot: a pause of an account, and whose it is, are said together.
    let mut transaction = connection.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read").execute(&mut *transaction).await?;
    let connection = &mut *transaction;
    let accounts = sqlx::query_as!(
        AccountSnapshot,
        r#"select a.account_id, a.api_path,
                  case when p.paused then a.pause_reason end as pause_reason,
                  case when p.paused then greatest(0, extract(epoch from vobiz.now() - a.paused_since))::float8 end as paused_seconds,
                  case when p.paused then a.paused_until end as paused_until,
                  vobiz.rate_in_force(a) as "rate_share!",
                  a.sweep_from,
                  greatest(0, extract(epoch from vobiz.now() - coalesce(a.swept_at, a.registered_at)))::float8 as "swept_seconds_ago!",
                  a.ledger_since, a.last_answer_at,
                  -- One index lookup each for the certain and the speculative calls.
                  greatest(0, extract(epoch from vobiz.now() - least(
                    (select min(due_at) from vobiz.cdr_queue q
                     where q.account_id = a.account_id and q.dead_at is null and q.certain),
                    (select min(due_at) from vobiz.cdr_queue q
                     where q.account_id = a.account_id and q.dead_at is null and not q.certain))))::float8 as "oldest_due_seconds!",
                  greatest(0, extract(epoch from vobiz.now() - least(
                    (select min(due_at) from vobiz.cdr_queue q
                     where q.account_id = a.account_id and q.dead_at is null and q.certain
                       and q.due_at > coalesce(h.due_to, '-infinity')),
                    (select min(due_at) from vobiz.cdr_queue q
                     where q.account_id = a.account_id and q.dead_at is null and not q.certain
                       and q.due_at > coalesce(h.due_to, '-infinity')))))::float8 as "oldest_single_due_seconds!",
                  h.due_to as listed_due_to,
                  coalesce((select sum(extract(epoch from least(h.until_at, vobiz.now())
                                                          - greatest(h.started_at, vobiz.now() - interval '15 minutes')))
                            from vobiz.account_pause h
                            where h.account_id = a.account_id and h.reason = 'throttled' and h.started_at < vobiz.now()
                              and h.until_at > vobiz.now() - interval '15 minutes') / 900, 0)::float8 as "throttled_share!",
                  extract(epoch from vobiz.now() - (
                    select max(least(h.until_at, vobiz.now())) from vobiz.account_pause h
                    where h.account_id = a.account_id and h.reason not in ('throttled', 'unfetched') and h.started_at <= vobiz.now()))::float8 as unpaused_seconds,
                  coalesce(extract(epoch from vobiz.now() - vobiz.unfetched_since(a.account_id)), 0)::float8 as "unfetched_seconds!",
                  (select string_agg(r.words, '; ' order by r.list, r.page) from vobiz.refused_page r
                   where r.account_id = a.account_id) as refused_pages,
                  (select coalesce(sum(r.rows_lost), 0) from vobiz.refused_page r where r.account_id = a.account_id) as "rows_lost!"
           from vobiz.account a
           cross join lateral (select vobiz.is_paused(a) as paused) p
           cross join lateral (
             select vobiz.reserved_to(a) as due_to) h
           order by a.account_id"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let server = sqlx::query!(
        r#"select current_setting('server_version') as "version!", 
                  case when pg_catalog.pg_is_in_recovery() then 'standby'
                       when current_setting('transaction_read_only')::bool then
                         (select s.source from pg_catalog.pg_settings s where s.name = 'default_transaction_read_only') end as read_only,
                  pg_catalog.clock_timestamp() as "clock!""#
    )
    .fetch_one(&mut *connection)
    .await?;
    let replicas = account::replicas(connection).await?;
    transaction.commit().await?;
    Ok(Quick {
        clock: server.clock,
        version: server.version,
        read_only: server.read_only,
        accounts,
        replicas,
    })
}

/// Polls what has to be counted: it takes as long as the queue is large.
pub async fn thorough(connection: &mut PgConnection) -> Result<Thorough, sqlx::Error> {
    let owed = sqlx::query_as!(
        OwedSnapshot,
        r#"select q.account_id, q.due as "due!", q.waiting as "waiting!", a.retired_at is not null as "retired!"
           from (select account_id, count(*) filter (where due_at <= vobiz.now()) as due,
                        count(*) filter (where due_at > vobiz.now()) as waiting
                 from vobiz.cdr_queue where dead_at is null group by account_id) q
           left join vobiz.account a on a.account_id = q.account_id
           order by q.account_id"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let long_owed = long_owed(&mut *connection).await?;
    let instants_ahead = instants_ahead(&mut *connection).await?;
    let dead = sqlx::query_as!(
        DeadLetterSnapshot,
        r#"select account_id, error_class as "class!", count(*) as "calls!",
                  extract(epoch from vobiz.now() - min(dead_at))::float8 as "oldest_seconds!"
           from vobiz.cdr_queue where dead_at is not null group by 1, 2 order by 1, 2"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let newest = sqlx::query_as!(
        NewestCalls,
        r#"select a.account_id, count(n.call_id) as "calls!", count(n.first_callback_at) as "announced!"
           from vobiz.account a
           join vobiz.compared_owner o on o.account_id = a.account_id
           cross join lateral (
             select c.call_id, c.first_callback_at from vobiz.cdr c
             where c.account_id = o.owner and (c.account_id = a.account_id or c.listed_by = a.account_id)
               -- What was before the service could be told was announced to nobody.
               and c.day_at >= greatest(a.registered_at, vobiz.now() - interval '1 hour') and c.day_at <= vobiz.now()
             order by c.day_at desc limit 200) n
           group by a.account_id order by a.account_id"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let ledger = status::read(&mut *connection).await?;
    let sums = proof::read(&mut *connection).await?;
    let unclear = unclear::read(&mut *connection).await?;
    let missing_partitions = partition::missing(&mut *connection).await?;
    let steps = match migration::status(connection).await {
        Ok(steps) => steps,
        Err(SchemaError::Sql(error)) => return Err(error),
        Err(other) => return Err(sqlx::Error::Configuration(other.into())),
    };
    let count = |state| steps.iter().filter(|step| step.state == state).count();
    Ok(Thorough {
        owed,
        long_owed,
        instants_ahead,
        dead,
        newest,
        ledger,
        sums,
        unclear,
        missing_partitions,
        pending: count(MigrationState::Pending),
        changed: count(MigrationState::Changed),
        ahead: count(MigrationState::Ahead),
    })
}

/// Counts what has been owed for long. Its age runs from when it was owed first: `due_at` moves with each try.
async fn long_owed(connection: &mut PgConnection) -> Result<Vec<LongOwedSnapshot>, sqlx::Error> {
    sqlx::query_as!(
        LongOwedSnapshot,
        r#"select account_id, coalesce(error_class, 'none') as "class!", count(*) as "calls!",
                  extract(epoch from vobiz.now() - min(enqueued_at))::float8 as "oldest_seconds!"
           from vobiz.cdr_queue
           where dead_at is null and certain and enqueued_at < vobiz.now() - interval '36 hours'
           group by 1, 2 order by 1, 2"#
    )
    .fetch_all(connection)
    .await
}

/// Looks for instants later than now, or than the most that is ever put ahead of it: a clock was ahead when they were written.
async fn instants_ahead(connection: &mut PgConnection) -> Result<Vec<AheadSnapshot>, sqlx::Error> {
    sqlx::query_as!(
        AheadSnapshot,
        r#"with instant as (
             select a.account_id, i.name, i.instant - i.most as instant
             from vobiz.account a
             cross join lateral (values
               ('paused_since', a.paused_since, interval '0'), ('paused_until', a.paused_until, interval '61 minutes'),
               ('next_slot', a.next_slot, interval '15 minutes'), ('rate_share_at', a.rate_share_at, interval '0'),
               ('sweep_from', a.sweep_from, interval '0'), ('swept_at', a.swept_at, interval '0'),
               ('swept_wide_at', a.swept_wide_at, interval '0'), ('ledger_since', a.ledger_since, interval '0'),
               ('last_answer_at', a.last_answer_at, interval '0'), ('listing_until', a.listing_until, interval '2 minutes'),
               ('registered_at', a.registered_at, interval '0')) as i (name, instant, most)
             union all
             select r.account_id, i.name, i.instant
             from vobiz.account_replica r
             cross join lateral (values ('seen_at', r.seen_at), ('probe_at', r.probe_at - interval '61 minutes')) as i (name, instant)
             union all
             select q.account_id, i.name, i.instant
             from (select account_id, max(due_at) filter (where dead_at is null) - interval '61 minutes' as due_at, max(enqueued_at) as enqueued_at,
                          max(first_failed_at) as first_failed_at, max(first_not_yet_at) as first_not_yet_at, max(dead_at) as dead_at
                   from vobiz.cdr_queue group by account_id) q
             cross join lateral (values
               ('due_at', q.due_at), ('enqueued_at', q.enqueued_at), ('first_failed_at', q.first_failed_at),
               ('first_not_yet_at', q.first_not_yet_at), ('dead_at', q.dead_at)) as i (name, instant)
             union all
             select d.account_id, i.name, i.instant
             from (select d.account_id, max(d.began_at) as began_at, max(d.checked_at) as checked_at, max(d.reopened_at) as reopened_at,
                          max(d.check_at) filter (where d.check_at > vobiz.latest_check(d)) as check_at
                   from vobiz.provider_day d group by d.account_id) d
             cross join lateral (values
               ('began_at', d.began_at), ('checked_at', d.checked_at), ('reopened_at', d.reopened_at),
               ('check_at', d.check_at)) as i (name, instant)
           )
           select i.account_id as "account_id!", string_agg(i.name, ', ' order by i.instant desc, i.name) as "columns!",
                  extract(epoch from max(i.instant) - vobiz.now())::float8 as "seconds!"
           from instant i
           -- Less is the clock itself, which NTP moves.
           where i.instant > vobiz.now() + interval '5 seconds'
             and not exists (select from vobiz.account x where x.account_id = i.account_id and x.retired_at is not null)
           group by i.account_id order by i.account_id"#
    )
    .fetch_all(connection)
    .await
}
