//! An account that leaves: how it stands, the end of its promise, and what takes it up again. Its calls stay as they are.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{Connection, PgConnection};

use super::base::audit;
use super::ledger::safe_to_bill;
use super::queue::dead_letter::{self, Closing};
use crate::vobiz::AccountId;

/// Days that are named; all are counted.
const NAMED: usize = 10;

/// How an account of the database stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccountStanding {
    /// The account.
    pub account_id: String,
    /// Its promise ended here; none if it goes on.
    pub retired_at: Option<DateTime<Utc>>,
    /// Why it is paused; none if it is not.
    pub pause_reason: Option<String>,
    /// Calls that are owed and not dead.
    pub owed: i64,
    /// Dead letters.
    pub dead_letters: i64,
    /// Last good answer of the API.
    pub last_answer_at: Option<DateTime<Utc>>,
    /// Completeness is promised from here on.
    pub ledger_since: DateTime<Utc>,
    /// Everything before is complete and equals Vobiz's own rows and totals.
    pub safe_to: Option<DateTime<Utc>>,
    /// What keeps that from moving on.
    pub held_by: Option<String>,
    /// Processes that are configured with it just now, as `host pid N`, whatever they do.
    pub asked_by: Vec<String>,
}

/// All accounts that have a row, or the one that is named, sorted.
pub async fn standings(
    connection: &mut PgConnection,
    only: Option<&str>,
) -> Result<Vec<AccountStanding>, sqlx::Error> {
    sqlx::query_as!(
        AccountStanding,
        r#"select a.account_id, a.retired_at, case when vobiz.is_paused(a) then a.pause_reason end as pause_reason,
                  q.owed as "owed!", q.dead as "dead_letters!", a.last_answer_at, a.ledger_since, s.safe_to, s.held_by,
                  array(select format('%s pid %s', r.host, r.pid) from vobiz.account_replica r
                        where r.account_id = a.account_id and vobiz.is_there(r) order by 1) as "asked_by!"
           from vobiz.account a
           left join vobiz.safe_to_bill s on s.account_id = a.account_id
           cross join lateral (
             select count(*) filter (where dead_at is null) as owed, count(*) filter (where dead_at is not null) as dead
             from vobiz.cdr_queue where account_id = a.account_id) q
           where $1::text is null or a.account_id = $1
           order by a.account_id"#,
        only
    )
    .fetch_all(connection)
    .await
}

/// Who ends which promise, and how.
#[derive(Debug, Clone, Copy)]
pub struct Retirement<'a> {
    /// The account.
    pub account: &'a AccountId,
    /// The promise ends here; none: where everything is settled up to.
    pub at: Option<DateTime<Utc>>,
    /// What is owed of it is closed; else nothing may be owed.
    pub give_up: bool,
    /// Who, and why.
    pub closing: Closing<'a>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retired {
    /// The account.
    pub account_id: String,
    /// Its promise ended here.
    pub retired_at: DateTime<Utc>,
    /// Calls that were owed or dead, and are closed.
    pub given_up: u64,
    /// Calls that are stored and lie after the end of the promise: no list proves them.
    pub calls_after: i64,
}

