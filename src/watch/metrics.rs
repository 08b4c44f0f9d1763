//! What is counted, under the names that dashboards and alerts use. Prefix `vobiz_cdr_`, base units, and no label that could
//! hold a call_id or a phone number.
//!
//! The flows count here; [`crate::ops`] adds what it has seen in the database and serves all of it.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::watch::arrivals::{Arrivals, Refusal};
use crate::watch::condition::{Condition, LastingCondition};
use crate::watch::heartbeat::Heartbeats;

const NAMESPACE: &str = "vobiz_cdr";

/// Counters, histograms and heartbeats of one process. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// The loops.
    pub heartbeats: Heartbeats,
    /// Conditions that an operator must hear of when they last.
    conditions: Arc<Mutex<Vec<Arc<Condition>>>>,
    /// `callbacks_total{result}`: answers at the callback path.
    pub callbacks: IntCounterVec,
    /// `callbacks_refused_total{reason}`: of these, those that were refused.
    pub refused: IntCounterVec,
    /// `callbacks_over_cap_total`: of these, those that a secret alone proved, beyond the cap.
    pub over_cap: IntCounter,
    /// The callbacks of the last 15 minutes.
    pub arrivals: Arc<Arrivals>,
    /// `callbacks_not_kept_total`: unproven callbacks of which the log holds nothing.
    pub callbacks_not_kept: IntCounter,
    /// `connections_closed_total{reason}`: connections that were closed to keep places for others.
    pub connections_closed: IntCounterVec,
    /// `callback_duration_seconds`: from the last header to the answer.
    pub callback_seconds: Histogram,
    /// `fetch_total{outcome}`: answers of the API to single fetches.
    pub fetches: IntCounterVec,
    /// `fetch_duration_seconds`: from the request to the end of its answer.
    pub fetch_seconds: Histogram,
    /// `freshness_seconds`: from the end of a call to its commit.
    pub freshness_seconds: Histogram,
    /// `list_pages_total{flow}`: pages of the CDR list that were read.
    pub list_pages: IntCounterVec,
    /// `sweep_recovered_total`: calls that a page of the list stored and nothing had owed.
    pub recovered: IntCounter,
    /// `queue_calls{state}`.
    pub(crate) queue_calls: IntGaugeVec,
    /// `queue_oldest_due_seconds`.
    pub(crate) oldest_due_seconds: GaugeVec,
    /// `queue_long_owed_calls{class}`.
    pub(crate) long_owed_calls: IntGaugeVec,
    /// `dead_letters{class}`.
    pub(crate) dead_letters: IntGaugeVec,
    /// `ledger_difference{kind}`.
    pub(crate) ledger_difference: IntGaugeVec,
    /// `safe_to_bill_timestamp_seconds{account}`.
    pub(crate) safe_to_bill_seconds: IntGaugeVec,
    /// `unfolded_changes`.
    pub(crate) unfolded: IntGauge,
    /// `unclear_calls{account}`.
    pub(crate) unclear_calls: IntGaugeVec,
    /// `without_cost_calls{account}`.
    pub(crate) without_cost_calls: IntGaugeVec,
    /// `account_paused{account,reason}`.
    pub(crate) account_paused: IntGaugeVec,
    /// `replicas_paused{account}`.
    pub(crate) replicas_paused: IntGaugeVec,
    /// `unfetched_seconds{account}`.
    pub(crate) unfetched_seconds: GaugeVec,
    /// `leased_work_refused_total{work}`.
    pub(crate) leased_work_refused: IntCounterVec,
    /// `clock_skew_seconds{against}`.
    pub(crate) clock_skew_seconds: GaugeVec,
    /// `worker_last_progress_timestamp_seconds{loop}`.
    pub(crate) last_progress: GaugeVec,
    /// `postgres_up`.
    pub(crate) postgres_up: IntGauge,
}

/// What became of a callback, as `callbacks_total` counts it.
pub const CALLBACK_RESULTS: [&str; 6] =
    ["committed", "refused", "unavailable", "too_large", "bad_request", "no_such_path"];

/// Why a connection was closed, as `connections_closed_total` counts it.
pub const CONNECTION_REASONS: [&str; 2] = ["address_full", "gave_way"];

/// What became of a fetch, as `fetch_total` counts it.
pub const FETCH_OUTCOMES: [&str; 7] =
    ["fetched", "not_yet", "throttled", "unavailable", "denied", "refused", "unreadable"];

const LIST_PAGES: &str = "Pages of the CDR list that were read, by flow: sweep, drain of a backlog, ledger (check of a day), backfill.";

