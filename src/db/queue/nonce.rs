//! Nonces: which call a signature came with first. A signature does not cover the body, so a captured request verifies for ever, with any
//! call in it: after a restart, at another replica, in a month.
//!
//! The promise: of the calls that come under one nonce, one alone is proved by it, the first that was committed, for as long as its
//! month's partition is kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::enqueue::{self, CallbackEntry, Committed, Owed};
use crate::vobiz::CallId;

/// What the nonces of a callback say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NonceUse {
    /// They are new, or it has none.
    First,
    /// They came with the same call before, so many times.
    Repeated(i64),
    /// One of them came with another call: it proves nothing.
    OfAnotherCall,
}

/// Notes the nonces of callbacks, each with its call, in the transaction that commits them, and says what they are worth, in the same
/// order. Of two transactions that note one nonce the second waits for the first.
async fn note(
    connection: &mut PgConnection,
    entries: &[&CallbackEntry],
) -> Result<Vec<NonceUse>, sqlx::Error> {
    let call = |entry: &CallbackEntry| entry.call_id.as_ref().map_or("", CallId::as_str).to_owned();
    // The first call of a group keeps its nonce within the group as well.
    let mut noted: BTreeMap<Uuid, (String, i64)> = BTreeMap::new();
    for entry in entries {
        for nonce in &entry.nonces {
            noted.entry(*nonce).or_insert_with(|| (call(entry), 0)).1 += 1;
        }
    }
    if noted.is_empty() {
        return Ok(vec![NonceUse::First; entries.len()]);
    }
    let nonces: Vec<Uuid> = noted.keys().copied().collect();
    let (calls, uses): (Vec<String>, Vec<i64>) = noted.into_values().unzip();
    let rows = sqlx::query!(
        r#"with noted as (
             select n.nonce, n.call_id, n.uses, date_trunc('month', vobiz.now(), 'UTC') as month
             from unnest($1::uuid[], $2::text[], $3::bigint[]) as n (nonce, call_id, uses)
           ), known as (
             -- In the partitions of earlier months. It moves on to this one, and lasts as long as it is used.
             select distinct on (k.nonce) k.nonce, k.call_id, k.uses
             from noted n join vobiz.callback_nonce k on k.nonce = n.nonce and k.month < n.month
             order by k.nonce, k.month
           )
           insert into vobiz.callback_nonce as k (nonce, month, call_id, uses)
           select n.nonce, n.month, coalesce(known.call_id, n.call_id), coalesce(known.uses, 0) + n.uses
           from noted n left join known on known.nonce = n.nonce
           -- One order for all who note them.
           order by n.nonce
           on conflict (nonce, month) do update set uses = k.uses + (select n.uses from noted n where n.nonce = excluded.nonce)
           returning nonce, call_id, uses"#,
        &nonces,
        &calls,
        &uses
    )
    .fetch_all(connection)
    .await?;
    // The owner of each nonce, and how often it had come before the group.
    let before: BTreeMap<Uuid, i64> = nonces.into_iter().zip(uses).collect();
    let mut known: BTreeMap<Uuid, (String, i64)> = rows
        .into_iter()
        .map(|row| (row.nonce, (row.call_id, row.uses - before.get(&row.nonce).copied().unwrap_or(0))))
        .collect();
    let judged = entries.iter().map(|entry| {
        let mut so_far = NonceUse::First;
        for nonce in &entry.nonces {
            let Some((owner, times)) = known.get_mut(nonce) else { continue };
            so_far = match so_far {
                NonceUse::OfAnotherCall => NonceUse::OfAnotherCall,
                _ if *owner != call(entry) => NonceUse::OfAnotherCall,
                NonceUse::First if *times == 0 => NonceUse::First,
                NonceUse::First => NonceUse::Repeated(*times),
                NonceUse::Repeated(most) => NonceUse::Repeated(most.max(*times)),
            };
            *times += 1;
        }
        so_far
    });
    Ok(judged.collect())
}

