//! The sums of the bill proved against their calls by the service itself: with each check of a day, and all of them once a day.
//!
//! Triggers keep the sums, so they are wrong only where something went past the triggers: data that were restored with triggers
//! on, a session that had them off, a hand. What is found stands in `vobiz.wrong_sum` until a later proof finds it right, and
//! `vobiz.safe_to_bill` goes no further than that.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::rollup::{self, Sums, VerifyScope};
use super::rollup_day;
use crate::db::base::brief::Brief;
use crate::db::base::task::{self, Task};

/// The task of [`prove_next_day`] in `vobiz.task`, and the name of its lock.
pub const TASK: &str = "prove sums";

/// A sum that does not equal its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongSum {
    /// Account that owns the calls.
    pub account_id: String,
    /// Day in the billing zone.
    pub day: NaiveDate,
    /// Which sum, for a person: customer, currency, direction, and the quarter of an hour or the day.
    pub key: String,
    /// What is kept.
    pub kept: Sums,
    /// What the calls (or, of a day, its quarters) add up to.
    pub calls: Sums,
}

/// Has the caller's transaction alone prove and note what it finds, until its end: of two at once, the one that looked first could
/// note last. A row that is not there would be locked by nobody: that is an error.
pub async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!("select name from vobiz.work_lease where name = 'wrong sums' for no key update")
        .fetch_one(connection)
        .await?;
    Ok(())
}

/// The same; false if another session has that for longer than a moment.
pub async fn lock_soon(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let brief = Brief::begin(&mut *connection).await?;
    let locked = lock(&mut *connection).await;
    Ok(brief.end(connection, locked).await?.is_some())
}

/// Whether this session may note what it finds.
pub async fn may_note(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select not current_setting('transaction_read_only')::bool and has_table_privilege('vobiz.wrong_sum', 'insert, update, delete')
                  and has_table_privilege('vobiz.work_lease', 'update') as "may!""#
    )
    .fetch_one(connection)
    .await
}

/// Adds up the calls of a scope and notes what the sums say otherwise, in the caller's transaction.
pub async fn prove(
    connection: &mut PgConnection,
    scope: VerifyScope<'_>,
) -> Result<Vec<WrongSum>, sqlx::Error> {
    lock(&mut *connection).await?;
    let key = |whose: &str,
               currency: Option<&String>,
               direction: Option<&String>,
               answered: Option<bool>,
               when: String| {
        let (currency, direction) =
            (currency.map_or("-", String::as_str), direction.map_or("-", String::as_str));
        let answered = match answered {
            Some(true) => "answered",
            Some(false) => "not answered",
            None => "without seconds",
        };
        format!("{whose}, {currency}, {direction}, {answered}, {when}")
    };
    let quarters = rollup::verify(&mut *connection, scope).await?.differences.into_iter().map(|difference| {
        let rollup::Key { account_id, customer, bucket, currency, call_direction, answered } = difference.key;
        let when = format!("{} UTC", bucket.format("%Y-%m-%d %H:%M"));
        WrongSum {
            account_id,
            day: difference.day,
            key: key(&customer, currency.as_ref(), call_direction.as_ref(), answered, when),
            kept: difference.rollup,
            calls: difference.calls,
        }
    });
    let mut wrong: Vec<WrongSum> = quarters.collect();
    let days = rollup_day::verify(&mut *connection, scope).await?.into_iter().map(|difference| WrongSum {
        day: difference.day,
        key: key(
            &difference.customer,
            difference.currency.as_ref(),
            difference.call_direction.as_ref(),
            difference.answered,
            "the day".into(),
        ),
        account_id: difference.account_id,
        kept: difference.rollup_day.0,
        calls: difference.rollup.0,
    });
    wrong.extend(days);
    note(connection, scope, &wrong).await?;
    Ok(wrong)
}

