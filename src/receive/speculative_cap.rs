//! How many speculative calls an account may owe in a minute.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::db::queue::enqueue::Owed;
use crate::vobiz::AccountId;

/// Announcements of calls that are not new, for each new one that an account may owe in a minute: a repeat owes nothing, and costs a
/// lock on a row, which is written down.
const ANNOUNCED_PER_NEW: u32 = 10;

/// At most so many new speculative calls a minute and account: a flood of forged ids must not eat the API quota. What is proven (a leg,
/// a contact of a campaign) has a count of its own, which no stranger can use up.
pub(super) struct SpeculativeCap {
    per_minute: u32,
    taken: HashMap<(AccountId, bool), TakenInMinute>,
}

struct TakenInMinute {
    since: Instant,
    new: u32,
    announced: u32,
}

impl SpeculativeCap {
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute, taken: HashMap::new() }
    }

    pub(super) fn take(&mut self, account: &AccountId, is_proven: bool, now: Instant) -> bool {
        let anew = TakenInMinute { since: now, new: 0, announced: 0 };
        let taken = self.taken.entry((account.clone(), is_proven)).or_insert(anew);
        if now.duration_since(taken.since) >= Duration::from_secs(60) {
            *taken = TakenInMinute { since: now, new: 0, announced: 0 };
        }
        let free = taken.new < self.per_minute
            && taken.announced < self.per_minute.saturating_mul(ANNOUNCED_PER_NEW);
        taken.new += u32::from(free);
        taken.announced += u32::from(free);
        free
    }

    /// Only new calls count: what was owed or stored already costs no further request.
    pub(super) fn refund<'a>(
        &mut self,
        announced: impl Iterator<Item = (&'a Owed, bool)>,
        new: &[String],
        now: Instant,
    ) {
        let mut new: HashSet<&str> = new.iter().map(String::as_str).collect();
        for (owed, is_proven) in announced {
            if !new.remove(owed.call_id.as_str())
                && let Some(taken) = self.of(owed, is_proven, now)
            {
                taken.new = taken.new.saturating_sub(1);
            }
        }
    }

    /// What was not committed has cost nothing: else an outage would use up the cap, and the repeats be answered 200 without being owed.
    pub(super) fn give_back<'a>(&mut self, announced: impl Iterator<Item = (&'a Owed, bool)>, now: Instant) {
        for (owed, is_proven) in announced {
            if let Some(taken) = self.of(owed, is_proven, now) {
                taken.new = taken.new.saturating_sub(1);
                taken.announced = taken.announced.saturating_sub(1);
            }
        }
    }

    fn of(&mut self, owed: &Owed, is_proven: bool, now: Instant) -> Option<&mut TakenInMinute> {
        let taken = self.taken.get_mut(&(owed.account_id.clone(), is_proven))?;
        (now.duration_since(taken.since) < Duration::from_secs(60)).then_some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_is_per_account_proof_and_minute() {
        let mut cap = SpeculativeCap::new(2);
        let (one, two) = (AccountId::new("MA_1").unwrap(), AccountId::new("MA_2").unwrap());
        let start = Instant::now();
        let mut take = |account, is_proven, now| cap.take(account, is_proven, now);
        assert!(take(&one, false, start) && take(&one, false, start) && !take(&one, false, start));
        assert!(take(&two, false, start) && take(&one, true, start) && take(&one, true, start));
        assert!(!take(&one, true, start) && !take(&one, false, start));
        assert!(take(&one, false, start + Duration::from_secs(60)));
    }
}
