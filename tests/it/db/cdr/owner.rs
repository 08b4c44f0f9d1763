//! Whose word counts where the lists of two accounts show one call.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::AssertSqlSafe;
use vobiz_cdr::db::cdr::{self, Incoming, Origin};
use vobiz_cdr::vobiz::AccountId;

use crate::support::calls::{DIFFERS_FROM_ITS_VERSIONS, decode};
use crate::support::database::{ACCOUNT, Database};

const SUB: &str = "SA_TESTCD34";

/// The sub-account's own list against its parent's, whichever comes first, however often, and whatever claims to be newer: amounts and owner
/// are those of its own list from the first time on that it was read.
#[tokio::test]
async fn a_call_is_what_the_list_of_its_own_sub_account_says() {
    // What each list says of the owner and of the last change.
    for (parents, own) in [
        ((Some(SUB), 0), (Some(SUB), 0)),
        ((Some(SUB), 30), (Some(SUB), 0)),
        ((Some(SUB), 30), (None, 0)),
        ((None, 0), (Some(SUB), 0)),
        ((Some(ACCOUNT), 0), (Some(SUB), 0)),
        ((Some(ACCOUNT), 30), (None, 0)),
        ((None, 0), (None, 0)),
    ] {
        for amount in ["0.90", "0.45"] {
            for first in [ACCOUNT, SUB] {
                let db = Database::new().await;
                db.run(&format!(
                    "insert into vobiz.account (account_id) values ('{SUB}') on conflict do nothing"
                ))
                .await;
                let now = db.now().await;
                let row = |nth: i64| {
                    let is_own = (nth % 2 == 0) == (first == SUB);
                    let (lister, (owner, minute), cost) =
                        if is_own { (SUB, own, "0.45") } else { (ACCOUNT, parents, amount) };
                    let owner = owner.map_or("null".to_owned(), |owner| format!("\"{owner}\""));
                    let body = format!(
                        r#"{{"uuid":"call","account_id":{owner},"updated_at":"2026-03-25T10:{minute:02}:00Z","total_cost":{cost},"cost":{cost},"currency":"INR"}}"#
                    );
                    let at = now + TimeDelta::seconds(nth);
                    Incoming::new(decode(&body), &AccountId::new(lister).unwrap(), Origin::Sweep, false, at)
                };
                let billed = "select concat_ws(' ', account_id, total_cost, listed_by) from vobiz.cdr";
                for nth in 0..6 {
                    db.upsert(&[&row(nth)]).await;
                    // A list of equal content changes nothing, so the parent may still stand there.
                    let found = db.text(billed).await;
                    let expected = format!("{SUB} 0.45");
                    assert!(
                        nth == 0 || found.starts_with(&expected),
                        "{parents:?} {own:?} {amount} {first} first, {nth}: {found}"
                    );
                }
                let versions = db.count("select count(*) from vobiz.cdr_revision").await;
                assert!(versions <= 3, "{parents:?} {own:?} {first}: {versions}");
                assert_eq!(db.count("select revision::bigint from vobiz.cdr").await, versions);
            }
        }
    }
}

/// What is no sub-account that is asked by itself has no list of its own.
#[tokio::test]
async fn without_a_list_of_its_own_the_newer_version_counts() {
    let db = Database::new().await;
    let now = db.now().await;
    for (nth, (owner, cost)) in [(SUB, "0.45"), (SUB, "0.90"), (SUB, "0.60")].into_iter().enumerate() {
        let nth = i64::try_from(nth).unwrap();
        let body = format!(
            r#"{{"uuid":"call","account_id":"{owner}","updated_at":"2026-03-25T10:{nth:02}:00Z","total_cost":{cost}}}"#
        );
        let at = now + TimeDelta::seconds(nth);
        let row = Incoming::new(decode(&body), &AccountId::new(ACCOUNT).unwrap(), Origin::Sweep, false, at);
        db.upsert(&[&row]).await;
        assert_eq!(
            db.text("select concat_ws(' ', account_id, total_cost) from vobiz.cdr").await,
            format!("{owner} {cost}")
        );
    }
}

/// What one of the two lists, or the record of one of the two accounts, says at some second.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
struct Word {
    is_own: bool,
    complete: bool,
    second: u32,
    /// Whom it names as the owner, if anybody.
    names: Option<&'static str>,
    has_direction: bool,
    has_escape: bool,
    is_updated: bool,
}

