//! What a person must do about accounts that are asked for no calls: who paused them, with what error, and whose matter it is.

use super::evaluate::{Act, FIRST_ANSWER, OUTAGE, StatusSnapshot, THROTTLED, UNFETCHED, whole};
use crate::db::account::ReplicaSnapshot;
use crate::db::overview::AccountSnapshot;

/// The account is paused for all replicas.
pub(super) fn paused(account: &AccountSnapshot, snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    // Each 429 is a short pause of its own; together they may be most of the time.
    if account.throttled_share > THROTTLED {
        acts.push(Act {
            what: format!(
                "account {} was throttled (429) for {:.0} % of the last 15 minutes",
                account.account_id,
                account.throttled_share * 100.0
            ),
            for_seconds: None,
            cure: "lower VOBIZ_MAX_RPS to what Vobiz allows, or ask Vobiz for more".into(),
        });
    }
    let (Some(reason), Some(lasting)) = (account.pause_reason.as_deref(), account.paused_seconds) else {
        return;
    };
    // Throttled: it ends by itself, and a share that is too large was said above.
    if reason == "throttled" || lasting < acts_after(reason) {
        return;
    }
    let who: Vec<&ReplicaSnapshot> =
        replicas_of(account, snapshot).filter(|replica| is_paused(replica)).collect();
    let error = who.iter().find_map(|replica| replica.error.as_deref()).unwrap_or_default();
    acts.push(Act {
        what: format!("account {} is paused: {reason}{}", account.account_id, by(&who)),
        for_seconds: whole(lasting),
        cure: cure(reason, error).into(),
    });
}

/// A replica is paused, and others work.
pub(super) fn paused_alone(account: &AccountSnapshot, snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    if account.pause_reason.as_deref().is_some_and(|reason| reason != "throttled") {
        return;
    }
    for replica in replicas_of(account, snapshot).filter(|replica| is_paused(replica)) {
        let (reason, lasting) =
            (replica.pause_reason.as_deref().unwrap_or_default(), replica.paused_seconds.unwrap_or(0.0));
        let after = if reason == "throttled" { OUTAGE } else { acts_after(reason) };
        if lasting < after {
            continue;
        }
        let error = replica.error.as_deref().unwrap_or_default();
        let others_fetch = replicas_of(account, snapshot).any(|other| fetches(other) && !is_paused(other));
        let others = if others_fetch || !fetches(replica) {
            "the others go on"
        } else {
            "the others go on, but none of them fetches: owed calls wait for it"
        };
        acts.push(Act {
            what: format!(
                "one replica asks for no calls of account {}, while others may: {reason}{}",
                account.account_id,
                by(&[replica])
            ),
            for_seconds: whole(lasting),
            cure: format!(
                "mend that process: its settings (VOBIZ_API_URL, the token) and its way out of its network are its own; {others}; {}",
                cure(reason, error)
            ),
        });
    }
}

/// No good answer came since the account is known.
pub(super) fn unanswered(account: &AccountSnapshot, snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    let is_said = account.pause_reason.as_deref().is_some_and(|reason| reason != "throttled")
        || replicas_of(account, snapshot).any(is_paused);
    if account.last_answer_at.is_some()
        || !snapshot.asks
        || is_said
        || snapshot.uptime.min(snapshot.postgres.lasting) < FIRST_ANSWER
    {
        return;
    }
    acts.push(Act {
        what: format!("the API has not given one good answer for account {} yet", account.account_id),
        for_seconds: Some(snapshot.uptime.as_secs()),
        cure: "see the log for what is asked and what comes back, VOBIZ_API_URL, the token, and whether VOBIZ_MAX_RPS leaves any request"
            .into(),
    });
}

/// No process fetches, though some are configured with the account: what they take and find is owed, and nobody asks for it.
pub(super) fn unfetched(account: &AccountSnapshot, snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    if !is_unfetched(account, snapshot) {
        return;
    }
    let there: Vec<String> = replicas_of(account, snapshot)
        .map(|replica| {
            let duty = if replica.duty == "list" { "reads lists alone" } else { "takes callbacks alone" };
            format!("{} pid {} {duty}", replica.host, replica.pid)
        })
        .collect();
    let there = if there.is_empty() { String::new() } else { format!(" ({})", there.join("; ")) };
    acts.push(Act {
        what: format!("no process fetches calls of account {}{there}", account.account_id),
        for_seconds: whole(account.unfetched_seconds),
        cure: "start one that does: `serve` without --only, or `--only fetch`, with this account in its settings; or see why the one that did \
               has ended. Callbacks are committed meanwhile, and what is owed does not grow old"
            .into(),
    });
}

/// Whether nobody has fetched for so long that it is no restart. One that is there and paused is said by itself.
pub(super) fn is_unfetched(account: &AccountSnapshot, snapshot: &StatusSnapshot) -> bool {
    account.unfetched_seconds >= UNFETCHED && !replicas_of(account, snapshot).any(fetches)
}

