//! Our calls beside another's list: each kind of difference is found once, nothing else is, and nothing is guessed.

mod dialect;

use futures_util::TryStreamExt;
use serde_json::json;
use vobiz_cdr::db::reconcile::{self as rows, Closeness};
use vobiz_cdr::reconcile::{self, Map, ReconcileError, ReconcileRequest, Wrong};
use vobiz_cdr::vobiz::AccountId;

use crate::support::database::{ACCOUNT, Database};
use crate::support::their_list::rows;
use crate::support::their_list::{EXPORT, HEADER, days, kinds, plain, row, total};

#[tokio::test]
async fn an_export_equals_the_calls_it_was_made_of() {
    let db = Database::new().await;
    let mut reader = csv::Reader::from_path(EXPORT).unwrap();
    let header = reader.headers().unwrap().clone();
    for record in reader.records() {
        let record = record.unwrap();
        let fields = header.iter().zip(&record).filter(|(_, value)| !value.is_empty());
        db.store(fields.map(|(key, value)| (key.to_owned(), json!(value))).collect()).await;
    }
    let export = std::fs::read_to_string(EXPORT).unwrap();
    let (comparison, differences) = db.with_csv(&export, "UTC", &ReconcileRequest::default()).await;
    assert!(comparison.equal && differences.is_empty(), "{comparison:?} {differences:?}");
    assert_eq!((comparison.counts.calls_here, comparison.counts.equal), (3, 3));
    assert_eq!(
        comparison.accounts.as_deref(),
        Some(&["MA_TESTAB12".to_owned(), "MA_XXXXXXXX".to_owned()][..])
    );
    assert_eq!(comparison.compared, rows::FIELDS);
    assert_eq!(total(&comparison, "total_cost"), [Some("0.75"), Some("0.75"), Some("0")]);
}

#[tokio::test]
async fn each_kind_of_difference_is_found_once_and_nothing_else() {
    let db = Database::new().await;
    db.store_plain("abcdef").await;
    // a is equal in another spelling, b costs more, c is missing here, d leaves seconds and the total blank, e cannot be read, f is not there.
    let text = format!(
        "{HEADER}{ACCOUNT},a,2026-03-25 10:00:00Z,47.0,42,0.4500,-,0.45,INR\n{}{}{ACCOUNT},d,,NULL,null,0.45,,,INR\n{}",
        row('b').replace("0.45,INR", "0.5,INR"),
        row('c').replace(",c,", ",nobody,"),
        row('e').replace("0.45,0", "0;45,0"),
    );
    let text = text + &row('f').replace("10:50", "11:50").replace(",f,", ",later,");
    let (comparison, differences) = db.with_csv(&text, "UTC", &ReconcileRequest::default()).await;
    assert_eq!(
        kinds(&differences),
        [
            "differs b",
            "missing_here nobody",
            "missing_there c",
            "differs d",
            "unreadable e",
            "missing_there f",
            "missing_here later"
        ]
    );
    assert_eq!(differences[0].fields().collect::<Vec<_>>(), [("total_cost", Some("0.45"), Some("0.5"))]);
    assert_eq!(
        differences[3].fields().collect::<Vec<_>>(),
        [("duration", Some("47"), None), ("billsec", Some("42"), None), ("total_cost", Some("0.45"), None)]
    );
    assert_eq!(differences[4].why.as_deref(), Some("cost: not a number: \"0;45\""));
    assert_eq!(differences[4].line, Some(6));
    let counts = comparison.counts;
    assert!(!comparison.equal);
    assert_eq!((counts.calls_here, counts.calls_there, counts.equal), (6, 6, 1));
    assert_eq!((counts.missing_here, counts.missing_there), (2, 2));
    assert_eq!((counts.differing, counts.unreadable, counts.differences()), (2, 1, 7));
    assert_eq!(total(&comparison, "calls"), [Some("6"), Some("6"), Some("0")]);
    assert_eq!(total(&comparison, "total_cost"), [Some("2.7"), Some("2.3"), Some("0.4")]);
}