/// Why an account was not retired: nothing was changed, but for [`NotRetired::GivenUp`].
#[derive(Debug, thiserror::Error)]
pub enum NotRetired {
    /// Nobody has ever configured it.
    #[error(
        "{0} has never been configured: there is no promise to end; `vobiz-cdr account list` shows who has one"
    )]
    Unknown(String),
    /// A process works for it.
    #[error(
        "{account} is configured in {by}: take it out of the settings of that process first (SIGHUP; a process that has ended is forgotten \
         after two and a half minutes), for whoever is configured with it takes it up again"
    )]
    Asked {
        /// The account.
        account: String,
        /// The processes.
        by: String,
    },
    /// Something is owed.
    #[error(
        "{account} has {owed} owed and {dead}: fetch them with the account configured, or see `vobiz-cdr dead-letters list --account {account}` \
         and say --give-up, which closes them all for good (vobiz.closed_call, vobiz.audit)"
    )]
    Owed {
        /// The account.
        account: String,
        /// Such as `3 calls`.
        owed: String,
        /// Such as `1 dead letter`.
        dead: String,
    },
    /// The end lies after what is settled.
    #[error(
        "{account} is settled up to {safe_to} and not up to {at} ({held_by}); not settled: {days}. Let them settle with the account configured, or end \
         its promise by then: --at {safe_to}"
    )]
    Unsettled {
        /// The account.
        account: String,
        /// Up to where it is settled.
        safe_to: String,
        /// What was asked for.
        at: String,
        /// What holds it.
        held_by: String,
        /// The days.
        days: String,
    },
    /// Calls lie after the end that nobody named.
    #[error(
        "{account} is settled up to {safe_to} ({held_by}), and {calls} stored of later days: {days}. Let them settle with the account configured; \
         or, if they never will, --at {safe_to} ends the promise there: the calls stay, and bills say that they are not proven"
    )]
    CallsAfter {
        /// The account.
        account: String,
        /// Up to where it is settled.
        safe_to: String,
        /// What holds it.
        held_by: String,
        /// Such as `3 calls are`.
        calls: String,
        /// The days.
        days: String,
    },
    /// It would end before it began.
    #[error("the promise for {account} began at {began} only: --at lies before that")]
    BeforeItBegan {
        /// The account.
        account: String,
        /// The beginning.
        began: String,
    },
    /// What was owed is closed, and then something stood in the way.
    #[error("{given_up} given up (vobiz.closed_call, vobiz.audit), but the promise goes on: {why}")]
    GivenUp {
        /// Such as `3 owed calls are`.
        given_up: String,
        /// What it was.
        why: Box<NotRetired>,
    },
    /// Postgres.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Ends the promise for an account. Its calls, days and versions stay. What is owed and given up is closed before, some at a time: it may be
/// much, and nobody who takes callbacks must wait for it.
pub async fn retire(
    connection: &mut PgConnection,
    retirement: Retirement<'_>,
) -> Result<Retired, NotRetired> {
    if !retirement.give_up {
        return end(connection, retirement, 0).await;
    }
    foresee(&mut *connection, retirement).await?;
    let id = retirement.account.as_str();
    let given_up = dead_letter::give_up(&mut *connection, id, retirement.closing).await?;
    let ended = end(connection, retirement, given_up).await;
    ended.map_err(|why| match given_up {
        0 => why,
        _ => NotRetired::GivenUp {
            given_up: counted(i64::try_from(given_up).unwrap_or(i64::MAX), "owed call is", "owed calls are"),
            why: Box::new(why),
        },
    })
}

/// Refuses what will be refused when nothing is owed any more, before anything is given up. What is owed holds `safe_to` as well, so this
/// goes by the days.
async fn foresee(connection: &mut PgConnection, retirement: Retirement<'_>) -> Result<(), NotRetired> {
    let (id, account) = (retirement.account.as_str(), || retirement.account.to_string());
    let standing = standings(&mut *connection, Some(id)).await?.pop();
    let standing = standing.ok_or_else(|| NotRetired::Unknown(account()))?;
    refuse_if_asked(&standing)?;
    let safe_to = standing.safe_to.unwrap_or(standing.ledger_since);
    let held_by = standing.held_by.clone().unwrap_or_default();
    let Some(at) = retirement.at else {
        let settled_to = settled_to(&mut *connection, id, safe_to).await?;
        let after = calls_after(connection, id, settled_to).await?;
        return refuse_calls_after(&standing, &after, settled_to);
    };
    if at < standing.ledger_since {
        return Err(NotRetired::BeforeItBegan { account: account(), began: words(standing.ledger_since) });
    }
    // Else the day in which both lie.
    let days = if at <= safe_to { Vec::new() } else { unsettled(connection, id, safe_to, at).await? };
    if days.is_empty() {
        return Ok(());
    }
    let (safe_to, at, days) = (words(safe_to), words(at), named(&days));
    Err(NotRetired::Unsettled { account: account(), safe_to, at, held_by, days })
}

