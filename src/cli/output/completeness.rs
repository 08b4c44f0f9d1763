//! Up to when a bill is complete, in words: what a report says beside its lines, and why an export refuses.

use super::counted;
use crate::db::bill::completeness::{Completeness, OwnerCompleteness};

/// One line for each owner whose calls are not complete, else one for all; then what the sums say nothing of.
pub(in crate::cli) fn lines(completeness: &Completeness) -> Vec<String> {
    let mut lines = held(completeness);
    if lines.is_empty() {
        let owners: Vec<&str> = completeness.owners.iter().map(|owner| owner.account_id.as_str()).collect();
        lines.push(format!("complete: every day is settled with Vobiz ({})", owners.join(", ")));
    } else {
        // What is asked for until today is not over, whatever else holds it.
        if !completeness.over && !lines.iter().any(|line| line.contains("is not over")) {
            lines.insert(
                0,
                format!(
                    "it ends at {} ({}), and is not over",
                    completeness.ends_local, completeness.billing_zone
                ),
            );
        }
        lines.insert(0, "NOT COMPLETE".to_owned());
    }
    lines.extend(unread(completeness));
    lines.extend(money(completeness));
    lines.extend(without_calls(completeness));
    lines
}

/// Owners with settled days of which something is to be said of the money.
fn money(completeness: &Completeness) -> impl Iterator<Item = String> {
    let owners = completeness.owners.iter().filter(|owner| owner.money_not_compared > 0);
    owners.map(|owner| {
        let (account, days) = (&owner.account_id, owner.money_not_compared);
        let days = counted(days, "settled day", "settled days");
        format!(
            "{account}: on {days} Vobiz's summary proves not all of the money, or counts a call more than once: see money in \
             vobiz.ledger_day"
        )
    })
}

/// Owners with settled days on which Vobiz listed no call: the day of a customer who did not call looks like one that Vobiz has forgotten.
fn without_calls(completeness: &Completeness) -> impl Iterator<Item = String> {
    let owners = completeness.owners.iter().filter(|owner| owner.days_without_calls > 0);
    owners.map(|owner| {
        let (account, days) = (&owner.account_id, owner.days_without_calls);
        let days = counted(days, "day", "days");
        format!("{account}: {days} in which Vobiz listed no call")
    })
}

/// What keeps the range from being complete; nothing if it is.
pub(in crate::cli) fn held(completeness: &Completeness) -> Vec<String> {
    if completeness.owners.is_empty() {
        return vec!["no account is configured here: nothing proves that all calls are there".into()];
    }
    let incomplete = completeness.owners.iter().filter(|owner| !owner.complete);
    incomplete.map(|owner| owner_held(owner, &completeness.billing_zone)).collect()
}

fn owner_held(owner: &OwnerCompleteness, zone: &str) -> String {
    let account = &owner.account_id;
    let asked = owner.listed_by.as_ref().unwrap_or(account);
    match (owner.unproven_day, owner.last_day_before) {
        (Some(first), Some(last)) => format!(
            "{account}: day {first} lies before the ledger begins and was not compared with Vobiz: `vobiz-cdr backfill --account \
             {asked} --from {first} --to {last}`"
        ),
        _ => format!(
            "{account} is complete up to {} ({zone}): {}",
            to_the_minute(&owner.safe_to_local),
            owner.held_by
        ),
    }
}

fn to_the_minute(local: &str) -> &str {
    local.get(..16).unwrap_or(local)
}

/// Calls that the sums say nothing, or not all, of.
pub(in crate::cli) fn unread(completeness: &Completeness) -> Vec<String> {
    let calls = |n: i64| counted(n, "call", "calls");
    let mut lines = Vec::new();
    if completeness.without_cost > 0 {
        lines.push(format!(
            "{} without an amount (without_cost): `vobiz-cdr report cost_gap` shows them, vobiz.cost_gap too",
            calls(completeness.without_cost)
        ));
    }
    if completeness.unclear > 0 {
        lines.push(format!(
            "{} of which a field of the bill could not be read (unclear): `vobiz-cdr report unclear` shows them, vobiz.unclear too",
            calls(completeness.unclear)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(id: &str, complete: bool) -> OwnerCompleteness {
        OwnerCompleteness {
            account_id: id.into(),
            ledger_since: chrono::DateTime::UNIX_EPOCH,
            safe_to: chrono::DateTime::UNIX_EPOCH,
            safe_to_local: "2026-11-20 00:00:00".into(),
            held_by: "day 2026-11-20 is not over".into(),
            unproven_day: None,
            last_day_before: None,
            listed_by: Some(id.into()),
            money_not_compared: 0,
            days_without_calls: 0,
            complete,
            retired: false,
        }
    }

    fn of(owners: Vec<OwnerCompleteness>) -> Completeness {
        Completeness {
            billing_zone: "Asia/Kolkata".into(),
            ends_local: "2026-12-01 00:00".into(),
            over: false,
            complete: owners.iter().all(|owner| owner.complete),
            complete_to: None,
            without_cost: 0,
            unclear: 0,
            owners,
        }
    }

    #[test]
    fn a_range_that_is_not_over_says_so_first() {
        let mut before = owner("MA_A", false);
        (before.unproven_day, before.last_day_before) =
            (before.safe_to.date_naive().into(), before.safe_to.date_naive().into());
        let said = lines(&of(vec![before]));
        assert_eq!(said[1], "it ends at 2026-12-01 00:00 (Asia/Kolkata), and is not over");
        assert!(said[2].contains("lies before the ledger begins"), "{said:?}");
    }

    #[test]
    fn who_is_not_complete_is_said_with_what_holds_it_and_the_zone() {
        let complete = of(vec![owner("MA_A", true), owner("SA_B", true)]);
        assert_eq!(lines(&complete), ["complete: every day is settled with Vobiz (MA_A, SA_B)"]);
        let held_up = Completeness {
            unclear: 1,
            without_cost: 2,
            ..of(vec![owner("MA_A", true), owner("SA_B", false)])
        };
        let said = lines(&held_up);
        assert_eq!(
            said[..2],
            [
                "NOT COMPLETE",
                "SA_B is complete up to 2026-11-20 00:00 (Asia/Kolkata): day 2026-11-20 is not over"
            ]
        );
        assert!(
            said[2].starts_with("2 calls without an amount") && said[3].starts_with("1 call of which"),
            "{said:?}"
        );
        assert!(held(&of(vec![]))[0].contains("nothing proves"));
        let mixed = of(vec![OwnerCompleteness { money_not_compared: 2, ..owner("MA_A", true) }]);
        assert!(
            lines(&mixed)[1]
                .starts_with("MA_A: on 2 settled days Vobiz's summary proves not all of the money")
        );
        for (days, says) in [
            (1, "MA_A: 1 day in which Vobiz listed no call"),
            (30, "MA_A: 30 days in which Vobiz listed no call"),
        ] {
            let idle = of(vec![OwnerCompleteness { days_without_calls: days, ..owner("MA_A", true) }]);
            assert_eq!(lines(&idle)[1..], [says]);
        }
        let before = OwnerCompleteness {
            unproven_day: "2026-10-01".parse().ok(),
            last_day_before: "2026-10-04".parse().ok(),
            ..owner("MA_A", false)
        };
        assert!(
            held(&of(vec![before.clone()]))[0]
                .contains("backfill --account MA_A --from 2026-10-01 --to 2026-10-04")
        );
        let listed =
            OwnerCompleteness { listed_by: Some("MA_A".into()), account_id: "SA_B".into(), ..before };
        assert!(held(&of(vec![listed]))[0].contains("backfill --account MA_A --from"));
    }
}
