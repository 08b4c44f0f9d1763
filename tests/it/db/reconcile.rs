//! Pairing our calls with those of a list: by id, else by numbers and start, and never by a guess.

use serde_json::json;
use sqlx::AssertSqlSafe;
use vobiz_cdr::reconcile::ReconcileRequest;
use vobiz_cdr::vobiz::AccountId;

use crate::support::database::{ACCOUNT, Database};
use crate::support::their_list::{HEADER, MAP, TABLE, days, kinds, plain, row, total};

#[tokio::test]
async fn a_table_is_matched_by_call_id_then_by_numbers_and_start() {
    let db = Database::new().await;
    db.store_plain("abcd").await;
    db.make_table(
        // By id, however far the start is off; by numbers, the id being their own; 61 seconds off; not readable.
        "('a', null, null, '2026-03-25 16:30', 42, '0.450', 'INR'),
         ('crm-1', '080 1234 5678', 919876543201, '2026-03-25 15:40:59.5', 41.5, '0.45', 'INR'),
         (null, '08012345678', 9876543202, '2026-03-25 15:51:01', 42, '0.45', 'INR'),
         (null, '08012345678', 9876543203, '2026-03-25 16:00', 42, '₹0.45', 'INR')",
    )
    .await;
    let (comparison, differences) = db.with_table(TABLE, MAP, &days("2026-03-25", "2026-03-25")).await;
    assert_eq!(
        kinds(&differences),
        ["differs b", "missing_there c", "missing_here Some(3)", "unreadable Some(4)", "missing_there d"]
    );
    assert_eq!(differences[0].fields().collect::<Vec<_>>(), [("billsec", Some("42"), Some("41.5"))]);
    assert_eq!((comparison.counts.equal, comparison.rows), (1, 4));

    let (_, differences) = db
        .with_table(TABLE, &format!("{MAP}\n[match]\ntolerance = \"61s\""), &ReconcileRequest::default())
        .await;
    assert_eq!(kinds(&differences), ["differs b", "unreadable Some(4)", "missing_there d"]);
}

