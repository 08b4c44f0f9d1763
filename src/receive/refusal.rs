//! Refusals: counted, logged once a minute per reason, and a few of them kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::watch::arrivals::Refusal;

const MINUTE: Duration = Duration::from_secs(60);
/// Refused callbacks kept in the log a minute, over all reasons.
const SAMPLE: u32 = 20;

impl Refusal {
    /// The consequence for the callback, for the log.
    fn consequence(self) -> &'static str {
        match self {
            Self::NoProof | Self::WrongSecret | Self::WrongSignature | Self::Replayed => {
                "callback refused (403)"
            }
            Self::WrongPath => "callback to an unknown path (404)",
            Self::NoAccount => "callback logged, but its call is not owed",
        }
    }

    /// The reason in words, with the cure where there is one.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::NoProof => "no signature and no secret path",
            Self::WrongSecret => {
                "the secret in the path is not ours, or another account's than the callback is of"
            }
            Self::WrongSignature => {
                "no signature matches, or none of the account that it names: check CDR_CALLBACK_URL and VOBIZ_AUTH_TOKEN"
            }
            Self::Replayed => "its nonce was used for another call",
            Self::WrongPath => "at Vobiz, write …/callbacks/vobiz, or that with the secret behind it",
            Self::NoAccount => {
                "it names no configured account: add it to the accounts, or name it in the path"
            }
        }
    }
}

#[derive(Debug, Default)]
struct Minute {
    began: Option<Instant>,
    kept: u32,
    by_reason: HashMap<Refusal, u64>,
}

/// Counts of the refusals of the present minute.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Minute>);

impl Refusals {
    /// Counts a refusal, logs it if it is the first of its reason in this minute, and says whether to keep it in the sample.
    pub(super) fn count(&self, reason: Refusal, now: Instant) -> bool {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.began.is_none_or(|began| now.duration_since(began) >= MINUTE) {
            for (reason, count) in minute.by_reason.drain().filter(|(_, count)| *count > 1) {
                warn!(reason = reason.in_words(), count, "{}: so many in that minute", reason.consequence());
            }
            *minute = Minute { began: Some(now), ..Minute::default() };
        }
        let count = minute.by_reason.entry(reason).or_default();
        *count += 1;
        if *count == 1 {
            let consequence = reason.consequence();
            warn!(reason = reason.in_words(), "{consequence}; more of it within a minute is only counted");
        }
        if matches!(reason, Refusal::WrongPath | Refusal::NoAccount) {
            return false;
        }
        minute.kept += 1;
        minute.kept <= SAMPLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_sample_is_kept() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let kept = (0..1000).filter(|_| refusals.count(Refusal::NoProof, now)).count();
        assert_eq!(kept, 20);
        assert!(refusals.count(Refusal::NoProof, now + MINUTE));
    }
}
