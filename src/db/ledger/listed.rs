//! The rows of a day's list while it is read: a working table that is not logged.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;

use crate::vobiz::{AccountId, Cdr};

/// Forgets what was listed for an account.
pub async fn clear(connection: &mut PgConnection, account: &AccountId) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from vobiz.listed_call where account_id = $1", account.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes a page of the list of a day. A call that comes again replaces itself: rows shift between pages, and the later answer
/// is the newer one. Returns whether it shows calls of accounts that no list of this one had shown.
pub async fn note(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
    rows: &[&Cdr],
) -> Result<bool, sqlx::Error> {
    let mut rows: Vec<&Cdr> = rows.to_vec();
    // In one statement each call once; of two rows of a page the second is as good as the first.
    rows.sort_by(|a, b| a.call_id.cmp(&b.call_id));
    rows.dedup_by(|a, b| a.call_id == b.call_id);
    let owner = |row: &&Cdr| row.account_id.as_ref().unwrap_or(account).as_str().to_owned();
    let fields = || rows.iter().map(|row| &row.fields);
    let texts =
        |read: fn(&crate::vobiz::CdrFields) -> Option<&str>| fields().map(read).map(|t| t.map(str::to_owned));
    sqlx::query!(
        "insert into vobiz.listed_call as l
           (account_id, list_day, call_id, owner, start_time, end_time, created_at, updated_at, call_direction, duration,
            billsec, cost, streaming_cost, total_cost, currency)
         select $1, $2, n.* from unnest(
           $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::timestamptz[], $9::text[],
           $10::int4[], $11::int4[], $12::numeric[], $13::numeric[], $14::numeric[], $15::text[])
           as n (call_id, owner, start_time, end_time, created_at, updated_at, call_direction, duration, billsec, cost,
                 streaming_cost, total_cost, currency)
         on conflict (account_id, call_id, list_day) do update set
           (owner, start_time, end_time, created_at, updated_at, call_direction, duration, billsec, cost, streaming_cost,
            total_cost, currency)
           = row (excluded.owner, excluded.start_time, excluded.end_time, excluded.created_at, excluded.updated_at,
                  excluded.call_direction, excluded.duration, excluded.billsec, excluded.cost, excluded.streaming_cost,
                  excluded.total_cost, excluded.currency)",
        account.as_str(),
        day,
        &rows.iter().map(|row| row.call_id.as_str().to_owned()).collect::<Vec<_>>(),
        &rows.iter().map(owner).collect::<Vec<_>>(),
        &fields().map(|f| f.start_time).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &fields().map(|f| f.end_time).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &fields().map(|f| f.created_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &fields().map(|f| f.updated_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &texts(|f| f.call_direction.as_deref()).collect::<Vec<_>>() as &[Option<String>],
        &fields().map(|f| f.duration).collect::<Vec<_>>() as &[Option<i32>],
        &fields().map(|f| f.billsec).collect::<Vec<_>>() as &[Option<i32>],
        &fields().map(|f| f.cost).collect::<Vec<_>>() as &[Option<Decimal>],
        &fields().map(|f| f.streaming_cost).collect::<Vec<_>>() as &[Option<Decimal>],
        &fields().map(|f| f.total_cost).collect::<Vec<_>>() as &[Option<Decimal>],
        &texts(|f| f.currency.as_deref()).collect::<Vec<_>>() as &[Option<String>],
    )
    .execute(&mut *connection)
    .await?;
    let mut owners: Vec<String> = rows.iter().map(owner).filter(|owner| owner != account.as_str()).collect();
    owners.sort();
    owners.dedup();
    if owners.is_empty() {
        return Ok(false);
    }
    let new = sqlx::query!(
        "insert into vobiz.listed_owner (account_id, owner) select $1, n.* from unnest($2::text[]) as n on conflict do nothing",
        account.as_str(),
        &owners
    )
    .execute(connection)
    .await?;
    Ok(new.rows_affected() > 0)
}

/// First and last instant among the rows of a day's list, for each time that may decide the day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extremes {
    /// Of `start_time`.
    pub start_time: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Of `end_time`.
    pub end_time: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Of `created_at`.
    pub created_at: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Rows that lie outside the day in every zone of the world, by whichever time: they tell nothing of the zone.
    pub outside: i64,
}

/// Reads them.
pub async fn extremes(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<Extremes, sqlx::Error> {
    let row = sqlx::query!(
        r#"with widest as (
             -- Zones lie between 12 hours west and 14 hours east of UTC.
             select tstzrange(($2::date - interval '14 hours') at time zone 'UTC', ($2::date + interval '36 hours') at time zone 'UTC') as day
           ), row as (
             select l.start_time, l.end_time, l.created_at,
                    num_nonnulls(l.start_time, l.end_time, l.created_at) = 0
                    or l.start_time <@ w.day or l.end_time <@ w.day or l.created_at <@ w.day as inside
             from vobiz.listed_call l cross join widest w where l.account_id = $1 and l.list_day = $2
           )
           select min(start_time) filter (where inside) as a, max(start_time) filter (where inside) as b,
                  min(end_time) filter (where inside) as c, max(end_time) filter (where inside) as d,
                  min(created_at) filter (where inside) as e, max(created_at) filter (where inside) as f,
                  count(*) filter (where inside is not true) as "outside!"
           from row"#,
        account.as_str(),
        day
    )
    .fetch_one(connection)
    .await?;
    Ok(Extremes {
        start_time: row.a.zip(row.b),
        end_time: row.c.zip(row.d),
        created_at: row.e.zip(row.f),
        outside: row.outside,
    })
}
