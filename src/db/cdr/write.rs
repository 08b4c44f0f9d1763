//! The write side of `vobiz.cdr`: one statement, used three ways.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::Incoming;
use super::columns::columns;
use crate::db::base::columns::column;

/// What to do with calls that are stored already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnConflict {
    /// Leave them, but lock them.
    Lock = 0,
    /// The new version replaces them.
    Replace = 1,
    /// The new version replaces what it says.
    Merge = 2,
}

/// Inserts the calls that are not stored yet and treats the others as told; returns the ids of those written. `rows` must be
/// sorted by `call_id`, each once.
pub(super) async fn write(
    connection: &mut PgConnection,
    rows: &[&Incoming],
    on_conflict: OnConflict,
) -> Result<Vec<String>, sqlx::Error> {
    macro_rules! insert {
        ($({$n:tt $type:tt $column:tt ($rust:ty) ($read:expr) {$insert:tt} {$($update:tt)?} $differs:tt})*
         $([$fn:tt $ftype:tt $field:tt ($frust:ty) ($fread:expr)])*) => {
            sqlx::query_scalar!(
                "insert into vobiz.cdr as c (call_id, " + $($column + ", " +)* $($field + ", " +)* "revision)
                 select n.call_id, " + $($insert + ", " +)* $("n." + $field + ", " +)* "1
                 from unnest($2::text[]" + $(", " + $n + "::" + $type + "[]" +)* $(", " + $fn + "::" + $ftype + "[]" +)* ")
                   as n (call_id" + $(", " + $column +)* $(", " + $field +)* ")
                 -- The lock order of the whole service.
                 order by n.call_id
                 on conflict (call_id) do update set
                   " + $($($update + ",
                   " +)?)* $($field + " = coalesce(excluded." + $field + ", case when $1 = 2 then c." + $field + " end),
                   " +)* "revision = c.revision + 1
                 -- 0 only locks the rows that are there already; 1 replaces them; 2 leaves what the new version does not say.
                 where $1 > 0
                 returning call_id",
                on_conflict as i32,
                &column(rows.iter(), |row| row.cdr.call_id.as_str()) as &[&str],
                $(&column(rows.iter(), $read) as &[$rust],)*
                $(&column(rows.iter().map(|row| &row.cdr.fields), $fread) as &[$frust],)*
            )
        };
    }
    columns!(insert).fetch_all(connection).await
}
