//! Partitions of the append-only tables: a month each (UTC), made three months ahead.
//!
//! A partition is created on its own and then attached, which takes a weaker lock on the parent than `create … partition
//! of`; and it gives up after a second rather than queue up in front of the callbacks.

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use sqlx::{Connection, PgConnection};

const PARTITIONED: [&str; 3] = ["callback", "callback_nonce", "cdr_revision"];
/// Months made ahead of the present one, and one behind, for clocks that were shifted back.
const AHEAD: u32 = 3;

/// Makes the partitions of last month, this month and the next three, where they are missing; returns how many were made.
pub async fn ensure(connection: &mut PgConnection) -> Result<usize, sqlx::Error> {
    let now: DateTime<Utc> =
        sqlx::query_scalar!(r#"select vobiz.now() as "now!""#).fetch_one(&mut *connection).await?;
    let mut made = 0;
    for table in PARTITIONED {
        for month in months(now.date_naive()) {
            made += usize::from(ensure_month(connection, table, month).await?);
        }
    }
    Ok(made)
}

/// Names of the partitions of this month and the next that are not there. The next one is made months ahead, so where it is
/// missing, making them has failed for long.
pub async fn missing(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select wanted.name as "name!"
           from (select t || to_char(vobiz.now() at time zone 'UTC' + make_interval(months => m), '_YYYY_MM') as name, t
                 from unnest($1::text[]) t cross join generate_series(0, 1) m) wanted
           where not exists (
             select from pg_catalog.pg_inherits i
             where i.inhparent = to_regclass('vobiz.' || wanted.t) and i.inhrelid = to_regclass('vobiz.' || wanted.name))
           order by 1"#,
        &PARTITIONED as &[&str]
    )
    .fetch_all(connection)
    .await
}

fn months(today: NaiveDate) -> Vec<NaiveDate> {
    let this = today.with_day(1).unwrap_or(today);
    let first = this.checked_sub_months(Months::new(1)).unwrap_or(this);
    (0..=AHEAD + 1).filter_map(|n| first.checked_add_months(Months::new(n))).collect()
}

async fn ensure_month(
    connection: &mut PgConnection,
    table: &str,
    month: NaiveDate,
) -> Result<bool, sqlx::Error> {
    let name = format!("{table}_{}", month.format("%Y_%m"));
    // Where all are there nobody is waited for.
    if is_attached(connection, table, &name).await? {
        return Ok(false);
    }
    let mut transaction = connection.begin().await?;
    sqlx::query!("set local lock_timeout = '5s'").execute(&mut *transaction).await?;
    // One replica at a time; the others find it done.
    sqlx::query!("select from vobiz.work_lease where name = 'partitions' for no key update")
        .execute(&mut *transaction)
        .await?;
    if is_attached(&mut transaction, table, &name).await? {
        return Ok(false);
    }
    sqlx::query!("set local lock_timeout = '1s'").execute(&mut *transaction).await?;
    // With the rights of the owner of the tables, whom the service need not be.
    sqlx::query!("select vobiz.make_partition($1, $2)", table, month).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn is_attached(connection: &mut PgConnection, table: &str, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
             select from pg_catalog.pg_inherits i
             where i.inhparent = to_regclass('vobiz.' || $1) and i.inhrelid = to_regclass('vobiz.' || $2)) as "attached!""#,
        table,
        name
    )
    .fetch_one(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_run_over_the_end_of_a_year() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 30).unwrap();
        let first = |year, month| NaiveDate::from_ymd_opt(year, month, 1).unwrap();
        assert_eq!(
            months(day),
            [first(2026, 10), first(2026, 11), first(2026, 12), first(2027, 1), first(2027, 2)]
        );
    }
}