fn fetches(replica: &ReplicaSnapshot) -> bool {
    replica.duty == "fetch"
}

/// So many seconds after the pause began it is a person's matter.
fn acts_after(reason: &str) -> f64 {
    if reason == "unavailable" { OUTAGE } else { 0.0 }
}

fn is_paused(replica: &ReplicaSnapshot) -> bool {
    replica.pause_reason.is_some()
}

fn replicas_of<'a>(
    account: &'a AccountSnapshot,
    snapshot: &'a StatusSnapshot,
) -> impl Iterator<Item = &'a ReplicaSnapshot> {
    snapshot.replicas.iter().filter(|replica| replica.account_id == account.account_id)
}

/// Who paused it, and with what error; nothing where that process is gone.
fn by(replicas: &[&ReplicaSnapshot]) -> String {
    let said: Vec<String> = replicas
        .iter()
        .map(|replica| {
            let never =
                if replica.answered_seconds_ago.is_none() { ", which never had a good answer" } else { "" };
            let error = replica.error.as_deref().unwrap_or("no words");
            format!("{} pid {}{never}: {error}", replica.host, replica.pid)
        })
        .collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) }
}

/// What to do about a pause, by its reason and the words of the transport.
fn cure(reason: &str, error: &str) -> &'static str {
    let error = error.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    match reason {
        "denied" => {
            "Vobiz refuses our credentials: check that VOBIZ_API_URL is Vobiz's, that the token is the present one and that the account \
             may read CDRs; put the new token where it comes from and send SIGHUP (a token in a variable needs a restart)"
        }
        "unreadable" => {
            "the answers of the API cannot be read any more: see that VOBIZ_API_URL is Vobiz's and no proxy answers in its place, see \
             last_body in vobiz.cdr_queue, and look for a newer release of vobiz-cdr"
        }
        "throttled" => "lower VOBIZ_MAX_RPS to what Vobiz allows, or ask Vobiz for more",
        _ if says(&["certificate", "tls", "handshake"]) => {
            "the certificate of the API is not believed here: see that VOBIZ_API_URL names the host that it is made for, that this machine's \
             clock is right, and that no proxy puts its own in between; it goes on by itself when that is mended"
        }
        _ if says(&["dns", "lookup", "resolve", "name or service"]) => {
            "the name of the API is not found: see VOBIZ_API_URL for a slip, and the DNS of this machine (`getent hosts api.vobiz.ai`); it goes \
             on by itself when the name is found"
        }
        _ if says(&["refused"]) => {
            "nothing takes connections at that address: see host and port in VOBIZ_API_URL, and a firewall that refuses; it goes on by \
             itself when the API is back"
        }
        _ if says(&["no answer in time", "timed out", "unreachable"]) => {
            "no answer comes: look at Vobiz's status page, and at the way out of this network (a firewall that drops, a route, a proxy that \
             is asked for); it goes on by itself when the API is back"
        }
        _ => {
            "the API does not answer: look at Vobiz's status page, at DNS and at the way out of this network; it goes on by itself when the \
             API is back"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::evaluate::evaluate;
    use crate::ops::evaluate::tests::{replica, well};

    /// A process that does not fetch.
    fn idle(duty: &str) -> ReplicaSnapshot {
        ReplicaSnapshot { duty: duty.into(), ..replica(None, 0.0) }
    }

    #[test]
    fn where_nobody_fetches_it_is_said_once_and_no_restart_is() {
        let waits = "none of them fetches: owed calls wait for it";
        for (replicas, unfetched, said) in [
            (vec![idle("list")], 149.0, None),
            // One is there again.
            (vec![idle("list"), replica(None, 0.0)], 7200.0, None),
            (
                vec![idle("list"), idle("receive")],
                150.0,
                Some((
                    "(host-b pid 4711 reads lists alone; host-b pid 4711 takes callbacks alone)",
                    "--only fetch",
                )),
            ),
            (vec![], 7200.0, Some(("no process fetches calls of account MA_1", "does not grow old"))),
            (vec![idle("list"), replica(Some("denied"), 1.0)], 7200.0, Some(("others may: denied", waits))),
            (
                vec![replica(None, 0.0), replica(Some("denied"), 1.0)],
                0.0,
                Some(("others may: denied", "the others go on;")),
            ),
        ] {
            let mut snapshot = well();
            snapshot.replicas = replicas;
            snapshot.accounts[0].unfetched_seconds = unfetched;
            if snapshot.replicas.iter().all(|replica| replica.duty != "fetch") && unfetched > 150.0 {
                snapshot.accounts[0].oldest_single_due_seconds = 7200.0;
            }
            let acts = evaluate(&snapshot);
            assert_eq!(acts.len(), usize::from(said.is_some()), "{acts:?}");
            for (act, (what, cure)) in acts.iter().zip(said) {
                assert!(act.what.contains(what) && act.cure.contains(cure), "{act:?}");
            }
        }
    }
}