#[tokio::test]
async fn where_two_calls_could_be_meant_none_is_chosen() {
    let db = Database::new().await;
    db.store_plain("abc").await;
    let mut again = plain('a');
    (again["uuid"], again["start_time"]) = (json!("a2"), json!("2026-03-25T10:00:30Z"));
    db.store(again).await;
    db.make_table(
        // The nearer one is not taken. Two rows for b; c is certain.
        "(null, '8012345678', 9876543200, '2026-03-25 15:30:01', 42, '0.45', 'INR'),
         ('x', '8012345678', 9876543201, '2026-03-25 15:40:10', 42, '0.45', 'INR'),
         ('y', '8012345678', 9876543201, '2026-03-25 15:40:20', 42, '0.45', 'INR'),
         (null, '8012345678', 9876543202, '2026-03-25 15:50:00', 42, '0.45', 'INR')",
    )
    .await;
    let (comparison, differences) = db.with_table(TABLE, MAP, &days("2026-03-25", "2026-03-25")).await;
    assert!(differences.iter().all(|difference| difference.kind == "ambiguous"), "{differences:?}");
    let counts = comparison.counts;
    assert_eq!((counts.ambiguous_here, counts.ambiguous_there, counts.equal), (3, 3, 1));
    assert_eq!((counts.missing_here, counts.missing_there, counts.differences()), (0, 0, 6));
    let why: Vec<_> = differences.iter().map(|difference| difference.why.clone().unwrap()).collect();
    assert!(why.contains(&"may be a or a2".to_owned()), "{why:?}");
    assert!(why.iter().any(|why| why.contains("x from 8012345678") && why.contains("or y from")), "{why:?}");

    // An id settles it.
    db.run(r#"update "My CRM"."Calls; drop" set "their id" = 'a' where callee = 9876543200"#).await;
    db.run(r#"delete from "My CRM"."Calls; drop" where "their id" = 'x'"#).await;
    let (_, differences) = db.with_table(TABLE, MAP, &days("2026-03-25", "2026-03-25")).await;
    assert_eq!(kinds(&differences), ["missing_there a2"]);
}

#[tokio::test]
async fn rows_of_several_batches_are_all_compared() {
    let db = Database::new().await;
    sqlx::query(AssertSqlSafe(format!(
        "insert into vobiz.cdr (call_id, account_id, start_time, billsec, total_cost, currency, listed_by, origin, attempts,
                                fetched_at, revision, content_hash)
         select 'call-' || n, '{ACCOUNT}', '2026-03-25Z'::timestamptz + n * interval '1 second', 42, 0.45, 'INR', '{ACCOUNT}',
                'sweep', 0, now(), 1, sha256('x')
         from generate_series(0, 4999) n"
    )))
    .execute(&db.pool)
    .await
    .unwrap();
    let rows = (0..5000).map(|n| {
        let at = format!("2026-03-25T{:02}:{:02}:{:02}Z", n / 3600, n / 60 % 60, n % 60);
        format!("call-{n},{at},42,0.45,INR\n")
    });
    let text = "uuid,start_time,billsec,total_cost,currency\n".to_owned() + &rows.collect::<String>();
    let (comparison, differences) = db.with_csv(&text, "UTC", &ReconcileRequest::default()).await;
    assert!(comparison.equal && differences.is_empty(), "{comparison:?}");
    assert_eq!(comparison.counts.equal, 5000);
    assert_eq!(total(&comparison, "billsec"), [Some("210000"), Some("210000"), Some("0")]);
}

#[tokio::test]
async fn a_row_that_names_its_account_is_a_call_of_that_account() {
    let db = Database::new().await;
    db.store_plain("a").await;
    // The same conversation at the account that was called, with the same numbers at the same time.
    let mut other = plain('a');
    (other["uuid"], other["account_id"]) = (json!("z"), json!("MA_OTHERXX1"));
    db.store(other).await;
    db.run(
        "create table public.legs (account text, caller text, callee text, at timestamptz, rupees numeric)",
    )
    .await;
    let map = "[columns]\naccount_id = \"account\"\nfrom = \"caller\"\nto = \"callee\"\nstarted_at = \"at\"\ntotal_cost = \"rupees\"";
    let leg = |account: &str| {
        format!(
            "insert into public.legs values ({account}, '8012345678', '9876543200', '2026-03-25 10:00Z', 0.45)"
        )
    };
    db.run(&leg(&format!("'{ACCOUNT}'"))).await;
    db.run(&leg("'MA_OTHERXX1'")).await;
    let one = |account: &str| ReconcileRequest {
        account: Some(AccountId::new(account).unwrap()),
        ..ReconcileRequest::default()
    };
    for asked in [ReconcileRequest::default(), one(ACCOUNT), one("MA_OTHERXX1")] {
        let (comparison, differences) = db.with_table("public.legs", map, &asked).await;
        assert!(comparison.equal, "{differences:?}");
    }
    // Without a name it may be either.
    db.run("update public.legs set account = null").await;
    let (_, differences) = db.with_table("public.legs", map, &ReconcileRequest::default()).await;
    assert!(differences.iter().all(|difference| difference.kind == "ambiguous"), "{differences:?}");
}

#[tokio::test]
async fn rows_that_name_two_accounts_for_one_call_contradict_each_other() {
    let db = Database::new().await;
    db.store_plain("ab").await;
    let other = "MA_OTHERXX1";
    let said =
        |name: char, account: &str, cost: &str| row(name).replace(ACCOUNT, account).replace("0.45", cost);
    let asked =
        ReconcileRequest { account: Some(AccountId::new(other).unwrap()), ..ReconcileRequest::default() };
    for cost in ["0.45", "0"] {
        // The first one is right, the second one charges another.
        let text = HEADER.to_owned()
            + &said('a', ACCOUNT, cost)
            + &said('b', ACCOUNT, "0.45")
            + &said('a', other, cost);
        for asked in [&ReconcileRequest::default(), &asked] {
            let (comparison, differences) = db.with_csv(&text, "UTC", asked).await;
            assert!(!comparison.equal);
            assert_eq!(kinds(&differences), ["repeated a"], "{differences:?}");
        }
    }
}