#[tokio::test]
async fn an_empty_list_proves_nothing_where_we_hold_calls() {
    let db = Database::new().await;
    let header = std::fs::read_to_string("tests/data/vobiz/export_header_only.csv").unwrap();
    for nothing in ["", &header] {
        assert!(!db.with_csv(nothing, "UTC", &ReconcileRequest::default()).await.0.equal, "without days");
        assert!(db.with_csv(nothing, "UTC", &days("2026-03-25", "2026-03-25")).await.0.equal, "nor have we");
    }
    db.store_plain("a").await;
    for nothing in ["", &header] {
        let (comparison, differences) = db.with_csv(nothing, "UTC", &days("2026-03-25", "2026-03-25")).await;
        assert!(!comparison.equal);
        assert_eq!(kinds(&differences), ["missing_there a"]);
        assert!(db.with_csv(nothing, "UTC", &days("2026-03-26", "2026-03-26")).await.0.equal);
    }
}

#[tokio::test]
async fn a_call_twice_in_the_file_is_one_call_that_is_charged_twice() {
    let db = Database::new().await;
    db.store_plain("ab").await;
    let text = rows("aabab") + &row('a').replace("0.45", "0.450");
    let (comparison, differences) = db.with_csv(&text, "UTC", &ReconcileRequest::default()).await;
    assert!(!comparison.equal);
    assert_eq!(kinds(&differences), ["charged_twice a", "charged_twice b"]);
    assert_eq!(differences[0].why.as_deref(), Some("charged again in line 3, 5, 7"));
    assert_eq!(comparison.charged_twice, ["a", "b"]);
    assert_eq!((comparison.counts.calls_there, comparison.counts.repeated), (2, 4));
    assert_eq!((total(&comparison, "cost")[1], total(&comparison, "calls")[1]), (Some("2.7"), Some("2")));

    // What charges nothing may be said as often as one likes.
    let ids = "uuid,start_time\na,2026-03-25T10:00:00Z\na,2026-03-25T10:00:00Z\nb,2026-03-25T10:10:00Z\n";
    let (comparison, differences) = db.with_csv(ids, "UTC", &ReconcileRequest::default()).await;
    assert!(comparison.equal && comparison.charged_twice.is_empty(), "{differences:?}");
    assert_eq!(comparison.counts.repeated, 1);

    let (comparison, differences) = db
        .with_csv(&(rows("aba") + &row('a').replace(",42,", ",41,")), "UTC", &ReconcileRequest::default())
        .await;
    assert_eq!(kinds(&differences), ["repeated a"]);
    assert_eq!(differences[0].why.as_deref(), Some("said differently in line 4, 5"));
    assert_eq!((comparison.counts.contradicting, comparison.counts.repeated), (1, 0));

    // What cannot be read is said, but beside a row that can it makes no call missing or doubtful.
    let (_, differences) = db
        .with_csv(&(rows("ab") + &row('a').replace(",42,", ",x,")), "UTC", &ReconcileRequest::default())
        .await;
    assert_eq!(kinds(&differences), ["unreadable a"]);
}

#[tokio::test]
async fn days_and_accounts_limit_both_sides() {
    let db = Database::new().await;
    db.store_plain("ab").await;
    // The last moment of 24 March in India, and the first of the 26th.
    for (name, at) in [("eve", "2026-03-24T18:29:59Z"), ("morrow", "2026-03-25T18:30:00Z")] {
        let mut call = plain('a');
        (call["uuid"], call["start_time"]) = (json!(name), json!(at));
        db.store(call).await;
    }
    let mut other = plain('b');
    (other["uuid"], other["account_id"]) = (json!("other"), json!("MA_OTHERXX1"));
    db.store(other).await;

    let (comparison, differences) = db.with_csv(&rows("ab"), "UTC", &days("2026-03-25", "2026-03-25")).await;
    assert!(comparison.equal, "another account's calls are no matter of this file: {differences:?}");
    assert_eq!(comparison.from.unwrap().to_rfc3339(), "2026-03-24T18:30:00+00:00");
    let (_, differences) = db.with_csv(&rows("ab"), "UTC", &days("2026-03-24", "2026-03-26")).await;
    assert_eq!(kinds(&differences), ["missing_there eve", "missing_there morrow"]);
    // A row of theirs on another day is left out, unless the call is one of ours on this day.
    let text = rows("a")
        + &row('b').replace("2026-03-25", "2026-03-27")
        + &row('c').replace("2026-03-25", "2026-03-27");
    let (comparison, differences) = db.with_csv(&text, "UTC", &days("2026-03-25", "2026-03-25")).await;
    assert!(comparison.equal, "{differences:?}");
    assert_eq!((comparison.counts.equal, comparison.counts.left_out), (2, 1));

    let text = rows("ab") + &row('c').replace(ACCOUNT, "MA_OTHERXX1");
    let one =
        ReconcileRequest { account: Some(AccountId::new(ACCOUNT).unwrap()), ..ReconcileRequest::default() };
    let (comparison, _) = db.with_csv(&text, "UTC", &one).await;
    assert!(comparison.equal && comparison.counts.left_out == 1, "{comparison:?}");
    let (_, differences) = db.with_csv(&text, "UTC", &ReconcileRequest::default()).await;
    assert_eq!(kinds(&differences), ["missing_there other", "missing_here c"]);
}

