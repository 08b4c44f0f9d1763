//! The body of a callback, within one budget of memory for all bodies that are being read: two thousand clients who each send most of
//! a long one must not hold half a gigabyte.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::unavailable;

/// Longest body, in bytes. A captured hang-up has 674.
pub(super) const BODY_LIMIT: usize = 256 * 1024;
/// A body that takes longer is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// So much of each body is free: an honest callback waits for no budget, and connections are bounded.
const FREE: usize = 4 * 1024;
/// Beyond that, KiB for the bodies of callbacks whose head proves them, which no stranger can use up.
const PROVEN_KIB: usize = 8 * 1024;
/// KiB for all others.
const UNPROVEN_KIB: usize = 2 * 1024;

/// The budget.
#[derive(Debug)]
pub(super) struct Bodies {
    proven: Arc<Semaphore>,
    unproven: Arc<Semaphore>,
}

/// A body, and its share of the budget. What waits for its commit is bounded there.
pub(super) struct ReadBody {
    pub(super) bytes: Bytes,
    _memory: Option<OwnedSemaphorePermit>,
}

/// The reason why a body was not read. What came until then is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UnreadBody {
    TooLong(Vec<u8>),
    TooSlow(Vec<u8>),
    Broken,
    /// The budget is used up.
    NoMemory,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            proven: Arc::new(Semaphore::new(PROVEN_KIB)),
            unproven: Arc::new(Semaphore::new(UNPROVEN_KIB)),
        }
    }
}

impl Bodies {
    /// Reads a body of this length at most.
    pub(super) async fn read(
        &self,
        body: Body,
        limit: usize,
        is_proven: bool,
    ) -> Result<ReadBody, UnreadBody> {
        let budget = if is_proven { &self.proven } else { &self.unproven };
        let mut text = Vec::new();
        let mut memory = None;
        match tokio::time::timeout(BODY_TIMEOUT, collect(body, limit, budget, &mut text, &mut memory)).await {
            Ok(Ok(())) => {
                text.shrink_to_fit();
                Ok(ReadBody { bytes: text.into(), _memory: memory })
            }
            Ok(Err(UnreadBody::TooLong(_))) => Err(UnreadBody::TooLong(text)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(UnreadBody::TooSlow(text)),
        }
    }

    /// The beginning of a body that is refused, for the sample.
    pub(super) async fn beginning(&self, body: Body, length: usize) -> Bytes {
        match self.read(body, length.min(FREE), false).await {
            Ok(read) => read.bytes,
            Err(UnreadBody::TooLong(beginning) | UnreadBody::TooSlow(beginning)) => beginning.into(),
            Err(UnreadBody::Broken | UnreadBody::NoMemory) => Bytes::new(),
        }
    }
}

/// Copies what comes into one text: a frame holds on to the whole buffer that it was read into.
async fn collect(
    mut body: Body,
    limit: usize,
    budget: &Arc<Semaphore>,
    text: &mut Vec<u8>,
    memory: &mut Option<OwnedSemaphorePermit>,
) -> Result<(), UnreadBody> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| UnreadBody::Broken)?.into_data() else { continue };
        let fits = data.len().min(limit - text.len());
        reserve(text.len() + fits, limit, budget, text, memory)?;
        text.extend_from_slice(&data[..fits]);
        if fits < data.len() {
            return Err(UnreadBody::TooLong(Vec::new()));
        }
    }
    Ok(())
}

/// Makes room for a text of this length, paid for before it is taken.
fn reserve(
    length: usize,
    limit: usize,
    budget: &Arc<Semaphore>,
    text: &mut Vec<u8>,
    memory: &mut Option<OwnedSemaphorePermit>,
) -> Result<(), UnreadBody> {
    if length <= text.capacity() {
        return Ok(());
    }
    let room = length.next_power_of_two().clamp(1024, limit.max(1024));
    let kib = room.saturating_sub(FREE).div_ceil(1024);
    let more = kib - memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    if more > 0 {
        let more = u32::try_from(more).map_err(|_| UnreadBody::NoMemory)?;
        let more = Arc::clone(budget).try_acquire_many_owned(more).map_err(|_| UnreadBody::NoMemory)?;
        match memory {
            Some(memory) => memory.merge(more),
            None => *memory = Some(more),
        }
    }
    text.reserve_exact(room - text.len());
    Ok(())
}

/// What a request says of the length of its body.
pub(super) fn stated_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

impl IntoResponse for UnreadBody {
    fn into_response(self) -> Response {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
            Self::Broken => StatusCode::BAD_REQUEST.into_response(),
            Self::NoMemory => unavailable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use futures_util::future::poll_immediate;
    use futures_util::stream::{iter, pending};

    use super::*;

    /// A body that says so much, a KiB at a time, and then no more for ever.
    fn most_of_a_body(kib: usize) -> Body {
        let said = iter(vec![Bytes::from_static(&[b'x'; 1024]); kib]).map(Ok::<_, std::io::Error>);
        Body::from_stream(said.chain(pending()))
    }

    #[tokio::test]
    async fn strangers_who_send_most_of_a_body_hold_the_budget_at_most_and_not_that_of_the_proven() {
        for (is_proven, budget) in [(false, UNPROVEN_KIB), (true, PROVEN_KIB)] {
            let bodies = Bodies::default();
            let own = if is_proven { &bodies.proven } else { &bodies.unproven };
            let (mut reading, mut refused) = (Vec::new(), 0);
            for _ in 0..1900 {
                let mut one = Box::pin(bodies.read(most_of_a_body(250), BODY_LIMIT, is_proven));
                match poll_immediate(&mut one).await {
                    None => reading.push(one),
                    Some(Err(UnreadBody::NoMemory)) => refused += 1,
                    Some(other) => panic!("{:?}", other.map(|body| body.bytes.len())),
                }
            }
            assert_eq!(reading.len(), budget / 252, "each of them holds 252 KiB");
            assert_eq!(refused, 1900 - reading.len());
            // A short one needs none of it, and the other budget is whole.
            let short = bodies.read(Body::from(vec![b'x'; FREE]), BODY_LIMIT, is_proven).await;
            assert_eq!(short.map(|body| body.bytes.len()), Ok(FREE));
            let long = bodies.read(Body::from(vec![b'x'; BODY_LIMIT]), BODY_LIMIT, !is_proven).await;
            assert_eq!(long.map(|body| body.bytes.len()), Ok(BODY_LIMIT));
            drop(reading);
            assert_eq!(own.available_permits(), budget, "all of it comes back");
        }
    }

    #[tokio::test]
    async fn a_body_ends_at_its_limit_and_is_the_same_in_pieces() {
        let bodies = Bodies::default();
        let said: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        for piece in [1, 7, 4096, 70_000] {
            let pieces: Vec<Bytes> = said.chunks(piece).map(Bytes::copy_from_slice).collect();
            let body = || Body::from_stream(iter(pieces.clone()).map(Ok::<_, std::io::Error>));
            let whole = bodies.read(body(), 70_000, true).await;
            assert!(whole.is_ok_and(|read| read.bytes == said), "{piece}");
            let cut = bodies.read(body(), 69_999, true).await;
            assert!(matches!(cut, Err(UnreadBody::TooLong(_))), "{piece}");
            assert_eq!(bodies.beginning(body(), 4000).await, &said[..4000], "{piece}");
        }
    }
}
