//! What could not be read is shown, and counted wherever the bill is.

use proptest::prelude::*;
use vobiz_cdr::db::bill::rollup::{self, VerifyScope};

use super::{drift, fold};
use crate::support::calls::single;
use crate::support::database::{ACCOUNT, Database};

/// A record with these members besides a start, seconds and amounts of its own; `null` takes one away.
fn record(id: &str, members: &str) -> String {
    let usual = r#""call_direction":"outbound","start_time":"2026-03-10T05:00:00Z","end_time":"2026-03-10T05:02:00Z","duration":120,
                   "billsec":60,"cost":0.45,"streaming_cost":0,"total_cost":0.45,"currency":"INR""#;
    let said: Vec<&str> = members.split(',').filter_map(|member| member.split(':').next()).collect();
    let usual: Vec<&str> =
        usual.split(',').filter(|member| !said.iter().any(|key| member.trim().starts_with(key))).collect();
    format!(r#"{{"uuid":"{id}",{},{members}}}"#, usual.join(","))
}

async fn store(db: &Database, records: &[(&str, &str)]) {
    let now = db.now().await;
    for (id, members) in records {
        db.upsert(&[&single(&record(id, members), now)]).await;
    }
}

async fn shown(db: &Database) -> Vec<String> {
    db.texts(
        "select concat_ws(' | ', call_id, field, why, coalesce(came, '-'), case when billed then 'billed' end, case when lost then 'lost' end)
         from vobiz.unclear where day = '2026-03-10' order by call_id, field, why",
    )
    .await
}

/// Each figure of a view that counts what the bill cannot say.
async fn counted(db: &Database, view: &str) -> String {
    db.text(&format!(
        "select concat_ws(' ', sum(calls), sum(answered), sum(unanswered_with_cost), sum(without_cost), trim_scale(sum(credits)), sum(unclear))
         from vobiz.{view}"
    ))
    .await
}

#[tokio::test]
async fn what_cannot_be_read_is_shown_with_what_came_and_why() {
    let db = Database::new().await;
    store(
        &db,
        &[
            ("clear", r#""billsec":0,"total_cost":0.02"#),
            ("seconds-below-zero", r#""billsec":-5"#),
            ("seconds-by-the-clock", r#""billsec":"00:01:12""#),
            ("no-seconds", r#""billsec":null,"duration":null"#),
            ("amount-in-words", r#""total_cost":"abc""#),
            ("not-a-number", r#""cost":NaN"#),
            ("no-amount", r#""cost":null,"total_cost":null"#),
            ("no-currency", r#""currency":"null""#),
            ("odd-currency", r#""currency":"Credits""#),
            (
                "no-time",
                r#""start_time":"1970-01-01T00:00:00Z","end_time":null,"created_at":"2026-03-10T06:00:00Z""#,
            ),
            ("no-start", r#""start_time":"1970-01-01T00:00:00Z""#),
            ("said-twice", r#""cost":1,"cost":2,"caller_id_name":"\u0000""#),
            ("said-twice-alone", r#""cost":1,"cost":2"#),
            ("odd-quality", r#""mos":7"#),
            ("odd-name", r#""caller_id_name":"+919876543210\u0001""#),
            ("credit", r#""total_cost":-0.45"#),
        ],
    )
    .await;
    assert_eq!(
        shown(&db).await,
        [
            "amount-in-words | total_cost | not a number | \"abc\" | billed | lost",
            "no-currency | currency | no code of three letters | \"null\" | billed | lost",
            "no-seconds | billsec | not stated | - | billed | lost",
            "no-seconds | duration | not stated | - | billed | lost",
            "no-start | start_time | no time | \"1970-01-01T00:00:00Z\" | lost",
            "no-time | day_at | neither start nor end: billed by when the record was made | - | billed | lost",
            "no-time | start_time | no time | \"1970-01-01T00:00:00Z\" | lost",
            "not-a-number | cost | no JSON, taken as null | NaN | billed | lost",
            "odd-currency | currency | no code of three letters | \"Credits\"",
            // Who may look at this view may not see who called.
            "odd-name | caller_id_name | control characters are in it | -",
            "odd-quality | mos | more than 5 | 7 | lost",
            "said-twice | caller_id_name | U+0000 was removed | -",
            // Postgres reads no key of such a record.
            "said-twice | cost | given more than once, the last one counts | -",
            "said-twice-alone | cost | given more than once, the last one counts | 2",
            "seconds-below-zero | billsec | below zero | -5 | billed | lost",
            "seconds-by-the-clock | billsec | read as 72 seconds | \"00:01:12\"",
        ]
    );
    // Of the 16: all but the three without billsec or with 0 were answered, and nobody knows of the two.
    let figures = "16 13 1 2 -0.45 6";
    for view in [
        "billing_day",
        "billing_month",
        "billing_trunk",
        "billing_campaign",
        "billing_number",
        "billing_destination",
        "billing_region",
        "billing_hangup",
        "billing_sub_account",
    ] {
        assert_eq!(counted(&db, view).await, figures, "{view}");
    }
    assert_eq!(db.count("select count(distinct call_id) from vobiz.unclear where billed").await, 6);
    assert_eq!(db.count("select count(*) from vobiz.leg where unclear_fields <> '{}'").await, 6);
    assert_eq!(
        db.texts("select call_id from vobiz.cost_gap where total_cost is null and cost is null").await,
        ["no-amount"]
    );
    while fold(&db, 1000).await > 0 {}
    assert_eq!((counted(&db, "billing_day").await.as_str(), drift(&db).await), (figures, 0));
}

#[tokio::test]
async fn who_knows_no_seconds_knows_not_whether_it_was_answered() {
    let db = Database::new().await;
    // Three conversations: answered, not answered, and one of which nobody knows; a fourth whose second leg was answered.
    store(
        &db,
        &[
            ("yes", r#""billsec":60"#),
            ("no", r#""billsec":0,"hangup_cause":"ODD""#),
            ("nobody-knows", r#""billsec":-1,"total_cost":2"#),
            ("nobody-knows-but-busy", r#""billsec":"x","hangup_cause":"USER_BUSY""#),
            ("leg-a", r#""billsec":null,"bridge_uuid":"b""#),
            ("leg-b", r#""billsec":60,"bridge_uuid":"b""#),
        ],
    )
    .await;
    let answered = "select concat_ws(' ', conversation_id, coalesce(answered::text, 'unknown'), coalesce(effective::text, 'unknown'))
                    from vobiz.conversation order by 1";
    assert_eq!(
        db.texts(answered).await,
        [
            "b true true",
            "no false false",
            "nobody-knows unknown unknown",
            "nobody-knows-but-busy unknown true",
            "yes true true"
        ]
    );
    let traffic = "select concat_ws(' ', conversations, answered, answered_unknown, asr_percent, ner_percent, acd_seconds) from vobiz.traffic_day";
    // Two of the three of which it is known; three of four.
    assert_eq!(db.text(traffic).await, "5 2 2 66.67 75.00 60.0");
    let minutes = "select concat_ws(' ', answered, unanswered, answered_unknown, trim_scale(answered_unknown_cost)) from vobiz.cost_per_minute";
    assert_eq!(db.text(minutes).await, "2 1 3 1.35");
    // None of those without seconds is an unanswered call that cost money.
    let with_cost = "select sum(unanswered_with_cost)::text from vobiz.billing_day";
    assert_eq!(db.text(with_cost).await, "1");
    db.run("delete from vobiz.cdr where billsec is not null").await;
    assert_eq!(
        db.text(traffic).await.split_whitespace().take(3).collect::<Vec<_>>(),
        ["3", "0", "3"],
        "a ratio of nothing is none"
    );
    assert_eq!(drift(&db).await, 0);
}

#[tokio::test]
async fn sums_without_seconds_are_proved_and_repaired_like_others() {
    let db = Database::new().await;
    store(&db, &[("a", r#""billsec":-5"#), ("b", r#""billsec":null"#), ("c", r#""billsec":7"#)]).await;
    while fold(&db, 1000).await > 0 {}
    for table in ["rollup", "rollup_day"] {
        db.run(&format!(
            "update vobiz.{table} set unclear = unclear + 1, cost = cost + 1 where answered is null"
        ))
        .await;
    }
    let mut connection = db.connection().await;
    let found = rollup::verify(&mut connection, VerifyScope::default()).await.unwrap();
    assert_eq!(found.differences.len(), 1, "{found:?}");
    assert_eq!(found.differences[0].key.answered, None);
    rollup::repair(&mut connection, &found.differences, "test").await.unwrap();
    while fold(&db, 1000).await > 0 {}
    assert_eq!((counted(&db, "billing_day").await.as_str(), drift(&db).await), ("3 1 0 0 0 2", 0));
}

/// By hand as by a new version: whatever makes a call unclear moves the sums.
#[tokio::test]
async fn a_note_or_a_time_that_comes_or_goes_moves_the_sums() {
    let db = Database::new().await;
    store(&db, &[("a", r#""cost":0.5"#)]).await;
    for (change, unclear) in [
        ("streaming_cost = null", 0),
        ("notes = '{\"streaming_cost: not a number: \\\"x\\\"\"}'", 1),
        ("notes = '{\"mos: more than 5: 7\"}'", 0),
        ("start_time = null, end_time = null, created_at = '2026-03-10 05:00Z'", 1),
        ("end_time = '2026-03-10 05:00Z'", 0),
        ("duration = null", 1),
    ] {
        db.run(&format!("update vobiz.cdr set {change}")).await;
        assert_eq!(db.count("select sum(unclear)::bigint from vobiz.billing_day").await, unclear, "{change}");
        assert_eq!(drift(&db).await, 0, "{change}");
    }
}

#[tokio::test]
async fn a_day_is_looked_up_by_the_index_of_the_unclear() {
    let db = Database::new().await;
    store(&db, &[("a", r#""billsec":-5"#), ("b", r#""billsec":7"#)]).await;
    let plan = db
        .texts(&format!(
            "explain select count(*) from vobiz.unclear where day = '2026-03-10' and account_id = '{ACCOUNT}'"
        ))
        .await;
    assert!(plan.iter().any(|line| line.contains("cdr_unclear")), "{plan:#?}");
}

fn value() -> impl Strategy<Value = String> {
    let number = |number: String| number.parse::<f64>().map_or("0".into(), |number| number.to_string());
    prop_oneof![
        30 => Just("42".to_owned()),
        30 => Just("\"2026-03-10T04:00:00Z\"".to_owned()),
        1 => "-?[0-9]{1,4}(\\.[0-9]{1,3})?".prop_map(number),
        1 => "\"[a-z0-9:. -]{0,9}\"",
        1 => Just("null".to_owned()),
        1 => Just("true".to_owned()),
        1 => Just("NaN".to_owned()),
        1 => Just("\"1970-01-01T00:00:00Z\"".to_owned()),
    ]
}

/// Whatever comes: the calls that the view shows as the bill's are those that the bill counts, and a field of the bill that is NULL
/// although something came is never silent.
#[tokio::test]
async fn nothing_of_the_bill_that_was_not_read_is_silent() {
    let db = Database::new().await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = proptest::collection::vec(value(), 8);
    let now = db.now().await;
    for n in 0..150 {
        let values = proptest::strategy::ValueTree::current(&strategy.new_tree(&mut runner).unwrap());
        let keys = [
            "start_time",
            "end_time",
            "duration",
            "billsec",
            "cost",
            "streaming_cost",
            "total_cost",
            "currency",
        ];
        let of_its_kind = |key: &str, value: &str| match (value.starts_with("\"2026"), value == "42") {
            (true, _) if !key.ends_with("_time") => "42".to_owned(),
            (_, true) if key.ends_with("_time") => "\"2026-03-10T04:00:00Z\"".to_owned(),
            _ => value.to_owned(),
        };
        let members: Vec<String> = keys
            .iter()
            .zip(&values)
            .map(|(key, value)| format!("\"{key}\":{}", of_its_kind(key, value)))
            .collect();
        db.upsert(&[&single(&format!(r#"{{"uuid":"c{n}",{}}}"#, members.join(",")), now)]).await;
    }
    assert_eq!(drift(&db).await, 0);
    let counted = db.count("select sum(unclear)::bigint from vobiz.billing_day").await;
    assert!((20..140).contains(&counted), "{counted}");
    assert_eq!(db.count("select count(distinct call_id) from vobiz.unclear where billed").await, counted);
    let silent = "select count(*) from vobiz.cdr c
      cross join lateral (values ('duration', c.duration is null), ('billsec', c.billsec is null), ('cost', c.cost is null),
        ('streaming_cost', c.streaming_cost is null), ('total_cost', c.total_cost is null)) f (field, is_null)
      join vobiz.cdr_revision r on r.call_id = c.call_id and (r.payload -> f.field)::text <> 'null'
      where f.is_null and not exists (select from vobiz.unclear u where u.call_id = c.call_id and u.field = f.field and u.billed and u.lost)";
    assert_eq!(db.count(silent).await, 0);
}