/// Notes what a proof of a scope has found; what an earlier one found there and this one did not is forgotten. The caller has taken the
/// [`lock`] before it looked.
pub async fn note(
    connection: &mut PgConnection,
    scope: VerifyScope<'_>,
    wrong: &[WrongSum],
) -> Result<(), sqlx::Error> {
    let accounts: Vec<&str> = wrong.iter().map(|sum| sum.account_id.as_str()).collect();
    let days: Vec<NaiveDate> = wrong.iter().map(|sum| sum.day).collect();
    sqlx::query!(
        "with wrong as (
           select w.account_id, w.day, count(*) as sums from unnest($1::text[], $2::date[]) as w (account_id, day) group by 1, 2
         ), noted as (
           insert into vobiz.wrong_sum as w (account_id, day, sums) select * from wrong order by 1, 2
           on conflict (account_id, day) do update set sums = excluded.sums
         )
         delete from vobiz.wrong_sum w
         where ($3::text[] is null or w.account_id = any($3)) and ($4::date is null or w.day >= $4) and ($5::date is null or w.day <= $5)
           and not exists (select from wrong n where n.account_id = w.account_id and n.day = w.day)",
        &accounts as &[&str],
        &days,
        scope.accounts as Option<&[String]>,
        scope.from,
        scope.to
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The billing days that some instants touch, the first and the last.
pub async fn days_of(
    connection: &mut PgConnection,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<(NaiveDate, NaiveDate), sqlx::Error> {
    let row = sqlx::query!(
        r#"select vobiz.billing_day_of($1, s.billing_zone) as "first!",
                  vobiz.billing_day_of($2::timestamptz - interval '1 microsecond', s.billing_zone) as "last!"
           from vobiz.setting s"#,
        from,
        to
    )
    .fetch_one(connection)
    .await?;
    Ok((row.first, row.last))
}

/// Accounts that own a call, or that own a sum of these days. With `account`, of these the ones whose calls only its list can show:
/// itself, and those that are not configured.
pub async fn owners(
    connection: &mut PgConnection,
    account: Option<&str>,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with every as (
             select o.account_id as id from vobiz.call_owner o
             union
             select d.account_id from vobiz.rollup_day d where d.day between $2 and $3
             union
             select r.account_id
             from vobiz.setting s join vobiz.rollup_part r
               on r.bucket >= vobiz.billing_day_start($2, s.billing_zone) and r.bucket < vobiz.billing_day_start($3::date + 1, s.billing_zone)
             union
             select w.account_id from vobiz.wrong_sum w where w.day between $2 and $3
           )
           select e.id as "id!" from every e
           where $1::text is null or e.id = $1 or not exists (select from vobiz.account a where a.account_id = e.id)"#,
        account,
        first,
        last
    )
    .fetch_all(connection)
    .await
}

/// What one step of proving all sums did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProofStep {
    /// All were proved less than a day ago.
    NotDue,
    /// A day was proved; so many of its sums are wrong. It is the next one until [`advance`] says otherwise.
    Proved(NaiveDate, usize),
    /// There is no further day after so many: it begins anew a day later.
    Finished(u64),
}

/// Whether all sums are to be proved: a pass was begun, or the last one ended a day ago.
pub async fn is_due(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select not exists (
             select from vobiz.task
             where name = $1 and finished_at > vobiz.now() - interval '1 day' and finished_at <= vobiz.now() + interval '1 minute' and detail->>'database' = vobiz.database_identity())
             or exists (select from vobiz.task where name = $1 and finished_at is null) as "due!""#,
        TASK
    )
    .fetch_one(connection)
    .await
}

/// Proves the sums of the next billing day in a transaction of the caller's, which holds the lease of [`TASK`]. The same day comes next
/// time, too, until the caller has done what follows from it, and [`advance`]s.
pub async fn prove_next_day(connection: &mut PgConnection) -> Result<ProofStep, sqlx::Error> {
    if !is_due(&mut *connection).await? {
        return Ok(ProofStep::NotDue);
    }
    // What another database had proved came with its data, and is no proof of this one.
    sqlx::query!(
        "delete from vobiz.task where name = $1 and detail->>'database' is distinct from vobiz.database_identity()",
        TASK
    )
    .execute(&mut *connection)
    .await?;
    let unfinished = task::unfinished(&mut *connection, TASK, None).await?;
    let task = match unfinished {
        Some(task) => task,
        None => begin(&mut *connection).await?,
    };
    let after = task.position.as_deref().and_then(|day| day.parse().ok());
    let Some(day) = next_day(&mut *connection, after).await? else {
        let (days, _) = counts(&mut *connection, &task).await?;
        task::finish(&mut *connection, &task).await?;
        // Of older passes a row says nothing more.
        sqlx::query!("delete from vobiz.task where name = $1 and id < $2", TASK, task.id)
            .execute(connection)
            .await?;
        return Ok(ProofStep::Finished(days));
    };
    let owners = owners(&mut *connection, None, day, day).await?;
    let scope = VerifyScope { accounts: Some(&owners), from: Some(day), to: Some(day) };
    let wrong = prove(connection, scope).await?.len();
    Ok(ProofStep::Proved(day, wrong))
}

/// Writes down that a day was proved, with so many wrong sums: to be done last, in the transaction of what follows from that. Whatever
/// breaks off sooner has the day proved again.
pub async fn advance(connection: &mut PgConnection, day: NaiveDate, wrong: usize) -> Result<(), sqlx::Error> {
    let Some(mut task) = task::unfinished(&mut *connection, TASK, None).await? else { return Ok(()) };
    let (days, wrong_before) = counts(&mut *connection, &task).await?;
    task.position = Some(day.to_string());
    let wrong = u64::try_from(wrong).unwrap_or(u64::MAX);
    task::step(connection, &task, days + 1, wrong_before.saturating_add(wrong)).await
}

