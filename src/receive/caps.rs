//! How many calls that are cheap to announce an account may owe in a minute: speculative ones, and certain ones by a secret alone.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::db::queue::enqueue::Owed;
use crate::vobiz::{AccountId, Proof};

const MINUTE: Duration = Duration::from_secs(60);
/// Announcements of speculative calls that are not new, for each new one that an account may owe in a minute: a repeat owes nothing, and
/// costs a lock on a row, which is written down.
const ANNOUNCED_PER_NEW: u32 = 10;

/// What a call is counted as. Each has a count of its own, so that who can announce one kind uses up no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Certain by a secret alone, which whoever knows it can write onto any call.
    CertainBySecret,
    /// Speculative, and a signature proves it: a leg, a contact of a campaign.
    SpeculativeSigned,
    /// Speculative, by a secret: also what was one certain call too many.
    SpeculativeBySecret,
    /// Speculative, and nobody proved it.
    SpeculativeUnproven,
}

impl Kind {
    /// None for what a signature makes certain: of these there is no bound.
    fn of(owed: &Owed, proof: Proof) -> Option<Self> {
        match (owed.certain, proof) {
            (true, _) => owed.by_secret.then_some(Self::CertainBySecret),
            (false, Proof::None) => Some(Self::SpeculativeUnproven),
            // A trunk's signature may be made with a secret, too.
            (false, Proof::Secret | Proof::Trunk) => Some(Self::SpeculativeBySecret),
            (false, _) => Some(Self::SpeculativeSigned),
        }
    }
}

/// What a call has become by the caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WithinCaps {
    /// As it was announced.
    All,
    /// It was certain by a secret alone, and is speculative now.
    Speculative,
    /// It is not owed.
    LeftToSweep,
}

/// At most so many new calls of a kind a minute and account: a flood of forged ids must not eat the API quota.
pub(super) struct Caps {
    speculative: u32,
    by_secret: u32,
    taken: HashMap<(AccountId, Kind), TakenInMinute>,
}

struct TakenInMinute {
    since: Instant,
    new: u32,
    announced: u32,
}

impl Caps {
    /// New speculative calls, and new certain calls by a secret alone, that an account may owe in a minute.
    pub(super) fn new(speculative: u32, by_secret: u32) -> Self {
        Self { speculative, by_secret, taken: HashMap::new() }
    }

    /// Counts a call, and makes it what it may be.
    pub(super) fn take(&mut self, owed: &mut Owed, proof: Proof, now: Instant) -> WithinCaps {
        let Some(kind) = Kind::of(owed, proof) else { return WithinCaps::All };
        if self.has_room(&owed.account_id, kind, now) {
            return WithinCaps::All;
        }
        if kind != Kind::CertainBySecret {
            return WithinCaps::LeftToSweep;
        }
        (owed.certain, owed.by_secret) = (false, false);
        match Kind::of(owed, proof) {
            Some(kind) if !self.has_room(&owed.account_id, kind, now) => WithinCaps::LeftToSweep,
            _ => WithinCaps::Speculative,
        }
    }

    fn has_room(&mut self, account: &AccountId, kind: Kind, now: Instant) -> bool {
        let (new, announced) = match kind {
            // A repeat of what is certain is never made less than that.
            Kind::CertainBySecret => (self.by_secret, u32::MAX),
            _ => (self.speculative, self.speculative.saturating_mul(ANNOUNCED_PER_NEW)),
        };
        let anew = || TakenInMinute { since: now, new: 0, announced: 0 };
        let taken = self.taken.entry((account.clone(), kind)).or_insert_with(anew);
        if now.duration_since(taken.since) >= MINUTE {
            *taken = anew();
        }
        let free = taken.new < new && taken.announced < announced;
        taken.new += u32::from(free);
        taken.announced += u32::from(free);
        free
    }

    /// Only new calls count: what was owed or stored already costs no further request.
    pub(super) fn refund<'a>(
        &mut self,
        announced: impl Iterator<Item = (&'a Owed, Proof)>,
        new: &[String],
        now: Instant,
    ) {
        let mut new: HashSet<&str> = new.iter().map(String::as_str).collect();
        for (owed, proof) in announced {
            if !new.remove(owed.call_id.as_str())
                && let Some(taken) = self.of(owed, proof, now)
            {
                taken.new = taken.new.saturating_sub(1);
            }
        }
    }

