//! What was asked and said, counted as it happens: the tests' and benchmarks' view of how we treat Vobiz.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Which endpoint a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// One CDR.
    Single,
    /// `…/cdr`, and the partner's lists.
    List,
    /// `…/cdr/search`.
    Search,
    /// `…/cdr/recent`.
    Recent,
    /// Anything else: an unknown path.
    Other,
}

/// What one account was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountStats {
    /// All requests, refused ones included.
    pub requests: u64,
    /// The most requests in any one second.
    pub busiest_second: u64,
}

/// The counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Requests per endpoint.
    pub requests: BTreeMap<RequestKind, u64>,
    /// Requests per account in the path.
    pub accounts: BTreeMap<String, AccountStats>,
    /// Answers per status.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections closed without an answer.
    pub resets: u64,
    /// When each request for an account came in, by the clock of the machine.
    pub asked_at: Vec<Instant>,
    /// Single fetches per call, for ids that do not exist too.
    pub fetches: HashMap<String, u64>,
    /// The most fetches of one call that were open at once.
    pub max_concurrent_fetches: u32,
    /// The same of each call.
    pub most_open: HashMap<String, u32>,
    /// Callbacks sent, each attempt counted.
    pub callbacks_sent: u64,
    /// Those answered 200.
    pub callbacks_acknowledged: u64,
}

impl Stats {
    /// All requests.
    pub fn total_requests(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Requests to one endpoint.
    pub fn requests_of(&self, kind: RequestKind) -> u64 {
        self.requests.get(&kind).copied().unwrap_or(0)
    }

    /// Fetches of one call.
    pub fn fetches_of(&self, call_id: &str) -> u64 {
        self.fetches.get(call_id).copied().unwrap_or(0)
    }
}

/// The moments of the last second.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Instant>);

impl Window {
    /// How many there were in the second before now.
    pub(super) fn len(&mut self, now: Instant) -> usize {
        while self.0.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
            self.0.pop_front();
        }
        self.0.len()
    }

    /// Adds now, and says how many that makes.
    pub(super) fn push(&mut self, now: Instant) -> usize {
        self.0.push_back(now);
        self.len(now)
    }
}
