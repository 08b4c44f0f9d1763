//! A row that a list wrote last, built anew from the versions kept of it.
//!
//! A list row leaves keys out, and what it leaves out is said by the versions before it. When one of those comes late, it
//! still has its say: the row is the newest single record with the list rows after it laid over it, in whatever order
//! they came in.

use sqlx::PgConnection;

use super::revision::Stored;
use super::write::{OnConflict, write};
use super::{Incoming, Origin};
use crate::db::version::Version;
use crate::vobiz::{AccountId, CallId, Cdr, HomeCountry, Payload};

/// Builds the row of a call anew; `stored` is how it stood before the last version was kept. The row is locked by the caller.
pub(super) async fn rebuild(
    connection: &mut PgConnection,
    call_id: &CallId,
    stored: &Stored,
) -> Result<(), sqlx::Error> {
    let home: String =
        sqlx::query_scalar!("select home_country from vobiz.setting").fetch_one(&mut *connection).await?;
    let kept = sqlx::query!(
        r#"select updated_at, fetched_at, content_hash, source = 'single' as "complete!", payload::text as "payload!"
           from vobiz.cdr_revision where call_id = $1 order by revision"#,
        call_id.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    // With a version pruned, what it said would be lost: then the row stays as it is.
    let revision = stored.revision + 1;
    if i32::try_from(kept.len()) != Ok(revision) {
        return Ok(());
    }
    let (Ok(home), Ok(listed_by)) = (HomeCountry::new(&home), AccountId::new(&stored.listed_by)) else {
        return Ok(());
    };
    let mut versions = Vec::with_capacity(kept.len());
    for row in kept {
        let Ok(cdr) = Cdr::read_kept(&Payload::new(row.payload), home) else { return Ok(()) };
        versions.push(Incoming {
            cdr,
            // The table checks the length.
            content_hash: row.content_hash.try_into().unwrap_or_default(),
            listed_by: listed_by.clone(),
            origin: Origin::Sweep,
            complete: row.complete,
            requested_at: row.fetched_at,
            attempts: 0,
            announced_at: None,
        });
    }
    // The version shown may have been confirmed since it was kept: it stays the last one.
    let place = |row: &Incoming| (row.content_hash == stored.version.content_hash, row.version());
    versions.sort_by_cached_key(place);
    let base = versions.iter().rposition(|row| row.complete).unwrap_or(0);
    for (n, row) in versions[base..].iter().enumerate() {
        let how = if n == 0 { OnConflict::Replace } else { OnConflict::Merge };
        write(connection, &[row], how).await?;
    }
    restore(connection, call_id, revision, &stored.version).await
}

/// Puts back what building anew has counted and dated for itself.
async fn restore(
    connection: &mut PgConnection,
    call_id: &CallId,
    revision: i32,
    version: &Version,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.cdr set revision = $2, fetched_at = $3 where call_id = $1",
        call_id.as_str(),
        revision,
        version.fetched_at
    )
    .execute(connection)
    .await?;
    Ok(())
}
