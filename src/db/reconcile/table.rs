//! A table of the owner's in the same database, which is only ever selected from. The one place where SQL is put together
//! while the program runs, because nobody knows the table's name before: of identifiers only, which Postgres itself has
//! found in its catalogue and quoted.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{COLUMNS, InstantRange};

const STARTED_AT: usize = 4;

/// Why a table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// There is none.
    #[error(
        "there is no table {0:?} in this database (or this user may not see it): write schema.table, in upper and lower case as \
         in the catalogue"
    )]
    NoTable(String),
    /// Columns of the map are not in it.
    #[error("{table} has no column {missing}; it has {found}")]
    NoColumn {
        /// The table.
        table: String,
        /// What the map names.
        missing: String,
        /// What there is.
        found: String,
    },
    /// Postgres said so.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Opens a cursor over the table's rows, for [`fetch`]; needs a transaction. `columns` are those of [`COLUMNS`]. Where the start
/// is a timestamp, only rows within a day of `range` are read (one without a zone is taken in `zone`), and rows without a start.
pub async fn open(
    connection: &mut PgConnection,
    table: &str,
    columns: &[Option<String>; COLUMNS.len()],
    range: Option<InstantRange>,
    zone: &str,
) -> Result<(), TableError> {
    let no_table = || TableError::NoTable(table.to_owned());
    let (schema, name) = table.split_once('.').ok_or_else(no_table)?;
    let found = sqlx::query!(
        r#"select a.attname as "name!", pg_catalog.format_type(a.atttypid, null) as "kind!"
           from pg_catalog.pg_attribute a
           join pg_catalog.pg_class c on c.oid = a.attrelid
           join pg_catalog.pg_namespace n on n.oid = c.relnamespace
           where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f')
             and a.attnum > 0 and not a.attisdropped
           order by a.attnum"#,
        schema,
        name
    )
    .fetch_all(&mut *connection)
    .await?;
    if found.is_empty() {
        return Err(no_table());
    }
    let kind =
        |column: &str| found.iter().find(|found| found.name == column).map(|found| found.kind.as_str());
    let missing: Vec<&str> =
        columns.iter().flatten().map(String::as_str).filter(|column| kind(column).is_none()).collect();
    if !missing.is_empty() {
        let found: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        return Err(TableError::NoColumn {
            table: table.to_owned(),
            missing: missing.join(", "),
            found: found.join(", "),
        });
    }
    let started_at = columns[STARTED_AT].as_deref();
    let quoted = sqlx::query!(
        r#"select pg_catalog.format('%I.%I', $1::text, $2::text) as "table!", pg_catalog.quote_ident($3) as started_at,
                  (select pg_catalog.string_agg(
                            coalesce(pg_catalog.quote_ident(name), 'null') || '::pg_catalog.text', ', ' order by nth)
                   from unnest($4::text[]) with ordinality as c (name, nth)) as "columns!""#,
        schema,
        name,
        started_at,
        columns as &[Option<String>]
    )
    .fetch_one(&mut *connection)
    .await?;
    // Identifiers that Postgres quoted, and words of ours: nothing else enters this text.
    let rows = format!(
        "declare reconcile_rows no scroll cursor for select {} from {}",
        quoted.columns, quoted.table
    );
    let start = quoted.started_at.unwrap_or_default();
    match (range, started_at.and_then(kind)) {
        (Some(range), Some("timestamp with time zone")) => {
            let near = format!(
                "{rows} where {start} is null
                    or {start} >= $1::timestamptz - interval '1 day' and {start} < $2::timestamptz + interval '1 day'"
            );
            let near = sqlx::query(AssertSqlSafe(near)).bind(range.from).bind(range.until);
            near.execute(connection).await?;
        }
        (Some(range), Some("timestamp without time zone")) => {
            let near = format!(
                "{rows} where {start} is null
                    or {start} >= $1::timestamptz at time zone $3 - interval '1 day'
                       and {start} < $2::timestamptz at time zone $3 + interval '1 day'"
            );
            let near = sqlx::query(AssertSqlSafe(near)).bind(range.from).bind(range.until).bind(zone);
            near.execute(connection).await?;
        }
        _ => {
            sqlx::query(AssertSqlSafe(rows)).execute(connection).await?;
        }
    }
    Ok(())
}

/// The next rows, each as the texts of [`COLUMNS`]; none means that all were read.
pub async fn fetch(
    connection: &mut PgConnection,
) -> Result<Vec<[Option<String>; COLUMNS.len()]>, sqlx::Error> {
    let rows = sqlx::query("fetch forward 2000 from reconcile_rows").fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let mut texts = [const { None }; COLUMNS.len()];
            for (at, text) in texts.iter_mut().enumerate() {
                *text = row.try_get(at)?;
            }
            Ok(texts)
        })
        .collect()
}