#[tokio::test]
async fn times_without_a_zone_are_taken_in_the_zone_that_was_said() {
    let db = Database::new().await;
    db.store_plain("ab").await;
    let text = "uuid,start_time\na,2026-03-25 15:30:00\nc,2026-03-25 15:45:00\n";
    let (_, differences) = db.with_csv(text, "Asia/Kolkata", &ReconcileRequest::default()).await;
    assert_eq!(kinds(&differences), ["missing_there b", "missing_here c"]);
    assert_eq!(differences[1].called_at.unwrap().to_rfc3339(), "2026-03-25T10:15:00+00:00");
    let (comparison, _) = db.with_csv(text, "UTC", &days("2026-03-25", "2026-03-25")).await;
    assert!(comparison.compared.is_empty());

    let mut connection = db.connection().await;
    let india = ReconcileRequest { zone: Some("India".into()), ..ReconcileRequest::default() };
    let wrong = reconcile::with_csv(&mut connection, text.as_bytes(), &india).await;
    assert!(matches!(wrong, Err(ReconcileError::Wrong(Wrong::Zone(_)))));
    let wrong = reconcile::with_csv(&mut connection, &b"uuid\na\n"[..], &ReconcileRequest::default()).await;
    assert!(matches!(wrong, Err(ReconcileError::Wrong(Wrong::NoTimes))), "{wrong:?}");
    // Where nobody says one, it is the billing zone.
    let billing =
        reconcile::with_csv(&mut connection, text.as_bytes(), &ReconcileRequest::default()).await.unwrap();
    assert_eq!(billing.from.unwrap().to_rfc3339(), "2026-03-25T10:00:00+00:00");
    let facts = billing.file.unwrap();
    assert_eq!((facts.zoneless, facts.zone), (2, Some(("Asia/Kolkata".to_owned(), "the billing zone"))));
    let headed = text.replace("start_time", "Start Time (UTC)");
    let headed =
        reconcile::with_csv(&mut connection, headed.as_bytes(), &ReconcileRequest::default()).await.unwrap();
    assert_eq!(headed.from.unwrap().to_rfc3339(), "2026-03-25T15:30:00+00:00");
    assert_eq!(headed.file.unwrap().zone, Some(("UTC".to_owned(), "the heading")));

    let unreadable =
        reconcile::with_csv(&mut connection, &b"uuid\n?\n"[..], &ReconcileRequest::default()).await;
    assert!(!unreadable.unwrap().equal);
}

