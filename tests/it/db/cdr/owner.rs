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
const OTHER_SUB: &str = "SA_TESTEF56";

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
    /// Who was asked.
    lister: &'static str,
    complete: bool,
    second: u32,
    /// Whom it names as the owner, if anybody.
    names: Option<&'static str>,
    /// What the call costs by it; both may say the same.
    cents: u32,
    has_cost: bool,
    has_direction: bool,
    has_escape: bool,
    is_updated: bool,
    /// The account is retired before it comes.
    retired: bool,
}

impl Word {
    /// What is said changes each four seconds.
    fn state(&self) -> u32 {
        self.second / 4
    }

    fn incoming(&self, now: DateTime<Utc>) -> Incoming {
        let lister = AccountId::new(self.lister).unwrap();
        let state = self.state();
        let mut fields = vec![
            r#""uuid":"call""#.to_owned(),
            format!(r#""state":{state}"#),
            r#""start_time":"2026-03-25T10:00:00Z""#.to_owned(),
        ];
        let mut say = |is_said: bool, field: String| fields.extend(is_said.then_some(field));
        say(self.names.is_some(), format!(r#""account_id":"{}""#, self.names.unwrap_or_default()));
        // A list leaves keys out.
        let is_said = |drawn: bool| drawn || self.complete;
        say(is_said(self.has_cost), format!(r#""total_cost":0.{}"#, self.cents));
        let direction = ["in", "out"][state as usize % 2];
        say(is_said(self.has_direction), format!(r#""call_direction":"{direction}bound""#));
        say(self.complete, r#""mos":4.5"#.to_owned());
        say(self.has_escape, r#""context":"a\\u0062""#.to_owned());
        say(self.is_updated, format!(r#""updated_at":"2026-03-25T10:{state:02}:00Z""#));
        let at = now + TimeDelta::seconds(self.second.into());
        let body = format!("{{{}}}", fields.join(","));
        Incoming::new(decode(&body), &lister, Origin::Sweep, self.complete, at)
    }
}

fn words() -> impl Strategy<Value = Vec<Word>> {
    let word = (any::<[bool; 5]>(), 0..20u32, 0..3usize, 0..4usize);
    let cents = any::<[[bool; 5]; 3]>();
    (prop::collection::vec(word, 2..7), any::<bool>(), cents).prop_map(|(words, is_updated, cents)| {
        let word = |(drawn, second, lister, names): ([bool; 5], u32, usize, usize)| {
            let [complete, has_cost, has_direction, has_escape, retired] = drawn;
            // Of one list, and one state, there is one amount.
            let is_dear = cents[lister][second as usize / 4];
            Word {
                lister: [ACCOUNT, SUB, OTHER_SUB][lister],
                complete,
                second,
                names: [None, Some(ACCOUNT), Some(SUB), Some(OTHER_SUB)][names],
                cents: if is_dear { 90 } else { 45 },
                has_cost,
                has_direction,
                has_escape,
                is_updated,
                retired,
            }
        };
        words.into_iter().map(word).collect()
    })
}

impl Word {
    fn is_own(&self) -> bool {
        self.lister.starts_with("SA_") && self.names.is_none_or(|name| name == self.lister)
    }
}

const BILLED: &str = "concat_ws(' ', account_id, total_cost, call_direction, updated_at)";

/// Stores what was said in this order, in a transaction that is rolled back, and returns what is billed of the call.
async fn billed_after(db: &Database, now: DateTime<Utc>, words: &[&Word]) -> String {
    let mut transaction = db.pool.begin().await.unwrap();
    let mut own_spoke = false;
    let mut was: Vec<(u32, String)> = Vec::new();
    for word in words {
        let retire =
            "update vobiz.account set retired_at = case when $1 then vobiz.now() end where account_id = $2";
        sqlx::query(retire).bind(word.retired).bind(SUB).execute(&mut *transaction).await.unwrap();
        cdr::upsert(&mut transaction, &[&word.incoming(now)]).await.unwrap();
        own_spoke |= word.is_own();
        let billed: String = sqlx::query_scalar(AssertSqlSafe(format!("select {BILLED} from vobiz.cdr")))
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert!(!own_spoke || billed.starts_with("SA_"), "{billed}: {words:?}");
        was.push((word.second, billed));
        let differs: i64 =
            sqlx::query_scalar(DIFFERS_FROM_ITS_VERSIONS).fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(differs, 0, "the row is what its versions say: {words:?}");
    }
    // What came in its time is known for each moment.
    if words.is_sorted_by_key(|word| word.second) {
        for (nth, (second, billed)) in was.iter().enumerate() {
            if was.get(nth + 1).is_some_and(|(next, _)| next == second) {
                continue;
            }
            let at = now + TimeDelta::milliseconds(i64::from(*second) * 1000 + 500);
            let then: String =
                sqlx::query_scalar(AssertSqlSafe(format!("select {BILLED} from vobiz.cdr_as_of($1)")))
                    .bind(at)
                    .fetch_one(&mut *transaction)
                    .await
                    .unwrap();
            assert_eq!(&then, billed, "after second {second} of {words:?}");
        }
    }
    // What the first version said and the changes since are what is billed.
    if words.is_sorted_by_key(|word| word.second) {
        let differs: i64 = sqlx::query_scalar(
            "select count(*) from vobiz.cdr c
             cross join lateral (select max(x.\"is\") as \"is\" from (
               select x.\"is\" from vobiz.cdr_change x where x.call_id = c.call_id and x.field = 'total_cost' order by x.changed_at desc, x.revision desc limit 1) x) x
             where x.\"is\" is not null and x.\"is\"::numeric is distinct from c.total_cost",
        )
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
        assert_eq!(differs, 0, "the last change leads to what is billed: {words:?}");
    }
    let shown = format!("select {BILLED} || coalesce(context, '') from vobiz.cdr");
    let row: String = sqlx::query_scalar(AssertSqlSafe(shown)).fetch_one(&mut *transaction).await.unwrap();
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
fn what_two_lists_say_of_a_call_ends_in_one_row_in_any_order() {
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
            let expected = runtime.block_on(billed_after(&db, now, &words.iter().collect::<Vec<_>>()));
            // What its own list says of the amount last is billed.
            let of_one = words
                .iter()
                .all(|word| word.lister != OTHER_SUB && (word.is_own() || word.lister == ACCOUNT));
            let own = words.iter().rfind(|word| word.is_own());
            if let Some(own) = own.filter(|own| of_one && (own.has_cost || own.complete)) {
                let start = format!("{SUB} 0.{}", own.cents);
                prop_assert!(expected.starts_with(&start), "{} of {}", expected, start);
            }
            let found = runtime.block_on(billed_after(&db, now, &shuffled.iter().collect::<Vec<_>>()));
            prop_assert_eq!(&found, &expected, "{:?}", shuffled);
            Ok(())
        })
        .unwrap();
}
