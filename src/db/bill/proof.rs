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

/// Adds up the calls of a scope and notes what the sums say otherwise, in the caller's transaction.
pub async fn prove(
    connection: &mut PgConnection,
    scope: VerifyScope<'_>,
) -> Result<Vec<WrongSum>, sqlx::Error> {
    let key =
        |whose: &str, currency: Option<&String>, direction: Option<&String>, answered: bool, when: String| {
            let (currency, direction) =
                (currency.map_or("-", String::as_str), direction.map_or("-", String::as_str));
            let answered = if answered { "answered" } else { "not answered" };
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

/// Notes what a proof of a scope has found; what an earlier one found there is forgotten.
pub async fn note(
    connection: &mut PgConnection,
    scope: VerifyScope<'_>,
    wrong: &[WrongSum],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from vobiz.wrong_sum
         where ($1::text[] is null or account_id = any($1)) and ($2::date is null or day >= $2) and ($3::date is null or day <= $3)",
        scope.accounts as Option<&[String]>,
        scope.from,
        scope.to
    )
    .execute(&mut *connection)
    .await?;
    let accounts: Vec<&str> = wrong.iter().map(|sum| sum.account_id.as_str()).collect();
    let days: Vec<NaiveDate> = wrong.iter().map(|sum| sum.day).collect();
    sqlx::query!(
        "insert into vobiz.wrong_sum (account_id, day, sums)
         select w.account_id, w.day, count(*) from unnest($1::text[], $2::date[]) as w (account_id, day) group by 1, 2",
        &accounts as &[&str],
        &days
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The accounts whose calls only the list of an account can show, and the billing days that some instants touch.
pub async fn touched(
    connection: &mut PgConnection,
    account: &str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<(Vec<String>, NaiveDate, NaiveDate), sqlx::Error> {
    let row = sqlx::query!(
        r#"select array(select o.owner from vobiz.compared_owner o where o.account_id = $1 and o.owner is not null) as "owners!",
                  vobiz.billing_day_of($2, s.billing_zone) as "first!",
                  vobiz.billing_day_of($3::timestamptz - interval '1 microsecond', s.billing_zone) as "last!"
           from vobiz.setting s"#,
        account,
        from,
        to
    )
    .fetch_one(connection)
    .await?;
    Ok((row.owners, row.first, row.last))
}

/// What one step of proving all sums did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProofStep {
    /// All were proved less than a day ago.
    NotDue,
    /// A day was proved; so many of its sums are wrong.
    Proved(NaiveDate, usize),
    /// There is no further day: it begins anew a day later.
    Finished,
}

/// Proves the sums of the next billing day in a transaction of the caller's, which holds the lock of [`TASK`].
pub async fn prove_next_day(connection: &mut PgConnection) -> Result<ProofStep, sqlx::Error> {
    let Some(mut task) = due(&mut *connection).await? else { return Ok(ProofStep::NotDue) };
    let (days, wrong_before) = counts(&mut *connection, &task).await?;
    let owners = owners(&mut *connection).await?;
    let after = task.position.as_deref().and_then(|day| day.parse().ok());
    let Some(day) = next_day(&mut *connection, &owners, after).await? else {
        task::finish(connection, &task).await?;
        return Ok(ProofStep::Finished);
    };
    let scope = VerifyScope { accounts: Some(&owners), from: Some(day), to: Some(day) };
    let wrong = prove(&mut *connection, scope).await?.len();
    task.position = Some(day.to_string());
    let wrong_so_far = wrong_before + u64::try_from(wrong).unwrap_or(u64::MAX);
    task::step(connection, &task, days + 1, wrong_so_far).await?;
    Ok(ProofStep::Proved(day, wrong))
}

async fn due(connection: &mut PgConnection) -> Result<Option<Task>, sqlx::Error> {
    if let Some(task) = task::unfinished(&mut *connection, TASK, None).await? {
        return Ok(Some(task));
    }
    let proved = sqlx::query_scalar!(
        r#"select exists (
             select from vobiz.task where name = $1 and finished_at > vobiz.now() - interval '1 day') as "proved!""#,
        TASK
    )
    .fetch_one(&mut *connection)
    .await?;
    if proved {
        return Ok(None);
    }
    // A row a day says nothing more than the last one.
    sqlx::query!("delete from vobiz.task where name = $1", TASK).execute(&mut *connection).await?;
    task::begin(connection, TASK, None).await.map(Some)
}

async fn counts(connection: &mut PgConnection, task: &Task) -> Result<(u64, u64), sqlx::Error> {
    let row = sqlx::query!("select done, changed from vobiz.task where id = $1", task.id)
        .fetch_one(connection)
        .await?;
    Ok((u64::try_from(row.done).unwrap_or(0), u64::try_from(row.changed).unwrap_or(0)))
}

/// All accounts that own a call or a sum.
async fn owners(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with recursive owner as (
             select min(account_id) as id from vobiz.cdr
             union all
             select (select min(c.account_id) from vobiz.cdr c where c.account_id > o.id) from owner o where o.id is not null
           )
           select id as "id!" from owner where id is not null
           union
           select account_id from vobiz.rollup_day
           union
           select account_id from vobiz.rollup_delta"#
    )
    .fetch_all(connection)
    .await
}

/// The first billing day after another that has calls or sums.
async fn next_day(
    connection: &mut PgConnection,
    owners: &[String],
    after: Option<NaiveDate>,
) -> Result<Option<NaiveDate>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with later as (
             select coalesce(vobiz.billing_day_start($2::date + 1, s.billing_zone), '-infinity') as at, s.billing_zone as zone
             from vobiz.setting s
           )
           select least(
                    (select min(d.day) from vobiz.rollup_day d where $2::date is null or d.day > $2),
                    (select vobiz.billing_day_of(min(r.bucket), l.zone) from vobiz.rollup_part r where r.bucket >= l.at),
                    (select vobiz.billing_day_of(min(c.day_at), l.zone)
                     from unnest($1::text[]) o (id)
                     cross join lateral (
                       select c.day_at from vobiz.cdr c where c.account_id = o.id and c.day_at >= l.at order by c.day_at limit 1) c))
           from later l"#,
        owners,
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
}

/// Reads it: a few rows of small tables.
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
                  (select max(finished_at) from vobiz.task where name = $1) as proved_at"#,
        TASK
    )
    .fetch_one(connection)
    .await?;
    Ok(SumsSnapshot {
        wrong,
        wrong_sums: row.wrong_sums,
        disabled_triggers: row.disabled,
        proved_at: row.proved_at,
    })
}
