//! Where rows built anew differ from those that are stored.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::Incoming;
use super::columns::columns;
use crate::db::base::columns::column;

/// A stored row that differs from the one built anew.
#[derive(Debug)]
pub(super) struct DifferingRow {
    pub(super) call_id: String,
    /// The columns that differ.
    pub(super) columns: Vec<String>,
    /// The billed fields as they are stored, as JSON.
    pub(super) was: String,
}

/// Compares rows built anew with the stored ones. `extra_differs` says so for `extra`, one for each row: Postgres cannot compare
/// everything that type json keeps.
pub(super) async fn differ(
    connection: &mut PgConnection,
    rows: &[&Incoming],
    extra_differs: &[bool],
) -> Result<Vec<DifferingRow>, sqlx::Error> {
    macro_rules! compare {
        ($({$n:tt $type:tt $column:tt ($rust:ty) ($read:expr) {$insert:tt} $update:tt {$differs:tt}})*
         $([$fn:tt $ftype:tt $field:tt ($frust:ty) ($fread:expr)])*) => {
            sqlx::query_as!(
                DifferingRow,
                r#"select call_id as "call_id!", columns as "columns!", was as "was!"
                   from (
                     select c.call_id, vobiz.billed(c)::text as was, array_remove(array[
                       "# + $("case when " + $differs + " then '" + $column + "' end,
                       " +)* $("case when c." + $field + " is distinct from n." + $field + " then '" + $field + "' end,
                       " +)* "case when c.day_at <> coalesce(n.start_time, n.end_time, n.created_at, c.stored_at)
                            then 'day_at' end], null) as columns
                     from (
                       select n.call_id, n.extra_differs" + $(", " + $insert + " as " + $column +)* $(", n." + $field +)* "
                       from unnest(
                         $1::bool[], $2::text[]" + $(", " + $n + "::" + $type + "[]" +)*
                         $(", " + $fn + "::" + $ftype + "[]" +)* ")
                         as n (extra_differs, call_id" + $(", " + $column +)* $(", " + $field +)* ")) n
                     join vobiz.cdr c on c.call_id = n.call_id
                   ) d
                   where columns <> '{}'
                   order by call_id",
                extra_differs,
                &column(rows.iter(), |row| row.cdr.call_id.as_str()) as &[&str],
                $(&column(rows.iter(), $read) as &[$rust],)*
                $(&column(rows.iter().map(|row| &row.cdr.fields), $fread) as &[$frust],)*
            )
        };
    }
    columns!(compare).fetch_all(connection).await
}