impl Word {
    /// Both change together, each four seconds; of money the parent's says something of its own.
    fn incoming(&self, now: DateTime<Utc>) -> Incoming {
        let (lister, cents) = if self.is_own { (SUB, 10) } else { (ACCOUNT, 50) };
        let state = self.second / 4;
        let mut fields = vec![
            r#""uuid":"call""#.to_owned(),
            format!(r#""total_cost":0.{}"#, cents + state),
            r#""start_time":"2026-03-25T10:00:00Z""#.to_owned(),
        ];
        fields.extend(self.names.map(|owner| format!(r#""account_id":"{owner}""#)));
        fields.extend(
            (self.has_direction || self.complete)
                .then(|| format!(r#""call_direction":"{}bound""#, ["in", "out"][state as usize % 2])),
        );
        // A list leaves keys out.
        fields.extend(self.complete.then(|| r#""mos":4.5"#.to_owned()));
        fields.extend(self.has_escape.then(|| r#""context":"a\\u0062""#.to_owned()));
        fields.extend(self.is_updated.then(|| format!(r#""updated_at":"2026-03-25T10:{state:02}:00Z""#)));
        let at = now + TimeDelta::seconds(self.second.into());
        let body = format!("{{{}}}", fields.join(","));
        let lister = AccountId::new(lister).unwrap();
        Incoming::new(decode(&body), &lister, Origin::Sweep, self.complete, at)
    }
}

fn words() -> impl Strategy<Value = Vec<Word>> {
    let word = (any::<[bool; 4]>(), 0..20u32, 0..3usize);
    (prop::collection::vec(word, 2..7), any::<bool>()).prop_map(|(words, is_updated)| {
        let word =
            |([is_own, complete, has_direction, has_escape], second, names): ([bool; 4], u32, usize)| Word {
                is_own,
                complete,
                second,
                // Its own names itself or nobody.
                names: [None, Some(SUB), Some(if is_own { SUB } else { ACCOUNT })][names],
                has_direction,
                has_escape,
                is_updated,
            };
        let mut words: Vec<Word> = words.into_iter().map(word).collect();
        words[0] =
            Word { is_own: true, names: words[0].names.filter(|name| *name == SUB), ..words[0].clone() };
        words
    })
}

/// Stores what was said in this order, in a transaction that is rolled back, and returns what is billed of the call.
async fn billed_after(db: &Database, now: DateTime<Utc>, words: &[&Word]) -> String {
    let mut transaction = db.pool.begin().await.unwrap();
    let mut own_spoke = false;
    for word in words {
        cdr::upsert(&mut transaction, &[&word.incoming(now)]).await.unwrap();
        own_spoke |= word.is_own;
        let owner: String = sqlx::query_scalar("select account_id from vobiz.cdr")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert!(!own_spoke || owner == SUB, "{words:?}");
        let differs: i64 =
            sqlx::query_scalar(DIFFERS_FROM_ITS_VERSIONS).fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(differs, 0, "the row is what its versions say: {words:?}");
    }
    let billed =
        "select concat_ws(' ', account_id, total_cost, call_direction, context, updated_at) from vobiz.cdr";
    let row: String = sqlx::query_scalar(AssertSqlSafe(billed)).fetch_one(&mut *transaction).await.unwrap();
    let (reparsed, _) = cdr::reparse::reparse(&mut transaction, None, None, 10, true).await.unwrap();
    assert_eq!(
        (reparsed.calls, reparsed.changed),
        (1, 0),
        "built anew, it is the same: {words:?} {reparsed:?}"
    );
    transaction.rollback().await.unwrap();
    row
}

#[test]
fn what_two_lists_say_of_a_call_ends_in_its_own_lists_row_in_any_order() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (db, now) = runtime.block_on(async {
        let db = Database::new().await;
        db.run(&format!("insert into vobiz.account (account_id) values ('{SUB}') on conflict do nothing"))
            .await;
        let now = db.now().await;
        (db, now)
    });
    let config = Config { cases: 48, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let orders = words().prop_flat_map(|words| (Just(words.clone()), Just(words).prop_shuffle()));
    TestRunner::new(config)
        .run(&orders, |(mut words, shuffled)| {
            words.sort_by_key(|word| word.second);
            let newest = words.iter().rfind(|word| word.is_own).map_or(0, |word| word.second / 4);
            let expected = runtime.block_on(billed_after(&db, now, &words.iter().collect::<Vec<_>>()));
            let start = format!("{SUB} 0.{}", 10 + newest);
            prop_assert!(expected.starts_with(&start), "{} of {}", expected, start);
            let found = runtime.block_on(billed_after(&db, now, &shuffled.iter().collect::<Vec<_>>()));
            prop_assert_eq!(&found, &expected, "{:?}", shuffled);
            Ok(())
        })
        .unwrap();
}
