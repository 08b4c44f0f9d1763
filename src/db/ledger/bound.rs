//! What was inferred of the zone in which Vobiz cuts the days of an account's list.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{Connection, PgConnection};

use crate::db::base::time::interval;
use crate::vobiz::AccountId;

/// Bounds of the zone, if this time of a call decides its day: seconds east of UTC, at least and less than.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// `start_time`, `end_time` or `created_at`.
    pub day_of: String,
    /// At least so many seconds.
    pub least: i64,
    /// Less than so many.
    pub most: i64,
}

/// How Vobiz cuts an account's days, as far as its lists have told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferredZone {
    /// What each time of a call would mean; empty at first.
    pub bounds: Vec<Bound>,
    /// The time of a call that decides its day.
    pub day_of: String,
    /// The zone, seconds east of UTC; `None` is the billing zone.
    pub offset: Option<i64>,
    /// How far east of UTC the billing zone is on this day, in seconds.
    pub billing_offset: i64,
    /// The field that summaries add up, once a day with streaming told.
    pub summary_cost: Option<String>,
    /// Completeness is promised from here on.
    pub ledger_since: DateTime<Utc>,
}

fn signed(seconds: i64) -> PgInterval {
    let length = interval(Duration::from_secs(seconds.unsigned_abs()));
    PgInterval { microseconds: length.microseconds * seconds.signum(), ..length }
}

/// Reads what was inferred of the zone of an account so far, as it is on this day.
pub async fn inferred(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<InferredZone, sqlx::Error> {
    let bounds = sqlx::query_as!(
        Bound,
        r#"select day_of, extract(epoch from least)::bigint as "least!", extract(epoch from most)::bigint as "most!"
           from vobiz.provider_day_bound where account_id = $1 order by day_of"#,
        account.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    let row = sqlx::query!(
        r#"select a.day_of, extract(epoch from a.day_offset)::bigint as "offset", a.summary_cost, a.ledger_since,
                  extract(epoch from ($2::date::timestamp at time zone 'UTC')
                                     - vobiz.billing_day_start($2::date, s.billing_zone))::bigint as "billing_offset!"
           from vobiz.account a cross join vobiz.setting s where a.account_id = $1"#,
        account.as_str(),
        day
    )
    .fetch_one(connection)
    .await?;
    Ok(InferredZone {
        bounds,
        day_of: row.day_of,
        offset: row.offset,
        billing_offset: row.billing_offset,
        summary_cost: row.summary_cost,
        ledger_since: row.ledger_since,
    })
}

/// Writes down what was inferred; if it changed, the days are recomputed. Those between which a call changes over are
/// compared again; what was compared of the others holds. Fails if a writer of calls does not end within five seconds.
pub async fn write_down(
    connection: &mut PgConnection,
    account: &AccountId,
    zone: &InferredZone,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let connection = &mut *transaction;
    let day_ofs: Vec<&str> = zone.bounds.iter().map(|bound| bound.day_of.as_str()).collect();
    let least: Vec<PgInterval> = zone.bounds.iter().map(|bound| signed(bound.least)).collect();
    let most: Vec<PgInterval> = zone.bounds.iter().map(|bound| signed(bound.most)).collect();
    sqlx::query!(
        "insert into vobiz.provider_day_bound (account_id, day_of, least, most)
         select $1, n.* from unnest($2::text[], $3::interval[], $4::interval[]) as n (day_of, least, most)
         on conflict (account_id, day_of) do update set least = excluded.least, most = excluded.most",
        account.as_str(),
        &day_ofs as &[&str],
        &least,
        &most
    )
    .execute(&mut *connection)
    .await?;
    let was = sqlx::query_scalar!(
        "with was as (select day_of from vobiz.account where account_id = $1)
         update vobiz.account a set day_of = $2, day_offset = $3 from was
         where a.account_id = $1 and (a.day_of, a.day_offset) is distinct from ($2, $3::interval)
         returning was.day_of",
        account.as_str(),
        zone.day_of,
        zone.offset.map(signed) as _
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(was) = was {
        let start_decides = was == "start_time" && zone.day_of == "start_time";
        sqlx::query!(
            "select vobiz.recompute_provider_day($1, $2)::text as recomputed",
            account.as_str(),
            start_decides
        )
        .fetch_one(&mut *connection)
        .await?;
    }
    transaction.commit().await
}

/// Writes down which field the summaries of an account add up.
pub async fn write_down_summary_cost(
    connection: &mut PgConnection,
    account: &AccountId,
    field: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.account set summary_cost = $2 where account_id = $1 and summary_cost is null",
        account.as_str(),
        field
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The instants between which a day lies, by what was inferred.
pub async fn span(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<(DateTime<Utc>, DateTime<Utc>), sqlx::Error> {
    let row = sqlx::query!(
        r#"select vobiz.provider_day_start($1, $2) as "from!", vobiz.provider_day_start($1, $2 + 1) as "to!""#,
        account.as_str(),
        day
    )
    .fetch_one(connection)
    .await?;
    Ok((row.from, row.to))
}