/// Who reads the list, as `list_pages_total` counts it.
pub const LIST_FLOWS: [&str; 4] = ["sweep", "drain", "ledger", "backfill"];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero. Every known label value is there from the start, so that a rate over it is right from the first event on.
    #[expect(clippy::too_many_lines, reason = "a few lines for each metric")]
    pub fn new() -> Self {
        let r = Registry::new();
        let callback_buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
        let fetch_buckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
        let freshness_buckets = [1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 86400.0];
        let metrics = Self {
            callbacks: add(
                &r,
                counters("callbacks_total", "Answers at the callback path, by result.", &["result"]),
            ),
            refused: add(
                &r,
                counters(
                    "callbacks_refused_total",
                    "Callbacks that were refused (403, 404), by reason.",
                    &["reason"],
                ),
            ),
            over_cap: add(
                &r,
                IntCounter::with_opts(opts(
                    "callbacks_over_cap_total",
                    "Callbacks that a secret alone proved, beyond CDR_MAX_BY_SECRET_PER_MINUTE: their calls are speculative.",
                )),
            ),
            arrivals: Arc::default(),
            callbacks_not_kept: add(
                &r,
                IntCounter::with_opts(opts(
                    "callbacks_not_kept_total",
                    "Unproven callbacks beyond what the log of callbacks takes: answered, counted, and not kept.",
                )),
            ),
            connections_closed: add(
                &r,
                counters(
                    "connections_closed_total",
                    "Connections that were closed to keep places for others, by reason.",
                    &["reason"],
                ),
            ),
            callback_seconds: add(
                &r,
                histogram(
                    "callback_duration_seconds",
                    "Time from the last header of a callback to its answer.",
                    &callback_buckets,
                ),
            ),
            fetches: add(
                &r,
                counters(
                    "fetch_total",
                    "Answers of the Vobiz API to fetches of one CDR, by outcome.",
                    &["outcome"],
                ),
            ),
            fetch_seconds: add(
                &r,
                histogram("fetch_duration_seconds", "Time of one fetch of one CDR.", &fetch_buckets),
            ),
            freshness_seconds: add(
                &r,
                histogram(
                    "freshness_seconds",
                    "Time from the end of a call to the first commit of its CDR, fetched or listed.",
                    &freshness_buckets,
                ),
            ),
            list_pages: add(&r, counters("list_pages_total", LIST_PAGES, &["flow"])),
            recovered: add(
                &r,
                IntCounter::with_opts(opts(
                    "sweep_recovered_total",
                    "Calls that a page of the list stored although no callback had announced them by then.",
                )),
            ),
            queue_calls: add(
                &r,
                gauges(
                    "queue_calls",
                    "Calls owed, by state: due, waiting or dead; counted now and then.",
                    &["state"],
                ),
            ),
            oldest_due_seconds: add(
                &r,
                GaugeVec::new(
                    opts(
                        "queue_oldest_due_seconds",
                        "For how long the oldest due call of an account has been due.",
                    ),
                    &["account"],
                ),
            ),
            long_owed_calls: add(
                &r,
                gauges(
                    "queue_long_owed_calls",
                    "Certain calls that have been owed for over 36 hours, by class of their last failure.",
                    &["class"],
                ),
            ),
            dead_letters: add(&r, gauges("dead_letters", "Dead letters, by class.", &["class"])),
            ledger_difference: add(
                &r,
                gauges(
                    "ledger_difference",
                    "Calls that differ in the last comparison of days that are not settled, by kind.",
                    &["kind"],
                ),
            ),
            safe_to_bill_seconds: add(
                &r,
                gauges(
                    "safe_to_bill_timestamp_seconds",
                    "Everything before this instant is complete and equals the provider's rows and totals.",
                    &["account"],
                ),
            ),
            unfolded: add(
                &r,
                IntGauge::with_opts(opts(
                    "unfolded_changes",
                    "Changes of the sums of the bill that are not folded into them yet: a few, for seconds.",
                )),
            ),
            unclear_calls: add(
                &r,
                gauges(
                    "unclear_calls",
                    "Calls of the last 62 billing days of which a field of the bill could not be read, by account.",
                    &["account"],
                ),
            ),
            without_cost_calls: add(
                &r,
                gauges(
                    "without_cost_calls",
                    "Calls of the last 62 billing days without an amount, by account.",
                    &["account"],
                ),
            ),
            replicas_paused: add(
                &r,
                gauges(
                    "replicas_paused",
                    "Processes that ask for no calls of an account, as all or alone.",
                    &["account"],
                ),
            ),
            account_paused: add(
                &r,
                gauges("account_paused", "1 while an account is paused, by reason.", &["account", "reason"]),
            ),
            unfetched_seconds: add(
                &r,
                GaugeVec::new(
                    opts(
                        "unfetched_seconds",
                        "For how long no process has fetched calls of an account; 0 while one does.",
                    ),
                    &["account"],
                ),
            ),
            leased_work_refused: add(
                &r,
                counters(
                    "leased_work_refused_total",
                    "Times that work found all sessions of leases of this process taken, or others before it.",
                    &["work"],
                ),
            ),
            clock_skew_seconds: add(
                &r,
                GaugeVec::new(
                    opts(
                        "clock_skew_seconds",
                        "How far another clock is ahead of ours: of Postgres, and of the Vobiz API (its Date header).",
                    ),
                    &["against"],
                ),
            ),
            last_progress: add(
                &r,
                GaugeVec::new(
                    opts(
                        "worker_last_progress_timestamp_seconds",
                        "When a loop last moved; now, while it rightly waits.",
                    ),
                    &["loop"],
                ),
            ),
            postgres_up: add(
                &r,
                IntGauge::with_opts(opts("postgres_up", "1 if Postgres answered the last poll.")),
            ),
            heartbeats: Heartbeats::default(),
            conditions: Arc::default(),
            registry: r,
        };
        metrics.begin();
        metrics
    }

    /// The first samples: a series that is there from the start.
    fn begin(&self) {
        let build = gauges("build_info", "The running version.", &["version", "commit"]);
        let labels = [env!("CARGO_PKG_VERSION"), env!("VOBIZ_CDR_COMMIT")];
        add(&self.registry, build).with_label_values(&labels).set(1);
        for result in CALLBACK_RESULTS {
            self.callbacks.with_label_values(&[result]);
        }
        for reason in Refusal::TURNED_AWAY {
            self.refused.with_label_values(&[reason.as_str()]);
        }
        for reason in CONNECTION_REASONS {
            self.connections_closed.with_label_values(&[reason]);
        }
        for outcome in FETCH_OUTCOMES {
            self.fetches.with_label_values(&[outcome]);
        }
        for flow in LIST_FLOWS {
            self.list_pages.with_label_values(&[flow]);
        }
    }

    /// A condition that `/status` shows as well when it lasts.
    pub fn condition(&self, what: &'static str, cure: &'static str) -> Arc<Condition> {
        self.register(Condition::new(what, cure, ""))
    }

    /// The same of an account.
    pub fn condition_of(&self, what: &'static str, cure: &'static str, account: &str) -> Arc<Condition> {
        self.register(Condition::new(what, cure, account))
    }

    /// A condition that nothing tries again by itself: it lasts until it is cleared.
    pub fn condition_until_mended(&self, what: &'static str, cure: &'static str) -> Arc<Condition> {
        self.register(Condition::new(what, cure, "").until_mended())
    }

    fn register(&self, condition: Condition) -> Arc<Condition> {
        let condition = Arc::new(condition);
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&condition));
        condition
    }

    /// The conditions that last.
    pub fn lasting_conditions(&self) -> Vec<LastingCondition> {
        let mut all = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        // One without a loop was of a loop that has ended: nobody would end it.
        all.retain(|condition| Arc::strong_count(condition) > 1);
        all.iter().filter_map(|condition| condition.lasting()).collect()
    }

    /// All of it in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // Only a metric without samples could fail, and gathering leaves those out.
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        debug_assert!(encoded.is_ok(), "{encoded:?}");
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Registers a metric of ours. The names are constants, so a failure is a slip in this file that the first start shows.
#[expect(clippy::expect_used, reason = "names and labels are constants of this file; a test makes them all")]
fn add<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("a metric of ours is well formed");
    registry.register(Box::new(metric.clone())).expect("a metric of ours has its own name");
    metric
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(opts(name, help), labels)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    IntGaugeVec::new(opts(name, help), labels)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    Histogram::with_opts(HistogramOpts::new(name, help).namespace(NAMESPACE).buckets(buckets.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_result_is_there_from_the_start() {
        let text = Metrics::new().text();
        for line in [
            "vobiz_cdr_callbacks_total{result=\"committed\"} 0",
            "vobiz_cdr_fetch_total{outcome=\"denied\"} 0",
            "vobiz_cdr_list_pages_total{flow=\"drain\"} 0",
            "vobiz_cdr_sweep_recovered_total 0",
            "# TYPE vobiz_cdr_freshness_seconds histogram",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