#[tokio::test]
async fn a_table_is_only_read_and_only_where_it_matters() {
    let db = Database::new().await;
    db.store_plain("a").await;
    db.run(
        "create table public.calls (uuid text, at timestamptz, cost numeric);
         insert into public.calls values ('a', '2026-03-25 10:00Z', 0.45), ('old', '2020-01-01', 1), ('timeless', null, 1);
         create function public.trap() returns text language plpgsql as
           $$ begin insert into public.calls values ('trap'); return 'a'; end $$;
         create view public.trapped as select public.trap() as uuid, now() as at",
    )
    .await;
    let map = "[columns]\ncall_id = \"uuid\"\nstarted_at = \"at\"\ncost = \"cost\"";
    let (comparison, differences) =
        db.with_table("public.calls", map, &days("2026-03-25", "2026-03-25")).await;
    assert_eq!(comparison.rows, 2, "a row of other years does not come over");
    assert_eq!(kinds(&differences), ["missing_here timeless"]);

    let mut connection = db.connection().await;
    let map = Map::read("[columns]\ncall_id = \"uuid\"\nstarted_at = \"at\"").unwrap();
    let trapped =
        reconcile::with_table(&mut connection, "public.trapped", &map, &ReconcileRequest::default())
            .await
            .unwrap_err();
    assert!(trapped.to_string().contains("read-only transaction"), "{trapped}");
    for (table, word) in [
        ("calls", "there is no table"),
        ("public.nothing", "there is no table"),
        ("public.calls\" union select", "there is no table"),
        ("vobiz.setting", "has no column uuid, at; it has only_row, billing_zone, home_country"),
    ] {
        let wrong = reconcile::with_table(&mut connection, table, &map, &ReconcileRequest::default())
            .await
            .unwrap_err();
        assert!(matches!(wrong, ReconcileError::Wrong(_)), "{wrong:?}");
        assert!(wrong.to_string().contains(word), "{wrong}");
    }
    assert_eq!(db.count("select count(*) from public.calls").await, 3);
}

#[tokio::test]
async fn the_comparison_agrees_with_a_plain_one_over_random_lists() {
    use rand::RngExt as _;

    let db = Database::new().await;
    let names: Vec<char> = ('a'..='t').collect();
    db.store_plain(&names.iter().step_by(2).chain(&['b', 'd']).collect::<String>()).await;
    let ours: Vec<String> = db.texts("select call_id from vobiz.cdr order by 1").await;
    let mut connection = db.connection().await;
    for _ in 0..20 {
        let (mut text, mut expected) = (HEADER.to_owned(), Vec::new());
        for name in &names {
            let held = ours.contains(&name.to_string());
            match rand::rng().random_range(0..5) {
                0 if held => expected.push(format!("missing_there {name}")),
                0 => {}
                1 => {
                    text += &row(*name).replace(",42,", ",7,");
                    expected.push(format!("{} {name}", if held { "differs" } else { "missing_here" }));
                }
                2 => {
                    text += &row(*name).replace(",42,", ",forty,");
                    expected.push(format!("unreadable {name}"));
                }
                _ => {
                    text += &row(*name);
                    expected.extend((!held).then(|| format!("missing_here {name}")));
                }
            }
        }
        let asked = days("2026-03-25", "2026-03-25");
        let comparison = reconcile::with_csv(&mut connection, text.as_bytes(), &asked).await.unwrap();
        let found: Vec<_> = rows::differences(&mut connection, None).try_collect().await.unwrap();
        assert_eq!(kinds(&found), expected, "{text}");
        assert_eq!(comparison.equal, expected.is_empty());
    }
}

#[tokio::test]
async fn records_with_one_uuid_are_told_apart_by_their_number() {
    let db = Database::new().await;
    for (id, cost) in [(7, "0.45"), (8, "0.30")] {
        let mut call = plain('a');
        (call["id"], call["total_cost"]) = (json!(id), json!(cost));
        db.store(call).await;
    }
    assert_eq!(db.texts("select call_id from vobiz.cdr order by 1").await, ["a", "a~8"]);
    let text = |more: &str, last: &str| {
        let at = "2026-03-25T10:00:00Z";
        format!("uuid,id,start_time,total_cost\na,7,{at},0.45\na{more},8,{at},{last}\n")
    };
    for (more, last, differing) in
        [("", "0.30", vec![]), ("~8", "0.30", vec![]), ("", "0.45", vec!["differs a~8"])]
    {
        let (comparison, differences) =
            db.with_csv(&text(more, last), "UTC", &ReconcileRequest::default()).await;
        assert_eq!(
            (kinds(&differences), comparison.counts.calls_there),
            (differing.iter().map(ToString::to_string).collect(), 2)
        );
    }
}

