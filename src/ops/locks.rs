//! Locks that somebody else keeps, and what waits for them. Pure.

use super::evaluate::{AWAY, Act, StatusSnapshot, counted, whole};

/// Sessions that ours have waited for, and those that keep leases locked, for which nobody waits.
pub(super) fn locks(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    let postgres = &snapshot.postgres;
    for holder in &postgres.lease_holders {
        acts.push(Act {
            what: format!(
                "{holder} keeps rows of vobiz.work_lease locked: sweeps, checks of days, folding and whatever else one process does at \
                 a time may stand still"
            ),
            for_seconds: None,
            cure: holder.cure(),
        });
    }
    for blocker in &postgres.blockers {
        let is_said = postgres.lease_holders.iter().any(|holder| holder.pid == blocker.pid);
        // One of ours has limits of its own.
        if is_said || blocker.is_ours() || blocker.waiting == 0 || blocker.waited_seconds < AWAY.as_secs_f64()
        {
            continue;
        }
        acts.push(Act {
            what: format!(
                "{} for a lock that {blocker} holds",
                counted(blocker.waiting, "session of ours waits", "sessions of ours wait")
            ),
            for_seconds: whole(blocker.waited_seconds),
            cure: blocker.cure(),
        });
    }
}

/// Of a failure that a lock may be to blame for: who holds it, as words to add, and what to do about that.
pub(super) fn held(error: &str, snapshot: &StatusSnapshot) -> Option<(String, String)> {
    const LOCK: [&str; 5] =
        ["55P03", "57014", "no answer in time", "no answer from Postgres", "migrations run was not free"];
    let blocker = snapshot.postgres.blockers.first()?;
    LOCK.iter()
        .any(|words| error.contains(words))
        .then(|| (format!("; {blocker} holds a lock that sessions of ours wait for"), blocker.cure()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::base::blocker::Blocker;
    use crate::ops::evaluate::tests::well;

    fn psql(pid: i32, waiting: i64, waited_seconds: f64) -> Blocker {
        Blocker { pid, role: "ops".into(), application: "psql".into(), since: None, waiting, waited_seconds }
    }

    #[test]
    fn a_session_that_ours_wait_for_is_named() {
        let ours = Blocker { application: "vobiz-cdr verify".into(), ..psql(3, 1, 60.0) };
        for (blocker, shown) in [
            (
                psql(1, 2, 10.0),
                Some("2 sessions of ours wait for a lock that session 1 (role ops, application psql, "),
            ),
            (psql(2, 1, 40.0), Some("1 session of ours waits for a lock that session 2 (")),
            (psql(2, 1, 9.0), None),
            (psql(2, 0, 40.0), None),
            (ours, None),
        ] {
            let (mut snapshot, mut acts) = (well(), Vec::new());
            snapshot.postgres.blockers = vec![blocker.clone()];
            locks(&snapshot, &mut acts);
            assert_eq!(
                acts.first().map(|act| act.what.starts_with(shown.unwrap_or("-"))),
                shown.map(|_| true),
                "{acts:?}"
            );
            // Whatever it is, it explains what a lock has ended.
            for (error, explains) in [
                ("canceling statement due to lock timeout, SQLSTATE 55P03", true),
                ("no answer in time", true),
                ("no room, SQLSTATE 53100", false),
            ] {
                assert_eq!(
                    held(error, &snapshot).is_some_and(|(words, _)| words.contains(&blocker.to_string())),
                    explains
                );
            }
        }
        assert_eq!(held("SQLSTATE 55P03", &well()), None);
    }

    #[test]
    fn who_keeps_a_lease_locked_is_said_once() {
        let (mut snapshot, mut acts) = (well(), Vec::new());
        snapshot.postgres.blockers = vec![psql(1, 1, 20.0), psql(2, 1, 20.0)];
        snapshot.postgres.lease_holders = vec![psql(2, 0, 0.0)];
        locks(&snapshot, &mut acts);
        let whats: Vec<&str> = acts.iter().map(|act| act.what.split(" (").next().unwrap()).collect();
        assert_eq!(whats, ["session 2", "1 session of ours waits for a lock that session 1"]);
        assert!(acts[0].cure.contains("pg_terminate_backend(2)"));
    }
}
