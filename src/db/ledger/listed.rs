//! The rows of a day's list while it is read: a working table that is not logged.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use crate::db::base::columns::{column, numbered};
use crate::vobiz::{AccountId, Cdr, Numeric, StatedSeconds};

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
    let keys = keys(&mut *connection, rows).await?;
    // In one statement each call once; of two rows of a page the second is as good as the first.
    let rows: BTreeMap<&str, &Cdr> = keys.iter().map(String::as_str).zip(rows.iter().copied()).collect();
    let (keys, rows): (Vec<&str>, Vec<&Cdr>) = rows.into_iter().unzip();
    let owner = |row: &&Cdr| row.account_id.as_ref().unwrap_or(account).as_str().to_owned();
    let stated: Vec<StatedSeconds> = rows.iter().map(|row| row.stated_seconds()).collect();
    macro_rules! upsert {
        ($([$n:tt $type:tt $field:tt ($rust:ty) ($read:expr)])*) => {
            sqlx::query!(
                "insert into vobiz.listed_call as l (account_id, list_day, call_id, owner, duration_stated, billsec_stated" + $(", " + $field +)* ")
                 select $1, $2, n.* from unnest($3::text[], $4::text[], $5::text[]::numeric[], $6::text[]::numeric[]" + $(", " + $n + "::" + $type + "[]" +)* ")
                   as n (call_id, owner, duration_stated, billsec_stated" + $(", " + $field +)* ")
                 on conflict (account_id, call_id, list_day) do update set
                   " + $($field + " = excluded." + $field + ", " +)* "owner = excluded.owner,
                   duration_stated = excluded.duration_stated, billsec_stated = excluded.billsec_stated",
                account.as_str(),
                day,
                &keys as &[&str],
                &column(rows.iter(), owner) as &[String],
                &column(stated.iter(), |seconds| seconds.duration.as_ref().map(Numeric::as_str)) as &[Option<&str>],
                &column(stated.iter(), |seconds| seconds.billsec.as_ref().map(Numeric::as_str)) as &[Option<&str>],
                $(&column(rows.iter().map(|row| &row.fields), $read) as &[$rust],)*
            )
        };
    }
    let upsert = numbered! {
        upsert: _; _; _; _; _; _;
        start_time: DateTime<Utc> = "start_time";
        end_time: DateTime<Utc> = "end_time";
        created_at: DateTime<Utc> = "created_at";
        updated_at: DateTime<Utc> = "updated_at";
        call_direction: String = "call_direction";
        duration: i32 = "duration";
        billsec: i32 = "billsec";
        cost: Numeric = "cost";
        streaming_cost: Numeric = "streaming_cost";
        total_cost: Numeric = "total_cost";
        currency: String = "currency";
    };
    upsert.execute(&mut *connection).await?;
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

/// The keys under which these records are stored, or would be, in their order.
async fn keys(connection: &mut PgConnection, rows: &[&Cdr]) -> Result<Vec<String>, sqlx::Error> {
    let call_ids: Vec<&str> = rows.iter().map(|row| row.call_id.as_str()).collect();
    let numbers: Vec<Option<i64>> = rows.iter().map(|row| row.fields.vobiz_id).collect();
    sqlx::query_scalar!(
        r#"select n.call_id || case when c.vobiz_id <> n.vobiz_id then '~' || n.vobiz_id else '' end as "key!"
           from unnest($1::text[], $2::int8[]) with ordinality as n (call_id, vobiz_id, place)
           left join vobiz.cdr c on c.call_id = n.call_id
           order by n.place"#,
        &call_ids as &[&str],
        &numbers as &[Option<i64>]
    )
    .fetch_all(connection)
    .await
}

/// How many rows of a day's list do not lie in it as Vobiz is thought to cut its days.
pub async fn strays(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"with thought as materialized (
             -- Once, and not for each row.
             select a.day_of, vobiz.provider_day_start($1, $2) as from_at, vobiz.provider_day_start($1, $2 + 1) as to_at
             from vobiz.account a where a.account_id = $1
           )
           select count(*) as "rows!"
           from vobiz.listed_call l
           cross join thought t
           cross join lateral (select vobiz.deciding_instant(t.day_of, l.start_time, l.end_time, l.created_at) as instant) i
           where l.account_id = $1 and l.list_day = $2 and (i.instant < t.from_at or i.instant >= t.to_at)"#,
        account.as_str(),
        day
    )
    .fetch_one(connection)
    .await
}

/// How many calls of a day's list the other lists that were read show as well.
pub async fn twice(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(distinct t.call_id) as "calls!" from vobiz.listed_twice($1, 'start_time', $2) t"#,
        account.as_str(),
        day
    )
    .fetch_one(connection)
    .await
}

/// First and last instant among the rows of a day's list, for each time that may decide the day. A time that lies outside the day in
/// every zone of the world tells nothing of the zone, whatever the others of its row are. Nor does a row whose times contradict its
/// duration, one whose duration was not read, or one that the list of another day shows as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extremes {
    /// Of `start_time`.
    pub start_time: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Of `end_time`.
    pub end_time: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Of `created_at`.
    pub created_at: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Rows that tell, and lie outside the day as Vobiz is thought to cut it.
    pub strays: i64,
    /// Rows of which every time lies outside the day in every zone of the world.
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
             select case when l.start_time <@ w.day then l.start_time end as start_time,
                    case when l.end_time <@ w.day then l.end_time end as end_time,
                    case when l.created_at <@ w.day then l.created_at end as created_at,
                    num_nonnulls(l.start_time, l.end_time, l.created_at) > 0 as has_times,
                    -- A minute: times and durations are rounded in ways of their own.
                    l.duration is not null and coalesce(abs(extract(epoch from l.end_time - l.start_time) - l.duration) <= 60, true)
                    and not exists (select from vobiz.listed_call o
                                    where o.account_id = l.account_id and o.call_id = l.call_id and o.list_day <> l.list_day) as tells
             from vobiz.listed_call l cross join widest w where l.account_id = $1 and l.list_day = $2
           ), thought as materialized (
             select a.day_of, vobiz.provider_day_start($1, $2) as from_at, vobiz.provider_day_start($1, $2 + 1) as to_at
             from vobiz.account a where a.account_id = $1
           )
           select min(start_time) filter (where tells) as a, max(start_time) filter (where tells) as b,
                  min(end_time) filter (where tells) as c, max(end_time) filter (where tells) as d,
                  min(created_at) filter (where tells) as e, max(created_at) filter (where tells) as f,
                  count(*) filter (where tells and (i.instant < t.from_at or i.instant >= t.to_at)) as "strays!",
                  count(*) filter (where has_times and num_nonnulls(start_time, end_time, created_at) = 0) as "outside!"
           from row cross join thought t
           cross join lateral (select case t.day_of when 'end_time' then end_time when 'created_at' then created_at else start_time end as instant) i"#,
        account.as_str(),
        day
    )
    .fetch_one(connection)
    .await?;
    Ok(Extremes {
        start_time: row.a.zip(row.b),
        end_time: row.c.zip(row.d),
        created_at: row.e.zip(row.f),
        strays: row.strays,
        outside: row.outside,
    })
}
