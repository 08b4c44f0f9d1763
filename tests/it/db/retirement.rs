//! The end of the promise for an account, and what is waited for after it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use vobiz_cdr::db::overview;
use vobiz_cdr::db::queue::dead_letter::Closing;
use vobiz_cdr::db::retirement::{self, NotRetired, Retired, Retirement};
use vobiz_cdr::vobiz::AccountId;

use crate::support::database::{ACCOUNT, Database};
use crate::support::wait::until_is;

async fn retire(database: &Database, id: &str, at: Option<DateTime<Utc>>) -> Result<Retired, NotRetired> {
    retire_with(database, id, at, false).await
}

async fn give_up(database: &Database) -> Result<Retired, NotRetired> {
    retire_with(database, ACCOUNT, None, true).await
}

async fn retire_with(
    database: &Database,
    id: &str,
    at: Option<DateTime<Utc>>,
    give_up: bool,
) -> Result<Retired, NotRetired> {
    let account = AccountId::new(id).unwrap();
    let closing = Closing { by: "asha", reason: "left" };
    let retirement = Retirement { account: &account, at, give_up, closing };
    retirement::retire(&mut *database.connection().await, retirement).await
}

const OWNERS: &str =
    "select concat_ws(' ', account_id, listed_by, retired_at is not null, held_by like 'it is retired%')
                      from vobiz.safe_to_bill order by account_id";

#[tokio::test]
async fn owners_that_only_its_list_shows_leave_with_it_unless_another_lists_them() {
    let database = Database::new().await;
    database
        .run(
            "insert into vobiz.account (account_id) values ('MA_STAYS');
             update vobiz.account set ledger_since = vobiz.now() - interval '3 days', registered_at = vobiz.now() - interval '3 days';
             insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time)
             select v.id, v.owner, v.list, 'sweep', 0, now(), 1, sha256('x'), vobiz.now() - interval '5 days'
             from (values ('c1', 'SA_ONE', 'MA_TESTAB12'), ('c2', 'SA_BOTH', 'MA_TESTAB12')) v (id, owner, list);
             insert into vobiz.listed_owner (account_id, owner) values ('MA_STAYS', 'SA_BOTH')",
        )
        .await;
    let done = retire(&database, ACCOUNT, None).await.unwrap();
    assert_eq!((done.given_up, done.calls_after), (0, 0), "nothing was settled, so nothing was promised");
    assert_eq!(
        database.texts(OWNERS).await,
        [
            "MA_STAYS MA_STAYS f f",
            "MA_TESTAB12 MA_TESTAB12 t t",
            "SA_BOTH MA_STAYS f f",
            "SA_ONE MA_TESTAB12 t t"
        ]
    );
    retire(&database, "MA_STAYS", None).await.unwrap();
    let all = database.texts(OWNERS).await;
    assert!(all.iter().all(|owner| owner.ends_with(" t t")), "{all:?}");
    // It stands still, however late it is asked.
    let stands = "select string_agg(safe_to::text, ' ' order by account_id) from vobiz.safe_to_bill";
    let before = database.text(stands).await;
    database.advance_clock(TimeDelta::days(40)).await;
    assert_eq!(database.text(stands).await, before);
}

#[tokio::test]
async fn a_retired_account_is_retired_once_more_and_no_later_and_what_comes_after_is_said() {
    let database = Database::new().await;
    database.run("update vobiz.account set ledger_since = vobiz.now() - interval '1 day'").await;
    let done = retire(&database, ACCOUNT, None).await.unwrap();
    assert_eq!(retire(&database, ACCOUNT, None).await.unwrap(), done);
    let later = retire(&database, ACCOUNT, Some(done.retired_at + TimeDelta::hours(1))).await.unwrap_err();
    assert!(
        matches!(&later, NotRetired::Unsettled { held_by, .. } if held_by.starts_with("it is retired")),
        "{later}"
    );
    // A process with old settings took a callback: somebody must know.
    database.owe(&["late-1", "late-2"], true).await;
    database.run("update vobiz.account set next_slot = vobiz.now() + interval '3 hours'").await;
    let thorough = overview::thorough(&mut *database.connection().await).await.unwrap();
    assert_eq!(thorough.owed.len(), 1);
    assert!(thorough.owed[0].retired);
    assert!(
        thorough.instants_ahead.is_empty(),
        "nobody writes its instants anew: {:?}",
        thorough.instants_ahead
    );
    assert!(matches!(retire(&database, ACCOUNT, None).await, Err(NotRetired::Owed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_let_go_of_some_at_a_time_and_what_comes_meanwhile_is_said() {
    for comes in [None, Some("call-0000")] {
        let database = Arc::new(Database::new().await);
        database.run("update vobiz.account set ledger_since = vobiz.now() - interval '1 day'").await;
        let ids: Vec<String> = (1..=1500).map(|number| format!("call-{number:04}")).collect();
        database.owe(&ids.iter().map(String::as_str).collect::<Vec<_>>(), true).await;
        // A callback for a call of the second thousand is about to be committed.
        let mut held = database.connection().await;
        sqlx::raw_sql("begin; select from vobiz.cdr_queue where call_id = 'call-1400' for update")
            .execute(&mut *held)
            .await
            .unwrap();
        let retiring = Arc::clone(&database);
        let retired = tokio::spawn(async move { give_up(&retiring).await });
        until_is("the first thousand is closed, and locked no more", 500, async || {
            database.count("select count(*) from vobiz.cdr_queue").await
        })
        .await;
        if let Some(call_id) = comes {
            database.owe(&[call_id], true).await;
        }
        sqlx::raw_sql("rollback").execute(&mut *held).await.unwrap();
        let done = retired.await.unwrap();
        assert_eq!(database.count("select count(*) from vobiz.closed_call").await, 1500);
        let is_retired = "select count(*) from vobiz.account where retired_at is not null";
        if comes.is_none() {
            assert_eq!(done.unwrap().given_up, 1500);
        } else {
            let refused = done.unwrap_err().to_string();
            assert!(refused.starts_with("1500 owed calls are given up"), "{refused}");
            assert!(refused.contains("the promise goes on") && refused.contains("1 call owed"), "{refused}");
            assert_eq!(database.count(is_retired).await, 0);
            assert_eq!(give_up(&database).await.unwrap().given_up, 1);
        }
        assert_eq!(database.count(is_retired).await, 1);
    }
}
