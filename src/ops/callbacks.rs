//! The Acts about callbacks: refused ones are seen here and nowhere else, for Vobiz does not say that it was turned away. Pure.

use super::evaluate::{Act, StatusSnapshot};
use crate::watch::arrivals::{Arrival, ArrivalCounts, Refusal};

/// So many in 15 minutes are no stray request of a stranger.
const MANY: u64 = 5;
/// So many calls of an hour without a single callback are no chance.
const UNHEARD: i64 = 10;

/// What a person must do about callbacks; nothing for a process that takes none.
pub(super) fn callbacks(snapshot: &StatusSnapshot, acts: &mut Vec<Act>) {
    let Some(counts) = &snapshot.callbacks else { return };
    let (calls, announced) = snapshot
        .newest
        .iter()
        .fold((0, 0), |(calls, announced), newest| (calls + newest.calls, announced + newest.announced));
    let unheard = calls > 0 && announced == 0;
    let accepted = counts.of(Arrival::Accepted);
    let refused: u64 = Refusal::TURNED_AWAY.iter().map(|kind| counts.of(Arrival::Refused(*kind))).sum();
    // A quiet service sees few of them: there it tells that no call of the last hour was announced.
    if refused > accepted && (refused >= MANY || unheard) && !counts.are_over(&Refusal::TURNED_AWAY) {
        acts.push(Act {
            what: format!(
                "{refused} of {} callbacks were refused in the last 15 minutes ({})",
                refused + accepted + counts.of(Arrival::Unavailable),
                in_words(counts)
            ),
            for_seconds: None,
            cure: format!(
                "{}{}; if they are no requests of Vobiz, let only its addresses through. The calls are not lost: the sweep stores them, \
                 later",
                token_first(counts, accepted),
                most_frequent(counts)
            ),
        });
    } else if accepted == 0 && unheard && calls >= UNHEARD {
        acts.push(Act {
            what: format!(
                "no callback comes: Vobiz lists calls ({calls} of the newest of the last hour), and none of them was announced"
            ),
            for_seconds: None,
            cure: "see that the hang-up URL of the applications and trunks at Vobiz is this service's, and that it can be reached from \
                   the internet (curl it from outside: 403 is an answer); the sweep stores the calls meanwhile, later"
                .into(),
        });
    }
    let over = counts.of(Arrival::OverCap);
    if over > 0 {
        acts.push(Act {
            what: format!(
                "{over} callbacks of the last 15 minutes were proved by a secret path alone, beyond CDR_MAX_BY_SECRET_PER_MINUTE: their \
                 calls are speculative, so a CDR that comes late is left to the sweep"
            ),
            for_seconds: None,
            cure: "if these calls are yours, raise it, or better: set CDR_CALLBACK_URL, so that signatures prove each call. If they are \
                   not, somebody knows the secret: give each account a callback_secret of its own, and make new ones"
                .into(),
        });
    }
    let nobodys = counts.of(Arrival::Refused(Refusal::NoAccount));
    if nobodys >= MANY && nobodys * 2 > accepted && !counts.are_over(&[Refusal::NoAccount]) {
        acts.push(Act {
            what: format!("{nobodys} callbacks of the last 15 minutes announce calls of no configured account: nobody fetches these"),
            for_seconds: None,
            cure: "add the account to the settings, or name it in the path: /callbacks/vobiz/ACCOUNT/SECRET; vobiz.callback has what came"
                .into(),
        });
    }
}

/// `wrong_signature 300, no_proof 21`, the most frequent first.
fn in_words(counts: &ArrivalCounts) -> String {
    let mut kinds: Vec<(u64, &str)> = Refusal::TURNED_AWAY
        .iter()
        .map(|kind| (counts.of(Arrival::Refused(*kind)), kind.as_str()))
        .filter(|(count, _)| *count > 0)
        .collect();
    kinds.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    kinds.iter().map(|(count, kind)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
}

/// Where signatures are wrong beside others that were right a moment ago, the URL is not to blame: a proxy may write it in its own way.
fn token_first(counts: &ArrivalCounts, accepted: u64) -> &'static str {
    let wrong = counts.of(Arrival::Refused(Refusal::WrongSignature));
    let most = Refusal::TURNED_AWAY.iter().all(|kind| counts.of(Arrival::Refused(*kind)) <= wrong);
    if accepted > 0 && wrong > 0 && most {
        "others were accepted, so most likely the token was changed at Vobiz: put the new one into VOBIZ_AUTH_TOKEN. Else: "
    } else {
        ""
    }
}

