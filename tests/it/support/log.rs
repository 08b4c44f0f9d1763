//! What is logged while a test does something, by whom it is done: one subscriber for all tests. (One of its own for each test would race
//! with those of others: what may be logged at all is remembered for the whole process.)

use std::cell::RefCell;
use std::io;
use std::sync::Once;

thread_local! {
    static KEPT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct OfThisThread;

impl io::Write for OfThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        KEPT.with_borrow_mut(|kept| kept.iter_mut().for_each(|kept| kept.extend(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The warnings that are logged on this thread while something is done: for tests that have one thread.
pub(crate) async fn warnings(done: impl Future<Output = ()>) -> String {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(|| OfThisThread)
            .init();
    });
    KEPT.set(Some(Vec::new()));
    done.await;
    String::from_utf8(KEPT.take().unwrap_or_default()).unwrap()
}