fn refuse_if_asked(standing: &AccountStanding) -> Result<(), NotRetired> {
    if standing.asked_by.is_empty() {
        return Ok(());
    }
    Err(NotRetired::Asked { account: standing.account_id.clone(), by: standing.asked_by.join(", ") })
}

/// Refuses an end that nobody named, if calls lie behind it: whoever names the end knows what does.
fn refuse_calls_after(
    standing: &AccountStanding,
    after: &[(NaiveDate, i64)],
    safe_to: DateTime<Utc>,
) -> Result<(), NotRetired> {
    if after.is_empty() || standing.retired_at.is_some() {
        return Ok(());
    }
    let days: Vec<NaiveDate> = after.iter().map(|(day, _)| *day).collect();
    Err(NotRetired::CallsAfter {
        account: standing.account_id.clone(),
        safe_to: words(safe_to),
        held_by: standing.held_by.clone().unwrap_or_default(),
        calls: counted(after.iter().map(|(_, calls)| calls).sum(), "call is", "calls are"),
        days: named(&days),
    })
}

/// Ends the promise, in one transaction.
async fn end(
    connection: &mut PgConnection,
    retirement: Retirement<'_>,
    given_up: u64,
) -> Result<Retired, NotRetired> {
    let id = retirement.account.as_str();
    let account = || id.to_owned();
    let mut transaction = connection.begin().await?;
    audit::sign(&mut transaction, retirement.closing.by).await?;
    sqlx::query!("select account_id from vobiz.account where account_id = $1 for update", id)
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| NotRetired::Unknown(account()))?;
    let standing = standing(&mut transaction, id).await?;
    refuse_if_asked(&standing)?;
    if standing.owed + standing.dead_letters > 0 {
        return Err(NotRetired::Owed {
            account: account(),
            owed: counted(standing.owed, "call", "calls"),
            dead: counted(standing.dead_letters, "dead letter", "dead letters"),
        });
    }
    let safe_to = standing.safe_to.unwrap_or(standing.ledger_since);
    let at = retirement.at.unwrap_or(safe_to);
    if at < standing.ledger_since {
        return Err(NotRetired::BeforeItBegan { account: account(), began: words(standing.ledger_since) });
    }
    if at > safe_to {
        let days = unsettled(&mut transaction, id, safe_to, at).await?;
        return Err(NotRetired::Unsettled {
            account: account(),
            safe_to: words(safe_to),
            at: words(at),
            held_by: standing.held_by.unwrap_or_default(),
            days: named(&days),
        });
    }
    let after = calls_after(&mut transaction, id, at).await?;
    let calls_after: i64 = after.iter().map(|(_, calls)| calls).sum();
    if retirement.at.is_none() {
        refuse_calls_after(&standing, &after, safe_to)?;
    }
    sqlx::query!(
        "with retired as (
           update vobiz.account set
             retired_at = $2, paused_since = null, paused_until = null, pause_reason = null, listed_due_to = null, listing_until = null
           where account_id = $1
         )
         insert into vobiz.audit (action, account_id, reason, detail)
         values ('account_retired', $1, $3,
                 json_build_object('retired_at', $2::timestamptz, 'given_up', $4::bigint, 'calls_after', $5::bigint,
                                   'ledger_since', $6::timestamptz, 'was_retired_at', $7::timestamptz))",
        id,
        at,
        retirement.closing.reason,
        i64::try_from(given_up).unwrap_or(i64::MAX),
        calls_after,
        standing.ledger_since,
        standing.retired_at
    )
    .execute(&mut *transaction)
    .await?;
    safe_to_bill::note(&mut transaction, retirement.account).await?;
    transaction.commit().await?;
    Ok(Retired { account_id: account(), retired_at: at, given_up, calls_after })
}

