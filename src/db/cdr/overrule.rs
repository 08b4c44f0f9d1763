//! A list that wins against the order of versions: what it says is shown from now on, whatever `updated_at` the version before claimed.
//! That one stays among the versions, and `vobiz.audit` says what was and what is.

use sqlx::PgConnection;

use super::write::OnConflict;
use super::{Incoming, lock, revision, write};
use crate::db::base::audit;
use crate::vobiz::{CallId, Overlap};

/// Rows of a list under the keys of their records: a further record of a uuid is another call.
pub async fn keyed(connection: &mut PgConnection, rows: &[Incoming]) -> Result<Vec<Incoming>, sqlx::Error> {
    let stored = revision::stored(connection, &rows.iter().collect::<Vec<_>>()).await?;
    let keyed = |row: &Incoming| {
        let ours = stored.get(row.cdr.call_id.as_str()).and_then(|stored| stored.vobiz_id);
        let its = row.cdr.fields.vobiz_id.filter(|its| ours.is_some_and(|ours| ours != *its));
        its.map_or_else(|| row.clone(), |its| row.as_further_record(its))
    };
    Ok(rows.iter().map(keyed).collect())
}

/// Lets rows of a list win over the versions that are shown; returns the calls whose row changed by it. A call whose version says what the
/// list says was changed by hand, or is read differently now: that is no matter of versions. Nor does a row win that was asked for before
/// the version that is shown by now.
pub async fn by_list(connection: &mut PgConnection, rows: &[&Incoming]) -> Result<Vec<String>, sqlx::Error> {
    // Of two rows of one list the last counts, as for the comparison.
    let mut sorted: Vec<&Incoming> = rows.iter().rev().copied().collect();
    sorted.sort_by(|a, b| a.cdr.call_id.cmp(&b.cdr.call_id));
    sorted.dedup_by(|a, b| a.cdr.call_id == b.cdr.call_id);
    // A further record is locked beside the row of its uuid, as where it is stored.
    let keys = sorted.iter().map(|row| row.cdr.call_id.as_str());
    let call_ids: Vec<&str> = keys.flat_map(|key| [CallId::uuid_of(key), key]).collect();
    lock(connection, &call_ids).await?;
    let stored = revision::stored(connection, &sorted).await?;
    let mut won = Vec::new();
    for row in sorted {
        let Some(shown) = stored.get(row.cdr.call_id.as_str()) else { continue };
        let says_it = shown.payload.as_ref().is_some_and(|payload| {
            matches!(payload.compare(&row.cdr.payload), Overlap::Same | Overlap::Superset)
        });
        if shown.version.content_hash != row.content_hash
            && !says_it
            && (row.version().by_owner || !shown.version.by_owner)
            && shown.version.fetched_at <= row.requested_at
        {
            won.push((row, shown.revision + 1));
        }
    }
    if won.is_empty() {
        return Ok(vec![]);
    }
    let call_ids: Vec<&str> = won.iter().map(|(row, _)| row.cdr.call_id.as_str()).collect();
    let was = audit::billed(connection, &call_ids).await?;
    revision::append_overruling(connection, &won).await?;
    let rows: Vec<&Incoming> = won.iter().map(|(row, _)| *row).collect();
    write::write(connection, &rows, OnConflict::Merge).await?;
    let escapes = |row: &&(&Incoming, i32)| {
        let shown = stored.get(row.0.cdr.call_id.as_str());
        let before = shown.and_then(|shown| shown.payload.as_ref());
        row.0.cdr.payload.text().contains("\\u") || before.is_some_and(|it| it.text().contains("\\u"))
    };
    for (row, _) in won.iter().filter(escapes) {
        if let Some(shown) = stored.get(row.cdr.call_id.as_str()) {
            super::rebuild::rebuild(connection, &row.cdr.call_id, &shown.followed_by(row)).await?;
        }
    }
    audit::overruled(connection, &was).await?;
    Ok(call_ids.into_iter().map(str::to_owned).collect())
}
