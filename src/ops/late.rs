//! What a person must do about what is owed for too long, about clocks that differ, and about instants that no right clock can have written.

use std::time::Duration;

use super::evaluate::{Act, StatusSnapshot, counted, whole};
use crate::db::base::clock::ClockBehind;

/// Clocks that differ by more than this, in seconds, are wrong.
const SKEW: f64 = 30.0;

/// Calls that are asked for again and again, and do not come.
pub(super) fn long_owed(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    for owed in &snapshot.long_owed {
        let (calls, have) =
            (counted(owed.calls, "call", "calls"), if owed.calls == 1 { "has" } else { "have" });
        let cure = match owed.class.as_str() {
            "unavailable" => {
                "Vobiz fails on just these: ask Vobiz, with `vobiz-cdr dead-letters list --owed`; after three days in which others come, \
                 each becomes a dead letter"
            }
            "none" => {
                "no request for them has failed: see that a process with fetch runs (--only), whether their account is paused, and whether \
                 VOBIZ_MAX_RPS is too low; `vobiz-cdr dead-letters list --owed` shows them"
            }
            _ => {
                "`vobiz-cdr dead-letters list --owed` shows what came back for each; ask Vobiz for those calls. What has been 404 for a day \
                 becomes a dead letter once every account could be asked"
            }
        };
        acts.push(Act {
            what: format!(
                "{calls} of account {} {have} been owed for over 36 hours: {}",
                owed.account_id, owed.class
            ),
            for_seconds: whole(owed.oldest_seconds),
            cure: cure.into(),
        });
    }
}

/// Instants that no right clock can have written.
pub(super) fn ahead(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    for ahead in &snapshot.ahead {
        let far = humantime::format_duration(Duration::from_secs(whole(ahead.seconds).unwrap_or(0)));
        acts.push(Act {
            what: format!("instants of account {} lie up to {far} in the future: {}", ahead.account_id, ahead.columns),
            for_seconds: None,
            cure: "the clock of Postgres was ahead, or is behind now: see that it is right (timedatectl, chronyc tracking). The work goes on: what \
                   no rule can have written is not believed, and each is written anew in its turn"
                .into(),
        });
    }
}

/// Clocks that differ.
pub(super) fn clocks(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    if let Some(behind) = snapshot.clocks.behind {
        acts.push(Act {
            what: format!(
                "nothing is fetched, listed or proven: the clock of Postgres is {behind:.0} s behind"
            ),
            for_seconds: None,
            cure: ClockBehind::CURE.into(),
        });
        return;
    }
    for (whose, skew) in [("Postgres", snapshot.clocks.postgres), ("the Vobiz API", snapshot.clocks.vobiz)] {
        if let Some(skew) = skew.filter(|skew| skew.abs() > SKEW) {
            let direction = if skew > 0.0 { "ahead of" } else { "behind" };
            acts.push(Act {
                what: format!("the clock of {whose} is {:.0} s {direction} ours", skew.abs()),
                for_seconds: None,
                cure: "set the clocks of this machine and of Postgres by NTP (timedatectl, chronyc tracking)"
                    .into(),
            });
        }
    }
}
