//! Rows of the list that are no record of a call of the account: each is kept once, as it came.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::vobiz::{AccountId, Payload};

/// Bytes of a row that are kept.
const MOST_BYTES: usize = 65_536;

/// A row that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableRow {
    /// The id that it shows, where one can be seen.
    pub call_id: Option<String>,
    /// Why it could not be read.
    pub why: String,
}

/// Keeps rows as they came. Returns which of them, by their place, had not been seen before.
pub async fn keep(
    connection: &mut PgConnection,
    account: &AccountId,
    rows: &[(UnreadableRow, Payload)],
) -> Result<Vec<usize>, sqlx::Error> {
    let hashes: Vec<Vec<u8>> = rows.iter().map(|(_, payload)| payload.content_hash().to_vec()).collect();
    // Whatever is in a row, keeping it must not fail.
    let text = |text: &str| text.replace('\0', "");
    let call_ids: Vec<Option<String>> =
        rows.iter().map(|(row, _)| row.call_id.as_deref().map(text)).collect();
    let whys: Vec<String> = rows.iter().map(|(row, _)| text(&row.why)).collect();
    let body = |payload: &Payload| {
        let bytes = payload.text().as_bytes();
        bytes[..bytes.len().min(MOST_BYTES)].to_vec()
    };
    let bodies: Vec<Vec<u8>> = rows.iter().map(|(_, payload)| body(payload)).collect();
    let fresh: BTreeSet<Vec<u8>> = sqlx::query_scalar!(
        "insert into vobiz.unreadable_row (account_id, row_hash, call_id, why, body)
         select distinct on (n.row_hash) $1, n.row_hash, n.call_id, n.why, n.body
         from unnest($2::bytea[], $3::text[], $4::text[], $5::bytea[]) as n (row_hash, call_id, why, body)
         order by n.row_hash
         on conflict (account_id, row_hash) do nothing
         returning row_hash",
        account.as_str(),
        &hashes,
        &call_ids as &[Option<String>],
        &whys,
        &bodies
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .collect();
    Ok((0..rows.len()).filter(|place| hashes.get(*place).is_some_and(|hash| fresh.contains(hash))).collect())
}
