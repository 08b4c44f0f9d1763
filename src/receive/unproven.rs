//! How much the log of callbacks takes of what nobody proved, or a secret alone: so much a minute, then a sample, and the rest is counted.
//! Where signatures are optional or off strangers write to our disk, and who has learnt a secret does so everywhere.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::db::queue::enqueue::CallbackEntry;
use crate::watch::metrics::Metrics;

const MINUTE: Duration = Duration::from_secs(60);
/// Bytes a minute: about 300 ordinary callbacks, and 22 MiB an hour whatever comes.
const BYTES: usize = 384 * 1024;
/// What a row takes beside query and body, its indexes included.
const ROW: usize = 512;
/// Beyond that, one in so much time is kept, so that what came can be seen.
const SAMPLE_EVERY: Duration = Duration::from_secs(3);
/// Of the query and of the body of one in the sample.
const SAMPLE_BYTES: usize = 1024;

/// What the present minute has taken.
#[derive(Debug, Default)]
pub(super) struct Unproven(Mutex<KeptInMinute>);

#[derive(Debug, Default)]
struct KeptInMinute {
    began: Option<Instant>,
    bytes: usize,
    sampled: Option<Instant>,
    not_kept: u64,
}

impl Unproven {
    /// What of an unproven callback is kept in the log.
    pub(super) fn keep(
        &self,
        entry: CallbackEntry,
        metrics: &Metrics,
        now: Instant,
    ) -> Option<CallbackEntry> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.has_room(&entry, now) {
            return Some(entry);
        }
        if taken.sampled.is_none_or(|sampled| now.duration_since(sampled) >= SAMPLE_EVERY) {
            taken.sampled = Some(now);
            return Some(cut(entry, SAMPLE_BYTES));
        }
        taken.not_kept += 1;
        if taken.not_kept == 1 {
            warn!(
                "more unproven callbacks than the log of callbacks takes: a sample is kept, and the rest of this minute is only counted"
            );
        }
        metrics.callbacks_not_kept.inc();
        None
    }

    /// The same of one that owes a certain call: it always has its row, beyond that without query and body.
    pub(super) fn keep_its_row(&self, entry: CallbackEntry, now: Instant) -> CallbackEntry {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.has_room(&entry, now) { entry } else { cut(entry, 0) }
    }
}

impl KeptInMinute {
    fn has_room(&mut self, entry: &CallbackEntry, now: Instant) -> bool {
        if self.began.is_none_or(|began| now.duration_since(began) >= MINUTE) {
            *self = Self { began: Some(now), sampled: self.sampled, ..Self::default() };
        }
        let bytes = ROW + entry.body.len() + entry.query.as_ref().map_or(0, String::len);
        let has_room = self.bytes + bytes <= BYTES;
        self.bytes += if has_room { bytes } else { 0 };
        has_room
    }
}

/// The beginnings of a callback's query and body, and a word about it where that is not all.
pub(super) fn cut(mut entry: CallbackEntry, keep: usize) -> CallbackEntry {
    let mut words = Vec::new();
    if let Some(query) = &mut entry.query
        && query.len() > keep
    {
        words.push(format!("the first {keep} of {} bytes of the query are kept", query.len()));
        let end = (0..=keep).rev().find(|end| query.is_char_boundary(*end)).unwrap_or(0);
        query.truncate(end);
        query.shrink_to_fit();
    }
    if entry.body.len() > keep {
        words.push(format!("the first {keep} of {} bytes are kept", entry.body.len()));
        entry.body = bytes::Bytes::copy_from_slice(&entry.body[..keep]);
    }
    if !words.is_empty() {
        let said = entry.note.take();
        entry.note = Some(said.into_iter().chain(words).collect::<Vec<_>>().join("; "));
    }
    entry
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::db::queue::enqueue::CallbackOutcome;
    use crate::vobiz::Proof;

    fn entry(query: usize, body: usize) -> CallbackEntry {
        CallbackEntry {
            id: Uuid::now_v7(),
            event: String::new(),
            call_id: None,
            account_id: None,
            proof: Proof::None,
            nonces: Vec::new(),
            outcome: CallbackOutcome::Logged,
            note: None,
            remote_address: None,
            query: Some("ä".repeat(query / 2)),
            body: vec![b'x'; body].into(),
        }
    }

    #[test]
    fn an_hour_of_strangers_takes_what_it_may_and_a_sample_spans_it() {
        for (query, body) in [(0, 0), (8192, 8192), (0, 674), (16_000, 0)] {
            let (unproven, metrics, start) = (Unproven::default(), Metrics::new(), Instant::now());
            let (mut bytes, mut kept, mut last) = (0, 0, 0);
            for n in 0..360_000_u64 {
                let now = start + Duration::from_millis(n * 10);
                if let Some(entry) = unproven.keep(entry(query, body), &metrics, now) {
                    bytes += ROW + entry.body.len() + entry.query.map_or(0, |query| query.len());
                    (kept, last) = (kept + 1, n);
                }
            }
            assert!(bytes < 26 * 1024 * 1024, "{bytes}");
            assert!(last > 359_000, "a sample of the last seconds");
            assert_eq!(metrics.callbacks_not_kept.get(), 360_000 - kept);
        }
    }

    #[test]
    fn query_and_body_are_cut_alike() {
        let cut = cut(entry(3000, 2000), 1023);
        assert_eq!((cut.query.map(|query| query.len()), cut.body.len()), (Some(1022), 1023));
        let words =
            "the first 1023 of 3000 bytes of the query are kept; the first 1023 of 2000 bytes are kept";
        assert_eq!(cut.note.as_deref(), Some(words));
        assert_eq!(super::cut(entry(10, 10), 10).note, None);
    }
}
