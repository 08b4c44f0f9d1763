//! What is done about a transaction that Postgres did not take, by its [`Fault`]: again after a conflict (`on_conflict!`), one by one
//! on bad data ([`OneByOne`]). Neither takes a closure that works on a borrowed connection: that would not be `Send` enough to be
//! spawned.

use tracing::debug;

use super::connection::DbError;
use super::fault::{Fault, fault};

/// A conflict is with another transaction that has gone its way meanwhile: a transaction that meets more of them than this meets
/// something else.
const TRIES: u32 = 5;

/// An error that knows what it means for the work at hand.
pub trait Faulty: std::fmt::Display {
    /// What the failure means for the work at hand.
    fn fault(&self) -> Fault;
}

impl Faulty for sqlx::Error {
    fn fault(&self) -> Fault {
        fault(self)
    }
}

impl Faulty for DbError {
    fn fault(&self) -> Fault {
        self.fault()
    }
}

/// Does a transaction, and does it again, at once, where Postgres broke it off for another one (serialisation failure, deadlock):
/// nothing of it happened then. `on_conflict!(future of a Result)` is a future of that result; what makes the inner one is written
/// out for each try.
macro_rules! on_conflict {
    ($transaction:expr) => {
        async {
            let mut tries = $crate::db::base::retry::Tries::default();
            loop {
                let result = $transaction.await;
                if !tries.call_for_another(&result) {
                    break result;
                }
            }
        }
    };
}
pub(crate) use on_conflict;

/// How often a transaction was tried; see `on_conflict!`.
#[derive(Debug, Default)]
pub struct Tries(u32);

impl Tries {
    /// Counts a try that ended so; whether the same again will do.
    pub fn call_for_another<T, E: Faulty>(&mut self, result: &Result<T, E>) -> bool {
        self.0 += 1;
        match result {
            Err(error) if error.fault() == Fault::Retry && self.0 < TRIES => {
                debug!(%error, tries = self.0, "a conflict: once more");
                true
            }
            _ => false,
        }
    }
}

/// A group that is committed in one transaction, and where that fails on data, member by member, so that the one at fault costs the
/// others nothing:
///
/// ```ignore
/// let mut parts = OneByOne::of(group);
/// while let Some(part) = parts.next() {
///     let result = commit(&part).await;
///     let Some((part, result)) = parts.unless_split(part, result) else { continue };
///     // The whole group, or one of its members.
/// }
/// ```
#[derive(Debug)]
pub struct OneByOne<M> {
    whole: Option<Vec<M>>,
    members: std::vec::IntoIter<M>,
}

impl<M> OneByOne<M> {
    /// Begins with the whole group.
    pub fn of(group: Vec<M>) -> Self {
        Self { whole: Some(group), members: Vec::new().into_iter() }
    }

    /// Gives back a part and how its commit ended; none if it was a group with bad data, whose members come next.
    pub fn unless_split<T, E: Faulty>(
        &mut self,
        part: Vec<M>,
        result: Result<T, E>,
    ) -> Option<(Vec<M>, Result<T, E>)> {
        match result {
            Err(error) if error.fault() == Fault::Data && part.len() > 1 => {
                debug!(%error, members = part.len(), "a group fails on data: one by one");
                self.members = part.into_iter();
                None
            }
            result => Some((part, result)),
        }
    }

    /// The members that were not tried.
    pub fn rest(self) -> Vec<M> {
        self.members.collect()
    }
}

/// What is to be committed next.
impl<M> Iterator for OneByOne<M> {
    type Item = Vec<M>;

    fn next(&mut self) -> Option<Vec<M>> {
        self.whole.take().or_else(|| self.members.next().map(|member| vec![member]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("{0:?}")]
    struct Failure(Fault);

    impl Faulty for Failure {
        fn fault(&self) -> Fault {
            self.0
        }
    }

    const RETRY: Result<u32, Failure> = Err(Failure(Fault::Retry));
    const DATA: Result<u32, Failure> = Err(Failure(Fault::Data));
    const OURS: Result<u32, Failure> = Err(Failure(Fault::Ours));

    #[tokio::test]
    async fn a_conflict_is_tried_again_and_nothing_else_is() {
        for (results, expected, tries) in [
            (vec![Ok(7)], Ok(7), 1),
            (vec![RETRY, Ok(7)], Ok(7), 2),
            (vec![RETRY, RETRY, RETRY, RETRY, Ok(7)], Ok(7), 5),
            (vec![RETRY, RETRY, RETRY, RETRY, RETRY, Ok(7)], RETRY, 5),
            (vec![DATA, Ok(7)], DATA, 1),
            (vec![OURS, Ok(7)], OURS, 1),
            (vec![RETRY, OURS, Ok(7)], OURS, 2),
        ] {
            let (mut results, mut tried) = (results.into_iter(), 0);
            let mut transaction = || {
                tried += 1;
                std::future::ready(results.next().unwrap())
            };
            let result = on_conflict!(transaction()).await;
            assert_eq!((result, tried), (expected, tries));
        }
    }

    /// Commits a group of numbers: a 0 is bad data, and at a 9 alone Postgres is away, which breaks off. Returns each part that was tried
    /// with how it ended, and what was not tried.
    fn commit_all(group: &[u32]) -> (Vec<(Vec<u32>, &'static str)>, Vec<u32>) {
        let mut tried = Vec::new();
        let mut parts = OneByOne::of(group.to_vec());
        while let Some(part) = parts.next() {
            let result = match &*part {
                [9] => OURS,
                part if part.contains(&0) => DATA,
                _ => Ok(7),
            };
            let Some((part, result)) = parts.unless_split(part, result) else {
                tried.push((group.to_vec(), "split"));
                continue;
            };
            let is_away = result == OURS;
            tried.push((part, if result.is_ok() { "ok" } else { "failed" }));
            if is_away {
                break;
            }
        }
        (tried, parts.rest())
    }

    #[test]
    fn a_group_is_one_commit_unless_its_data_is_bad() {
        assert_eq!(commit_all(&[1, 2]), (vec![(vec![1, 2], "ok")], vec![]));
        assert_eq!(commit_all(&[9]), (vec![(vec![9], "failed")], vec![]));
        assert_eq!(commit_all(&[]), (vec![(vec![], "ok")], vec![]));
    }

    #[test]
    fn of_bad_data_only_the_member_at_fault_fails() {
        let (tried, rest) = commit_all(&[1, 0, 2]);
        assert_eq!(tried, [(vec![1, 0, 2], "split"), (vec![1], "ok"), (vec![0], "failed"), (vec![2], "ok")]);
        assert!(rest.is_empty());
        // There is nobody to spare by trying it alone once more.
        assert_eq!(commit_all(&[0]), (vec![(vec![0], "failed")], vec![]));
    }

    #[test]
    fn what_was_not_tried_when_it_was_broken_off_is_left() {
        let (tried, rest) = commit_all(&[1, 9, 0, 2]);
        assert_eq!(tried, [(vec![1, 9, 0, 2], "split"), (vec![1], "ok"), (vec![9], "failed")]);
        assert_eq!(rest, [0, 2]);
    }
}