/// How the requests that are refused most differ from what is configured.
fn most_frequent(counts: &ArrivalCounts) -> &str {
    Refusal::TURNED_AWAY
        .iter()
        .max_by_key(|kind| counts.of(Arrival::Refused(**kind)))
        .and_then(|kind| counts.differs.get(kind.as_str()))
        .map_or("see the log for `callback refused`", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::overview::NewestCalls;
    use crate::ops::evaluate::tests::well;

    fn acts(kinds: &[(Arrival, u64)], newest: (i64, i64)) -> Vec<String> {
        acts_after(kinds, &[], newest)
    }

    fn acts_after(kinds: &[(Arrival, u64)], recent: &[Arrival], newest: (i64, i64)) -> Vec<String> {
        let mut snapshot = well();
        let recent = recent.iter().map(|kind| (kind.as_str(), 1)).collect();
        let mut counts = ArrivalCounts { recent, ..ArrivalCounts::default() };
        for (kind, count) in kinds {
            counts.by_kind.insert(kind.as_str(), *count);
            counts.differs.insert(kind.as_str(), format!("{} differs", kind.as_str()));
        }
        snapshot.callbacks = Some(counts);
        snapshot.newest = vec![
            NewestCalls { account_id: "MA_1".into(), calls: newest.0, announced: newest.1 },
            NewestCalls { account_id: "MA_2".into(), calls: 0, announced: 0 },
        ];
        let mut acts = Vec::new();
        callbacks(&snapshot, &mut acts);
        acts.into_iter().map(|act| format!("{}: {}", act.what, act.cure)).collect()
    }

    #[test]
    fn refused_callbacks_are_a_persons_matter_when_they_are_most_of_them() {
        use Arrival::Accepted;
        let [no_proof, wrong_secret, wrong_signature] =
            [Refusal::NoProof, Refusal::WrongSecret, Refusal::WrongSignature].map(Arrival::Refused);
        for (kinds, newest) in [
            (vec![(wrong_signature, 300), (no_proof, 21)], (0, 0)),
            (vec![(wrong_signature, 6), (Accepted, 5)], (50, 5)),
            // Five calls an hour: the list says that they were not announced.
            (vec![(wrong_secret, 1)], (2, 0)),
        ] {
            let acts = acts(&kinds, newest);
            let reason = kinds[0].0.as_str();
            assert_eq!(acts.len(), 1, "{kinds:?}");
            assert!(acts[0].contains(&format!("{reason} {}", kinds[0].1)), "{acts:?}");
            assert!(acts[0].contains(&format!(": {reason} differs; ")), "{acts:?}");
            let others_were_right = kinds.contains(&(Accepted, 5));
            assert_eq!(acts[0].contains("VOBIZ_AUTH_TOKEN"), others_were_right, "{acts:?}");
        }
        for (kinds, newest) in [
            (vec![(Accepted, 1000), (no_proof, 900)], (100, 90)),
            // A stranger asked, and nothing is listed.
            (vec![(no_proof, 4)], (0, 0)),
            (vec![(no_proof, 2)], (50, 45)),
            (vec![], (0, 0)),
        ] {
            assert_eq!(acts(&kinds, newest), Vec::<String>::new(), "{kinds:?}");
        }
    }

    #[test]
    fn refusals_whose_cause_is_gone_are_no_matter_any_more() {
        use Arrival::{Accepted, Refused};
        let [wrong_secret, no_proof, nobodys] =
            [Refusal::WrongSecret, Refusal::NoProof, Refusal::NoAccount].map(Refused);
        for (kinds, recent, said) in [
            (vec![(wrong_secret, 300), (Accepted, 9)], vec![], true),
            (vec![(wrong_secret, 300), (Accepted, 9)], vec![Accepted], false),
            (vec![(no_proof, 300), (Accepted, 9)], vec![Accepted, no_proof], true),
            (vec![(no_proof, 300), (Accepted, 9)], vec![Accepted, nobodys], false),
            (vec![(nobodys, 300), (Accepted, 309)], vec![], true),
            (vec![(nobodys, 300), (Accepted, 309)], vec![Accepted], false),
            (vec![(nobodys, 300), (Accepted, 309)], vec![Accepted, nobodys], true),
        ] {
            let acts = acts_after(&kinds, &recent, (10, 5));
            assert_eq!(acts.len(), usize::from(said), "{kinds:?} {recent:?} {acts:?}");
        }
    }

    #[test]
    fn calls_that_nothing_announces_are_said_once_they_are_no_chance() {
        assert!(acts(&[], (10, 0))[0].starts_with("no callback comes"));
        for (kinds, newest) in [(vec![], (9, 0)), (vec![], (10, 1)), (vec![(Arrival::Accepted, 1)], (10, 0))]
        {
            assert_eq!(acts(&kinds, newest).len(), 0, "{kinds:?} {newest:?}");
        }
    }

    #[test]
    fn calls_that_a_secret_proved_beyond_the_cap_are_said() {
        for over in [1, 3000] {
            let found = acts(&[(Arrival::Accepted, 4000), (Arrival::OverCap, over)], (10, 5));
            assert!(found.len() == 1 && found[0].starts_with(&format!("{over} callbacks")), "{found:?}");
        }
        assert_eq!(acts(&[(Arrival::Accepted, 4000)], (10, 5)).len(), 0);
    }

    #[test]
    fn calls_of_nobody_are_said() {
        let found = acts(&[(Arrival::Accepted, 20), (Arrival::Refused(Refusal::NoAccount), 15)], (10, 5));
        assert!(found.len() == 1 && found[0].starts_with("15 callbacks"), "{found:?}");
        assert_eq!(
            acts(&[(Arrival::Accepted, 40), (Arrival::Refused(Refusal::NoAccount), 15)], (10, 5)).len(),
            0
        );
    }
}