/// Repeats of a request that are kept in the log, beside the first; of each this much.
const REPEATS_KEPT: i64 = 3;
const REPEAT_BYTES: usize = 4 * 1024;

/// Commits a group as [`enqueue::commit`] does, each nonce once: what comes under the nonce of another call is neither logged nor owed, and
/// is named in [`Committed::replayed`]; a repeat owes its call as ever, but hurries nothing and has a row in the log a few times only. A call without an entry is announced by what
/// the log does not keep.
pub async fn commit(
    connection: &mut PgConnection,
    callbacks: &[(Option<&CallbackEntry>, Option<&Owed>)],
    first_fetch_delay: Duration,
) -> Result<Committed, sqlx::Error> {
    let entries: Vec<&CallbackEntry> = callbacks.iter().filter_map(|(entry, _)| *entry).collect();
    if entries.iter().all(|entry| entry.nonces.is_empty()) {
        let owed: Vec<&Owed> = callbacks.iter().filter_map(|(_, call)| *call).collect();
        return enqueue::commit(connection, &entries, &owed, first_fetch_delay).await;
    }
    let mut transaction = connection.begin().await?;
    let mut uses = note(&mut transaction, &entries).await?.into_iter();
    let (mut logged, mut owed, mut replayed) = (Vec::new(), Vec::new(), Vec::new());
    for (entry, call) in callbacks.iter().copied() {
        let Some((entry, nonce_use)) = entry.and_then(|entry| Some((entry, uses.next()?))) else {
            // The log does not keep it, so nothing proves it.
            owed.extend(call.map(Cow::Borrowed));
            continue;
        };
        match nonce_use {
            NonceUse::First => {
                logged.push(Cow::Borrowed(entry));
                owed.extend(call.map(Cow::Borrowed));
            }
            NonceUse::Repeated(times) => {
                if times <= REPEATS_KEPT {
                    logged.push(Cow::Owned(as_repeat(entry)));
                }
                owed.extend(call.map(|call| Cow::Owned(Owed { hurries: false, ..call.clone() })));
            }
            NonceUse::OfAnotherCall => replayed.push(entry.id),
        }
    }
    let logged: Vec<&CallbackEntry> = logged.iter().map(Cow::as_ref).collect();
    let owed: Vec<&Owed> = owed.iter().map(Cow::as_ref).collect();
    let committed = enqueue::commit(&mut transaction, &logged, &owed, first_fetch_delay).await?;
    transaction.commit().await?;
    Ok(Committed { replayed, ..committed })
}

/// Does what [`commit`] does and takes it back: whether Postgres would take it now.
pub async fn rehearse(
    connection: &mut PgConnection,
    callbacks: &[(Option<&CallbackEntry>, Option<&Owed>)],
    first_fetch_delay: Duration,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    commit(&mut transaction, callbacks, first_fetch_delay).await?;
    transaction.rollback().await
}

/// A repeat as it is kept: whoever has captured one request can send it again with any body.
fn as_repeat(entry: &CallbackEntry) -> CallbackEntry {
    let mut repeat = entry.clone();
    let mut said = vec!["a repeat: its nonce came before".to_owned()];
    if repeat.body.len() > REPEAT_BYTES {
        said.push(format!("the first {REPEAT_BYTES} of {} bytes are kept", repeat.body.len()));
        repeat.body = Bytes::copy_from_slice(&repeat.body[..REPEAT_BYTES]);
    }
    if let Some(query) = &mut repeat.query
        && query.len() > REPEAT_BYTES
    {
        said.push(format!("the first {REPEAT_BYTES} of {} bytes of the query are kept", query.len()));
        let end = (0..=REPEAT_BYTES).rev().find(|end| query.is_char_boundary(*end));
        query.truncate(end.unwrap_or(0));
    }
    repeat.note = Some(repeat.note.into_iter().chain(said).collect::<Vec<_>>().join("; "));
    repeat
}
