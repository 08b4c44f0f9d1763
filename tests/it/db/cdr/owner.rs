//! Whose word counts where the lists of two accounts show one call.

use chrono::TimeDelta;
use vobiz_cdr::db::cdr::{Incoming, Origin};
use vobiz_cdr::vobiz::AccountId;

use crate::support::calls::decode;
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