#[tokio::test]
async fn amounts_are_the_same_if_they_are_as_near_as_was_asked() {
    let db = Database::new().await;
    db.store_plain("ab").await;
    let text = rows("a") + &row('b').replace(",0.45,INR", ",0.454,INR");
    let near = |decimals: Option<u8>, tolerance: Option<&str>| ReconcileRequest {
        closeness: Closeness { decimals, tolerance: tolerance.map(|text| text.parse().unwrap()) },
        ..ReconcileRequest::default()
    };
    for (decimals, tolerance, equal) in [
        (None, None, false),
        (Some(2), None, true),
        (Some(3), None, false),
        (None, Some("0.004"), true),
        (None, Some("0.0039"), false),
        (Some(3), Some("0.004"), true),
    ] {
        let (comparison, differences) = db.with_csv(&text, "UTC", &near(decimals, tolerance)).await;
        assert_eq!(comparison.equal, equal, "{decimals:?} {tolerance:?} {differences:?}");
        if !equal {
            assert_eq!(
                differences[0].fields().collect::<Vec<_>>(),
                [("total_cost", Some("0.45"), Some("0.454"))]
            );
        }
    }
    // Seconds are whole, and a difference beside one that is near enough is alone.
    let text = rows("a") + &row('b').replace(",42,0.45,", ",41,0.454,");
    let (_, differences) = db.with_csv(&text, "UTC", &near(Some(0), Some("5"))).await;
    assert_eq!(differences[0].fields().collect::<Vec<_>>(), [("billsec", Some("42"), Some("41"))]);
}

/// The word for each row that is not equal, by the name of its call.
async fn words(db: &Database, text: &str) -> (bool, Vec<String>) {
    let (comparison, found) = db.with_csv(text, "UTC", &ReconcileRequest::default()).await;
    let words = found.into_iter().map(|one| format!("{} {}", one.kind, one.call_id.unwrap_or_default()));
    (comparison.equal, words.collect())
}

#[tokio::test]
async fn two_records_of_one_uuid_are_not_said_twice_where_we_have_one() {
    let db = Database::new().await;
    let mut call = plain('a');
    call["id"] = json!(7);
    db.store(call).await;
    db.store_plain("b").await;
    let both = "uuid,id,start_time,total_cost\na,7,2026-03-25T10:00:00Z,0.45\na,9,2026-03-25T10:00:00Z,0.45\nb,8,2026-03-25T10:10:00Z,0.45\n";
    assert_eq!(words(&db, both).await, (false, vec!["missing_here a~9".to_owned()]));
    // Whatever else a column `id` may number: where a call is once in the list, it is that call.
    let once =
        "uuid,id,start_time,total_cost\na,1,2026-03-25T10:00:00Z,0.45\nb,2,2026-03-25T10:10:00Z,0.45\n";
    assert_eq!(words(&db, once).await, (true, vec![]));
}

#[tokio::test]
async fn rows_without_a_time_count_where_nobody_named_days() {
    let db = Database::new().await;
    db.store_plain("abc").await;
    let list = |row: &str| {
        format!(
            "uuid,start_time,total_cost\na,2026-03-25T10:00:00Z,0.45\nb,2026-03-25T10:10:00Z,0.45\n{row}\n"
        )
    };
    for (row, word) in [
        ("c,,99", "differs c"),
        ("c,1970-01-01 00:00:00,99", "differs c"),
        ("c,2099-03-25 16:20:00,99", "differs c"),
        ("c,2026-03-25 16:20:00 Nowhere,99", "unreadable c"),
    ] {
        let (equal, words) = words(&db, &list(row)).await;
        assert!(!equal && words == [word], "{row}: {words:?}");
    }
    assert_eq!(words(&db, &list("c,,0.45")).await, (true, vec![]));
}

#[tokio::test]
async fn rows_above_a_second_header_are_rows() {
    let db = Database::new().await;
    db.store_plain("ab").await;
    let list = "uuid,start_time,total_cost\nzzz,2026-03-25T10:00:00Z,9.99\nuuid,start_time,billsec,total_cost\na,2026-03-25T10:00:00Z,42,0.45\n";
    let (equal, words) = words(&db, list).await;
    assert!(!equal && words.contains(&"missing_here zzz".to_owned()), "{words:?}");
}