/// An account that was retired and is taken up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenUp {
    /// The account.
    pub account_id: String,
    /// Its promise had ended there, and goes on from there.
    pub retired_at: DateTime<Utc>,
}

/// Takes up again what a service is configured with: the promise has no hole, so every day since the retirement is to be compared.
pub async fn take_up(
    connection: &mut PgConnection,
    accounts: &[AccountId],
) -> Result<Vec<TakenUp>, sqlx::Error> {
    let ids: Vec<&str> = accounts.iter().map(AccountId::as_str).collect();
    sqlx::query_as!(
        TakenUp,
        r#"with retired as (
             select account_id, retired_at from vobiz.account where account_id = any($1) and retired_at is not null
             order by account_id for update
           ), taken_up as (
             update vobiz.account a set retired_at = null from retired r where a.account_id = r.account_id
           ), audited as (
             insert into vobiz.audit (action, account_id, reason, detail)
             select 'account_taken_up_again', account_id, 'a service is configured with it', json_build_object('was_retired_at', retired_at)
             from retired order by account_id
           )
           select account_id, retired_at as "retired_at!" from retired order by account_id"#,
        &ids as &[&str]
    )
    .fetch_all(connection)
    .await
}

async fn standing(connection: &mut PgConnection, account: &str) -> Result<AccountStanding, sqlx::Error> {
    standings(connection, Some(account)).await?.pop().ok_or(sqlx::Error::RowNotFound)
}

/// Where the first day after an instant begins that is not settled; that instant, where all are.
async fn settled_to(
    connection: &mut PgConnection,
    account: &str,
    safe_to: DateTime<Utc>,
) -> Result<DateTime<Utc>, sqlx::Error> {
    let now = sqlx::query_scalar!(r#"select vobiz.now() as "now!""#).fetch_one(&mut *connection).await?;
    let Some(first) = unsettled(&mut *connection, account, safe_to, now).await?.first().copied() else {
        return Ok(safe_to);
    };
    let begins = sqlx::query_scalar!(
        r#"select greatest(vobiz.provider_day_start_earliest($1, $2), $3) as "at!""#,
        account,
        first,
        safe_to
    )
    .fetch_one(connection)
    .await?;
    Ok(begins)
}

/// Days between two instants that are not settled.
async fn unsettled(
    connection: &mut PgConnection,
    account: &str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<NaiveDate>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select g::date as "day!"
           from generate_series(vobiz.provider_day_of($1, $2), vobiz.provider_day_of($1, $3::timestamptz - interval '1 microsecond'),
                                interval '1 day') g
           where not exists (select from vobiz.provider_day d
                             where d.account_id = $1 and d.day = g::date and d.state = 'settled' and d.reopened_at is null
                               and d.to_at <= vobiz.now())
           order by 1"#,
        account,
        from,
        to
    )
    .fetch_all(connection)
    .await
}

/// Calls of an account, and of those that only its list shows, from an instant on, by day.
async fn calls_after(
    connection: &mut PgConnection,
    account: &str,
    at: DateTime<Utc>,
) -> Result<Vec<(NaiveDate, i64)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select vobiz.provider_day_of($1, c.day_at) as "day!", count(*) as "calls!"
           from vobiz.compared_owner o
           join vobiz.cdr c on c.account_id = o.owner
           where o.account_id = $1 and (c.account_id = $1 or c.listed_by = $1) and c.day_at >= $2
           group by 1 order by 1"#,
        account,
        at
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.day, row.calls)).collect())
}

/// As `--at` takes it.
fn words(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn named(days: &[NaiveDate]) -> String {
    let mut words: Vec<String> = days.iter().take(NAMED).map(ToString::to_string).collect();
    if days.len() > NAMED {
        words.push(format!("and {} more", days.len() - NAMED));
    }
    if words.is_empty() { "what is said in brackets".into() } else { words.join(", ") }
}