/// Begins a pass, of this database.
async fn begin(connection: &mut PgConnection) -> Result<Task, sqlx::Error> {
    let mut task = task::begin(&mut *connection, TASK, None).await?;
    let identity =
        sqlx::query_scalar!("select json_build_object('database', vobiz.database_identity())::text");
    task.detail = identity.fetch_one(&mut *connection).await?;
    task::step(connection, &task, 0, 0).await?;
    Ok(task)
}

async fn counts(connection: &mut PgConnection, task: &Task) -> Result<(u64, u64), sqlx::Error> {
    let row = sqlx::query!("select done, changed from vobiz.task where id = $1", task.id)
        .fetch_one(connection)
        .await?;
    Ok((u64::try_from(row.done).unwrap_or(0), u64::try_from(row.changed).unwrap_or(0)))
}

/// The first billing day after another that has calls or sums, or of which something was noted.
async fn next_day(
    connection: &mut PgConnection,
    after: Option<NaiveDate>,
) -> Result<Option<NaiveDate>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with later as (
             select coalesce(vobiz.billing_day_start($1::date + 1, s.billing_zone), '-infinity') as at, s.billing_zone as zone
             from vobiz.setting s
           )
           select least(
                    (select min(d.day) from vobiz.rollup_day d where $1::date is null or d.day > $1),
                    (select min(w.day) from vobiz.wrong_sum w where $1::date is null or w.day > $1),
                    -- Of whose calls nothing may be left.
                    (select min(n.day) from vobiz.account a
                     cross join lateral (
                       -- Along the key, as far as the first: a pass over the days of years looks at each once.
                       select d.day from vobiz.provider_day d
                       where d.account_id = a.account_id and d.day > coalesce($1, '-infinity') and d.state = 'settled'
                         and exists (select from vobiz.ledger_total t where t.check_id = d.check_id and t.calls_there > 0)
                       order by d.day limit 1) n),
                    (select vobiz.billing_day_of(min(r.bucket), l.zone) from vobiz.rollup_part r where r.bucket >= l.at),
                    (select vobiz.billing_day_of(min(c.day_at), l.zone)
                     from vobiz.call_owner o
                     cross join lateral (
                       select c.day_at from vobiz.cdr c where c.account_id = o.account_id and c.day_at >= l.at order by c.day_at limit 1) c))
           from later l"#,
        after
    )
    .fetch_one(connection)
    .await
}

/// Sums of a day that do not equal their calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrongDay {
    /// Account that owns the calls.
    pub account_id: String,
    /// Day in the billing zone.
    pub day: NaiveDate,
    /// How many of its sums.
    pub sums: i64,
    /// When that was found.
    pub found_at: DateTime<Utc>,
}

/// What an operator must know of the sums of the bill.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SumsSnapshot {
    /// Days whose sums do not equal their calls, the first twenty.
    pub wrong: Vec<WrongDay>,
    /// Sums that do not equal their calls, in all days.
    pub wrong_sums: i64,
    /// Triggers that do not fire, as `name on table`: without them sums, revisions and days do not follow the calls.
    pub disabled_triggers: Vec<String>,
    /// When all sums were last proved; none before the first time.
    pub proved_at: Option<DateTime<Utc>>,
    /// Changes of the sums that are not folded into them yet. Bills are right, and read them all.
    pub unfolded: i64,
    /// For how many seconds the oldest of them has been waiting; zero if none is.
    pub unfolded_seconds: f64,
}

/// Reads it: a few rows of small tables, and what is not folded.
pub async fn read(connection: &mut PgConnection) -> Result<SumsSnapshot, sqlx::Error> {
    let wrong = sqlx::query_as!(
        WrongDay,
        "select account_id, day, sums, found_at from vobiz.wrong_sum order by day, account_id limit 20"
    )
    .fetch_all(&mut *connection)
    .await?;
    let row = sqlx::query!(
        r#"select (select coalesce(sum(sums), 0)::bigint from vobiz.wrong_sum) as "wrong_sums!",
                  array(select t.name from vobiz.disabled_trigger() t (name) where t.name is not null order by 1) as "disabled!",
                  (select max(finished_at) from vobiz.task where name = $1) as proved_at,
                  delta.unfolded as "unfolded!",
                  greatest(0, extract(epoch from vobiz.now() - delta.oldest))::float8 as "unfolded_seconds!"
           from (select count(*) as unfolded, min(noted_at) as oldest from vobiz.rollup_delta) delta"#,
        TASK
    )
    .fetch_one(connection)
    .await?;
    Ok(SumsSnapshot {
        wrong,
        wrong_sums: row.wrong_sums,
        disabled_triggers: row.disabled,
        proved_at: row.proved_at,
        unfolded: row.unfolded,
        unfolded_seconds: row.unfolded_seconds,
    })
}
