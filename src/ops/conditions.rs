//! What a person must do about conditions that last, and about a Postgres that does not answer or takes no writes: with its reason, and
//! the cure of just that. Pure.

use std::time::Duration;

use super::evaluate::{AWAY, Act, StatusSnapshot, UNCOUNTED, UNPOLLED};
use super::locks::held;
use crate::db::MIXED_SESSIONS;
use crate::watch::condition::LastingCondition;

/// The list of an account may fail for as long as an outage of the API that calls nobody, and once more after it.
const LIST_AWAY: Duration = Duration::from_secs(60);

/// Words of what stops callbacks (`receive::group_commit`).
const REFUSED: &str = "callbacks cannot be committed";

/// Words of a pool that waited for a connection in vain.
pub(super) const IN_VAIN: &str = "pool timed out";

/// A Postgres that does not do its work.
pub(super) fn postgres(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    let postgres = &snapshot.postgres;
    if !postgres.answers && postgres.lasting >= AWAY {
        let said = postgres.failure.as_ref().map_or_else(String::new, ToString::to_string);
        let cure = postgres.failure.as_ref().and_then(|failure| failure.cure);
        let held = held(&said, snapshot);
        let said = if said.is_empty() { said } else { format!(" ({said})") };
        let are_refused = snapshot.conditions.iter().any(|lasting| lasting.what.contains(REFUSED));
        let only_waits = held.is_some() && !are_refused;
        let (by, cure) = match (held, cure) {
            (Some((by, cure)), _) => (by, cure),
            (None, Some(cure)) => (String::new(), cure.into()),
            (None, None) => (
                String::new(),
                "start Postgres again, or see why it cannot be reached (DATABASE_URL, network, disk, its own log)".into(),
            ),
        };
        let is_mixed = postgres.failure.as_ref().is_some_and(|failure| failure.cure == Some(MIXED_SESSIONS));
        let what = match (is_mixed, only_waits) {
            (true, _) => {
                "a pooler mixes our sessions of Postgres: callbacks get 503, nothing is fetched, nothing is lost"
            }
            (_, true) => {
                "a lock keeps our look at Postgres waiting: what needs it stands still, callbacks are taken"
            }
            _ => "Postgres does not answer: callbacks get 503, nothing is fetched, nothing is lost",
        };
        acts.push(Act {
            what: format!("{what}{said}{by}"),
            for_seconds: Some(postgres.lasting.as_secs()),
            cure,
        });
    }
    if let Some(why) = &postgres.read_only {
        acts.push(Act {
            what: "this Postgres takes no writes: callbacks get 503".into(),
            for_seconds: None,
            cure: cure_of_read_only(why).into(),
        });
    }
}

fn cure_of_read_only(why: &str) -> &'static str {
    match why {
        "standby" => "it is a standby: point DATABASE_URL at the primary",
        "user" => "it was set for our role: see why, then alter role … reset default_transaction_read_only",
        "database" => {
            "it was set for this database: see why, then alter database … reset default_transaction_read_only"
        }
        "database user" => {
            "it was set for our role in this database: see why, then alter role … in database … reset default_transaction_read_only"
        }
        _ => {
            "the server was set to read only (default_transaction_read_only): see why, a full disk most likely, and set it back"
        }
    }
}

/// The conditions that the loops raised, and a queue and schema that could not be polled.
pub(super) fn conditions(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    for condition in snapshot.conditions.iter().filter(|condition| is_shown(condition, snapshot)) {
        let LastingCondition { what, account, error, cure, began, .. } = condition;
        let of = if account.is_empty() { String::new() } else { format!(" (account {account})") };
        let why = if error.is_empty() { String::new() } else { format!(": {error}") };
        let refused = snapshot.postgres.no_connection.as_ref().filter(|_| error.contains(IN_VAIN));
        let (by, cure) = match (held(error, snapshot), refused) {
            (_, Some(why)) => (format!("; a new one is refused: {why}"), why.cure.unwrap_or(cure).into()),
            (Some(held), None) => held,
            (None, None) => (String::new(), (*cure).into()),
        };
        acts.push(Act { what: format!("{what}{of}{why}{by}"), for_seconds: Some(began.as_secs()), cure });
    }
    // Never counted is no matter in the first minutes.
    let possible = snapshot.uptime.min(snapshot.postgres.lasting);
    let is_said = snapshot.conditions.iter().any(|condition| condition.what == UNPOLLED);
    if !is_said && snapshot.counted.map_or(possible > AWAY * 12, |age| age > UNCOUNTED) {
        acts.push(Act {
            what: "the queue and the schema could not be polled for long: what is shown of them is old".into(),
            for_seconds: snapshot.counted.map(|age| age.as_secs()),
            cure: "see the log for `cannot be polled`: a missing permission, a lock, or a Postgres that is too slow".into(),
        });
    }
}

