//! The gauges of `/metrics`: what was seen in the database and of the loops. The counters count where things happen.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Ops;
use crate::db::ledger::status::DifferenceCounts;
use crate::db::overview::OwedSnapshot;

/// All reasons for a pause: each has its series.
const REASONS: [&str; 4] = ["throttled", "denied", "unavailable", "unreadable"];
/// All classes of dead letters: each has its series.
const CLASSES: [&str; 5] = ["never_appeared", "refused", "unavailable", "unreadable", "unstorable"];
/// All classes of what is owed and not dead.
const OWED_CLASSES: [&str; 5] = ["none", "not_yet", "refused", "unavailable", "unreadable"];

impl Ops {
    /// Puts what was seen into the gauges. What was not seen yet has no sample: a zero would be a claim.
    pub(super) fn show_in_metrics(&self) {
        let (snapshot, metrics) = (self.snapshot(), &self.metrics);
        metrics.postgres_up.set(i64::from(snapshot.postgres.answers));
        let thorough = {
            let polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
            polls.thorough.as_ref().map(|(_, thorough)| thorough.clone())
        };
        if let Some(thorough) = thorough {
            let sum = |of: fn(&OwedSnapshot) -> i64| thorough.owed.iter().map(of).sum::<i64>();
            metrics.queue_calls.with_label_values(&["due"]).set(sum(|owed| owed.due));
            metrics.queue_calls.with_label_values(&["waiting"]).set(sum(|owed| owed.waiting));
            let mut classes: BTreeMap<&str, i64> = CLASSES.iter().map(|class| (*class, 0)).collect();
            for dead in &thorough.dead {
                *classes.entry(&dead.class).or_default() += dead.calls;
            }
            metrics.queue_calls.with_label_values(&["dead"]).set(classes.values().sum());
            for (class, calls) in classes {
                metrics.dead_letters.with_label_values(&[class]).set(calls);
            }
            let mut long_owed: BTreeMap<&str, i64> = OWED_CLASSES.iter().map(|class| (*class, 0)).collect();
            for owed in &thorough.long_owed {
                *long_owed.entry(&owed.class).or_default() += owed.calls;
            }
            for (class, calls) in long_owed {
                metrics.long_owed_calls.with_label_values(&[class]).set(calls);
            }
            let DifferenceCounts {
                missing_here,
                missing_there,
                differing,
                billed_elsewhere,
                unreadable,
                listed_twice,
            } = thorough.ledger.differences;
            for (kind, calls) in [
                ("missing_here", missing_here),
                ("missing_there", missing_there),
                ("differs", differing),
                ("billed_elsewhere", billed_elsewhere),
                ("sums", thorough.sums.wrong_sums),
                ("unreadable", unreadable),
                ("listed_twice", listed_twice),
            ] {
                metrics.ledger_difference.with_label_values(&[kind]).set(calls);
            }
            metrics.unfolded.set(thorough.sums.unfolded);
            metrics.safe_to_bill_seconds.reset();
            for safe in &thorough.ledger.safe_to_bill {
                let at = safe.safe_to.timestamp();
                metrics.safe_to_bill_seconds.with_label_values(&[safe.account_id.as_str()]).set(at);
            }
        }
        metrics.unclear_calls.reset();
        metrics.without_cost_calls.reset();
        for owner in &snapshot.unclear.owners {
            let id = owner.account_id.as_str();
            metrics.unclear_calls.with_label_values(&[id]).set(owner.unclear);
            metrics.without_cost_calls.with_label_values(&[id]).set(owner.without_cost);
        }
        metrics.account_paused.reset();
        metrics.replicas_paused.reset();
        metrics.oldest_due_seconds.reset();
        metrics.unfetched_seconds.reset();
        for account in &snapshot.accounts {
            let id = account.account_id.as_str();
            for reason in REASONS {
                let paused = account.pause_reason.as_deref() == Some(reason);
                metrics.account_paused.with_label_values(&[id, reason]).set(i64::from(paused));
            }
            let replicas = snapshot
                .replicas
                .iter()
                .filter(|replica| replica.account_id == id && replica.pause_reason.is_some());
            metrics
                .replicas_paused
                .with_label_values(&[id])
                .set(i64::try_from(replicas.count()).unwrap_or(i64::MAX));
            metrics.oldest_due_seconds.with_label_values(&[id]).set(account.oldest_due_seconds);
            metrics.unfetched_seconds.with_label_values(&[id]).set(account.unfetched_seconds);
        }
        for (against, skew) in [("postgres", snapshot.clocks.postgres), ("vobiz", snapshot.clocks.vobiz)] {
            if let Some(skew) = skew {
                metrics.clock_skew_seconds.with_label_values(&[against]).set(skew);
            }
        }
        metrics.last_progress.reset();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        for snapshot in &snapshot.loops {
            let moved = now.saturating_sub(snapshot.silence).as_secs_f64();
            metrics.last_progress.with_label_values(&[snapshot.name.as_str()]).set(moved);
        }
    }
}