    /// What was not committed has cost nothing: else an outage would use up the cap, and the repeats be answered 200 without being owed.
    pub(super) fn give_back<'a>(&mut self, announced: impl Iterator<Item = (&'a Owed, Proof)>, now: Instant) {
        for (owed, proof) in announced {
            if let Some(taken) = self.of(owed, proof, now) {
                taken.new = taken.new.saturating_sub(1);
                taken.announced = taken.announced.saturating_sub(1);
            }
        }
    }

    fn of(&mut self, owed: &Owed, proof: Proof, now: Instant) -> Option<&mut TakenInMinute> {
        let taken = self.taken.get_mut(&(owed.account_id.clone(), Kind::of(owed, proof)?))?;
        (now.duration_since(taken.since) < MINUTE).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vobiz::CallId;

    fn call(account: &str, certain: bool, by_secret: bool) -> Owed {
        Owed {
            call_id: CallId::new("a").unwrap(),
            account_id: AccountId::new(account).unwrap(),
            account_proven: false,
            other_account: None,
            certain,
            by_secret,
            hurries: false,
            sip_call_id: None,
        }
    }

    #[test]
    fn the_cap_is_per_account_kind_and_minute() {
        let (mut caps, start) = (Caps::new(2, 1), Instant::now());
        let mut speculative = |account, proof, now| caps.take(&mut call(account, false, false), proof, now);
        for (account, proof) in [
            ("MA_1", Proof::None),
            ("MA_2", Proof::None),
            ("MA_1", Proof::Secret),
            ("MA_1", Proof::V3),
            ("MA_2", Proof::Campaign),
        ] {
            for within in [WithinCaps::All, WithinCaps::All, WithinCaps::LeftToSweep] {
                assert_eq!(speculative(account, proof, start), within, "{account} {proof}");
            }
        }
        assert_eq!(speculative("MA_1", Proof::None, start + MINUTE), WithinCaps::All);
    }

    #[test]
    fn certain_calls_by_a_secret_become_speculative_and_use_up_no_other_cap() {
        let (mut caps, now) = (Caps::new(2, 1), Instant::now());
        for (within, certain) in [
            (WithinCaps::All, true),
            (WithinCaps::Speculative, false),
            (WithinCaps::Speculative, false),
            (WithinCaps::LeftToSweep, false),
        ] {
            let mut owed = call("MA_1", true, true);
            assert_eq!(caps.take(&mut owed, Proof::Trunk, now), within);
            assert_eq!((owed.certain, owed.by_secret), (certain, certain));
        }
        for _ in 0..100 {
            assert_eq!(caps.take(&mut call("MA_1", true, false), Proof::V3, now), WithinCaps::All);
        }
        assert_eq!(caps.take(&mut call("MA_1", false, false), Proof::V3, now), WithinCaps::All);
        assert_eq!(caps.take(&mut call("MA_1", false, false), Proof::None, now), WithinCaps::All);
    }

    #[test]
    fn what_is_not_new_makes_room_for_what_is_and_what_was_not_committed_has_cost_nothing() {
        let (mut caps, now) = (Caps::new(1, 1), Instant::now());
        for (owed, proof, repeats) in [
            (call("MA_1", true, true), Proof::Secret, 100),
            (call("MA_1", false, false), Proof::None, ANNOUNCED_PER_NEW),
        ] {
            for _ in 0..repeats {
                assert_eq!(caps.take(&mut owed.clone(), proof, now), WithinCaps::All);
                caps.give_back([(&owed, proof)].into_iter(), now);
                assert_eq!(caps.take(&mut owed.clone(), proof, now), WithinCaps::All);
                caps.refund([(&owed, proof)].into_iter(), &[], now);
            }
        }
        let mut owed = call("MA_1", false, false);
        assert_eq!(caps.take(&mut owed, Proof::None, now), WithinCaps::LeftToSweep, "so many repeats");
    }
}