/// Whether it has lasted since Postgres is there again, and nothing else that is said explains it.
fn is_shown(condition: &LastingCondition, snapshot: &StatusSnapshot) -> bool {
    if snapshot.postgres.read_only.is_some() {
        return false;
    }
    let before = condition.began.saturating_sub(snapshot.postgres.lasting);
    let lasting = condition.lasting.saturating_sub(before);
    if condition.account.is_empty() {
        return lasting >= AWAY;
    }
    let ours = |account: &str| account == condition.account;
    let paused = |reason: &Option<String>| reason.as_deref().is_some_and(|reason| reason != "throttled");
    let is_paused = snapshot.accounts.iter().any(|a| ours(&a.account_id) && paused(&a.pause_reason))
        || snapshot.replicas.iter().any(|r| ours(&r.account_id) && paused(&r.pause_reason));
    lasting >= LIST_AWAY && !is_paused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::cause;
    use crate::ops::evaluate::tests::well;

    fn lasting(account: &str, began: u64, lasting: u64) -> LastingCondition {
        LastingCondition {
            what: "it cannot be done",
            account: account.into(),
            error: "no room, SQLSTATE 53100".into(),
            cure: "make room",
            began: Duration::from_secs(began),
            lasting: Duration::from_secs(lasting),
        }
    }

    #[test]
    fn a_pool_that_waits_in_vain_is_explained_by_what_refuses_a_connection() {
        let (mut snapshot, mut acts) = (well(), Vec::new());
        let in_vain = "pool timed out while waiting for an open connection";
        snapshot.conditions =
            vec![LastingCondition { error: in_vain.into(), ..lasting("", 60, 60) }, lasting("", 60, 60)];
        snapshot.postgres.no_connection = Some(crate::db::Cause {
            sqlstate: Some("53300".into()),
            said: "too many connections for role \"cl\"".into(),
            cure: Some("raise the limit of the role"),
        });
        conditions(&snapshot, &mut acts);
        assert_eq!(
            acts[0].what,
            format!(
                "it cannot be done: {in_vain}; a new one is refused: too many connections for role \"cl\", SQLSTATE 53300"
            )
        );
        assert_eq!((&*acts[0].cure, &*acts[1].cure), ("raise the limit of the role", "make room"));
    }

    #[test]
    fn a_condition_is_shown_with_its_reason_once_it_has_lasted_since_postgres_is_there() {
        for (condition, answers_for, paused, shown) in [
            (lasting("", 10, 10), 1000, false, Some("it cannot be done: no room, SQLSTATE 53100")),
            (lasting("", 500, 9), 1000, false, None),
            // Nine of its seconds lie before Postgres came back.
            (lasting("", 25, 18), 16, false, None),
            (lasting("", 25, 19), 16, false, Some("it cannot be done: no room, SQLSTATE 53100")),
            (lasting("MA_1", 90, 59), 1000, false, None),
            (
                lasting("MA_1", 90, 60),
                1000,
                false,
                Some("it cannot be done (account MA_1): no room, SQLSTATE 53100"),
            ),
            (lasting("MA_1", 90, 60), 1000, true, None),
            (
                lasting("MA_2", 90, 60),
                1000,
                true,
                Some("it cannot be done (account MA_2): no room, SQLSTATE 53100"),
            ),
        ] {
            let mut snapshot = well();
            snapshot.postgres.lasting = Duration::from_secs(answers_for);
            snapshot.accounts[0].pause_reason = paused.then(|| "denied".into());
            snapshot.conditions = vec![condition.clone()];
            let mut acts = Vec::new();
            conditions(&snapshot, &mut acts);
            let found: Vec<&str> = acts.iter().map(|act| act.what.as_str()).collect();
            assert_eq!(found, shown.into_iter().collect::<Vec<_>>(), "{condition:?}");
            assert!(acts.iter().all(|act| act.cure == "make room"));
        }
    }

    #[test]
    fn a_postgres_that_does_not_answer_is_shown_with_its_reason() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        for (failure, what, cure) in [
            (
                Some(cause(&sqlx::Error::Io(refused))),
                "(error communicating with database: connection refused)",
                "listen_addresses",
            ),
            (Some(cause(&sqlx::Error::PoolTimedOut)), "(pool timed out", "who holds a lock"),
            (None, "nothing is lost", "start Postgres again"),
        ] {
            let mut snapshot = well();
            snapshot.postgres.answers = false;
            snapshot.postgres.failure = failure;
            let mut acts = Vec::new();
            postgres(&snapshot, &mut acts);
            assert!(acts[0].what.contains(what) && acts[0].cure.contains(cure), "{acts:?}");
        }
    }
}
