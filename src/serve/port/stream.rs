//! The bytes of a connection, within limits that HTTP does not know: a client that does not read its answer is given up, and one
//! that was answered before it had said all is listened to for a moment, so that it can read the answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Sleep, sleep};

use super::places::Seat;

/// Who was answered before all of the body was read may go on sending for so long. Closed at once, the kernel would take back the
/// answer with the connection (RST).
const LISTEN_FOR: Duration = Duration::from_secs(1);
/// To so many at once: strangers who send on and on must not cost what it takes to read it.
static LISTENING: Semaphore = Semaphore::const_new(32);
/// So many bytes of it are thrown away.
const LISTEN_TO: usize = 1024 * 1024;

/// A connection whose writes end in time.
pub(super) struct BoundedStream {
    stream: TcpStream,
    seat: Arc<Seat>,
    write_within: Duration,
    /// When what is being written must have been taken. It begins when the client takes nothing for the first time, and ends when
    /// it has taken all: one that takes a byte now and then has no more time than one that takes none.
    write_ends: Option<Pin<Box<Sleep>>>,
    closing: HangUp,
}

enum HangUp {
    Open,
    Listening { until: Pin<Box<Sleep>>, left: usize, _turn: SemaphorePermit<'static> },
}

impl BoundedStream {
    pub(super) fn new(stream: TcpStream, seat: Arc<Seat>, write_within: Duration) -> Self {
        Self { stream, seat, write_within, write_ends: None, closing: HangUp::Open }
    }

    /// What a write came to, if the client has not had its time.
    fn in_time(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            let within = self.write_within;
            let ends = self.write_ends.get_or_insert_with(|| Box::pin(sleep(within)));
            ready!(ends.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// HTTP flushes when all of an answer is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.write_ends = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.closing {
                HangUp::Open => {
                    ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                    let turn = LISTENING.try_acquire();
                    let (true, Ok(turn)) = (this.seat.is_unread(), turn) else { return Poll::Ready(Ok(())) };
                    let until = Box::pin(sleep(LISTEN_FOR));
                    this.closing = HangUp::Listening { until, left: LISTEN_TO, _turn: turn };
                }
                HangUp::Listening { until, left, .. } => {
                    let mut bytes = [0; 4096];
                    let mut buffer = ReadBuf::new(&mut bytes);
                    let read = Pin::new(&mut this.stream).poll_read(cx, &mut buffer);
                    if until.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                    ready!(read)?;
                    let read = buffer.filled().len();
                    *left = left.saturating_sub(read);
                    if read == 0 || *left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

/// The body of a request, which says whether we wait for it.
pub(super) struct AwaitedBody {
    body: Incoming,
    seat: Arc<Seat>,
    /// When we began to wait for it; a byte now and then is no new beginning.
    since: Option<u64>,
}

impl AwaitedBody {
    pub(super) fn of(body: Incoming, seat: Arc<Seat>) -> Body {
        Body::new(Self { body, seat, since: None })
    }
}

impl HttpBody for AwaitedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            let now = self.seat.now();
            let since = *self.since.get_or_insert(now);
            self.seat.wait(since);
        } else {
            self.seat.work();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AwaitedBody {
    fn drop(&mut self) {
        self.seat.set_unread(!self.body.is_end_stream());
        self.seat.work();
    }
}
