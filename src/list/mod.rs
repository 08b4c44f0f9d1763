//! Reading the list of CDRs: what sweep and ledger share. A page is asked for in its turn and stored (`reader.rs`, `page.rs`), a list is read page by
//! page, also past one that is refused (`walk.rs`); what is wrong with the list has one error type.

mod page;
mod reader;
mod walk;

use std::time::Duration;

use tokio::time::timeout;

use crate::db::base::retry::Faulty;
use crate::db::base::work_lease;
use crate::db::{self, Fault};
use crate::vobiz::FetchError;
pub(crate) use page::{Found, ListTally, StoredPage};
pub(crate) use reader::{DB_TIMEOUT, FoundBacklog, ListReader, MOST_PAGES, PER_PAGE};
pub(crate) use walk::ListWalk;

/// The longest pause after reads that failed.
pub(crate) const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);

/// Why a list was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The list could not be read.
    #[error("the CDR list: {0}")]
    List(#[from] FetchError),
    /// Postgres failed.
    #[error(transparent)]
    Db(#[from] db::DbError),
    /// The list does not end.
    #[error("more than {0} pages of the list")]
    Endless(u32),
    /// A page came twice, or the first one is empty: the list cannot be trusted to be complete.
    #[error("the CDR list is odd: {0}")]
    Odd(&'static str),
    /// Nothing can be read of several pages in a row, by smaller ones either, while those before them came.
    #[error("the CDR list is refused from page {page} on: {said}")]
    Refused {
        /// The first of them.
        page: u32,
        /// What Vobiz answered.
        said: String,
    },
    /// A writer has been at work since before the check of a day began, so what it writes may have been missed.
    #[error("a transaction has been writing to vobiz.cdr for long: see pg_locks and pg_stat_activity")]
    Busy,
    /// Another session has had a lock for long that a comparison needs.
    #[error(
        "another session has held the lock of the proofs, or the row of the day, for long: see pg_locks and pg_stat_activity"
    )]
    Held,
    /// The account stayed paused.
    #[error("the account is paused")]
    Paused,
    /// We were told to stop.
    #[error("stopped")]
    Stopped,
}

impl ListError {
    /// The lease on the work was lost: it is another process's.
    pub(crate) fn is_lost_lease(&self) -> bool {
        matches!(self, Self::Db(db::DbError::Sql(error)) if work_lease::is_lost(error))
    }

    /// Postgres failed, and not Vobiz.
    pub(crate) fn is_of_postgres(&self) -> bool {
        matches!(self, Self::Db(_))
    }

    /// The clock of Postgres is behind. Before anything is asked, that is no failure: there is nothing to spare when it is right.
    pub(crate) fn is_clock_behind(&self) -> bool {
        matches!(self, Self::Db(db::DbError::ClockBehind(_)))
    }

    /// What to do about just this, where that is known.
    pub(crate) fn cure(&self) -> Option<&'static str> {
        if let Self::Db(error) = self { error.cure() } else { None }
    }

    /// The failure for the log: without what Vobiz said, which may hold numbers.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::List(error) => format!("the CDR list: {}", error.brief()),
            other => other.to_string(),
        }
    }
}

/// Whether a page that failed so, again and again while the account works, is worth being asked for in parts: it may be a row of it
/// that Vobiz cannot print.
fn in_parts(error: &FetchError) -> bool {
    !matches!(error, FetchError::Throttled { .. })
}

impl Faulty for ListError {
    fn fault(&self) -> Fault {
        if let Self::Db(error) = self { error.fault() } else { Fault::Ours }
    }
}

impl From<sqlx::Error> for ListError {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// Work on a connection that is outside the pool.
pub(crate) async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, ListError> {
    within(DB_TIMEOUT, work).await
}

/// The same, for work that takes longer.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, ListError> {
    match timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(db::DbError::TimedOut(limit).into()),
    }
}
