//! CDRs on their way into the tables: every captured one comes back as it was written, to the last digit, and what
//! Postgres cannot hold becomes a note.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::AssertSqlSafe;
use vobiz_cdr::db::{Fault, cdr, fault};
use vobiz_cdr::vobiz::{CdrFields, HomeCountry, decode_list};

use crate::support::calls::{decode, incoming, plain, single};
use crate::support::database::Database;

const SINGLES: [&str; 9] = [
    "cdr_answered.json",
    "cdr_big_id_small_money.json",
    "cdr_disposition_answered.json",
    "cdr_null_keys_omitted.json",
    "cdr_short_call.json",
    "cdr_streaming.json",
    "cdr_trunk_outbound.json",
    "cdr_unanswered.json",
    "partner_cdr_single_bare.json",
];
const LISTS: [&str; 4] =
    ["cdr_list_page.json", "cdr_recent.json", "cdr_search_page.json", "partner_cdr_list.json"];

fn sample(name: &str) -> String {
    std::fs::read_to_string(format!("tests/data/vobiz/{name}")).unwrap()
}

/// The column of a key of Vobiz's.
fn column(key: &str) -> &str {
    match key {
        "id" => "vobiz_id",
        "uuid" => "call_id",
        key => key,
    }
}

/// Compares each stored row with its payload, both read by Postgres; the payload is an oracle that our decoder has not seen.
async fn columns_say_what_the_payload_says(db: &Database) {
    for key in CdrFields::KEYS.into_iter().chain(["uuid", "account_id"]) {
        let column = column(key);
        let kind = db
            .text(&format!(
                "select data_type from information_schema.columns
                 where table_schema = 'vobiz' and table_name = 'cdr' and column_name = '{column}'"
            ))
            .await;
        // Money is compared as text too: 0.30 is not 0.3.
        let differing = db
            .texts(&format!(
                "select concat_ws(' ', c.call_id, '{column}', c.{column}, r.payload->>'{key}')
                 from vobiz.cdr c join vobiz.cdr_revision r using (call_id)
                 where c.{column} is distinct from (r.payload->>'{key}')::{kind}
                    or '{kind}' = 'numeric' and c.{column}::text is distinct from r.payload->>'{key}'"
            ))
            .await;
        assert!(differing.is_empty(), "{differing:?}");
    }
    let noted = db.texts("select notes::text from vobiz.cdr where notes <> '{}'").await;
    assert!(noted.is_empty(), "{noted:?}");
}

#[tokio::test]
async fn every_captured_single_record_is_stored_as_it_was_written() {
    for name in SINGLES {
        let db = Database::new().await;
        let body = sample(name);
        let now = db.now().await;
        let done = db.upsert(&[&single(&body, now)]).await;
        assert_eq!((done.new, done.revised, done.unchanged), (1, 0, 0), "{name}");
        columns_say_what_the_payload_says(&db).await;
        let payload = db.text("select payload::text from vobiz.cdr_revision").await;
        assert_eq!(payload, decode(&body).payload.into_text(), "{name}: byte for byte");
        assert!(body.contains(&payload), "{name}: it is a piece of the answer");
        let billed = "select format('%s %s %s %s %s %s %s %s %s', account_id, updated_at, day_at, call_direction, duration,
                             billsec, cost, streaming_cost, total_cost) || currency || fetched_at || content_hash from vobiz.";
        let shown = db.text(&format!("{billed}cdr")).await;
        assert_eq!(
            db.text(&format!("{billed}cdr_revision")).await,
            shown,
            "{name}: the typed fields beside it"
        );
    }
}

#[tokio::test]
async fn every_captured_list_is_stored_as_it_was_written() {
    for name in LISTS {
        let db = Database::new().await;
        let now = db.now().await;
        let rows = decode_list(sample(name).as_bytes(), HomeCountry::INDIA).unwrap().rows;
        let rows: Vec<_> = rows.into_iter().map(|row| incoming(row.unwrap(), now, false)).collect();
        let done = db.upsert(&rows.iter().collect::<Vec<_>>()).await;
        assert_eq!(done.new, rows.len(), "{name}");
        columns_say_what_the_payload_says(&db).await;
        let sources = db.texts("select distinct source from vobiz.cdr_revision").await;
        assert_eq!(sources, ["list"], "{name}");
    }
}

#[tokio::test]
async fn money_is_kept_to_the_last_digit_and_numbers_are_as_wide_as_they_come() {
    let db = Database::new().await;
    let now = db.now().await;
    let body = sample("cdr_big_id_small_money.json");
    db.upsert(&[&single(&body, now)]).await;
    let money = "select concat_ws(' ', vobiz_id, cost, streaming_cost, total_cost) from vobiz.cdr";
    assert_eq!(db.text(money).await, "4294967299 0.285 0.0066666667 0.2916666667");

    let sixty = format!("0.{}", "1234567890".repeat(6));
    let body = format!(
        r#"{{"uuid":"wide","id":9223372036854775807,"cost":0.1234567890123456789012345678,"streaming_cost":{sixty},
            "total_cost":"1e200000","mos":-1E-3,"jitter":100000000000000000000.00,"duration":2147483648,"billsec":"42"}}"#
    );
    db.upsert(&[&single(&body, now)]).await;
    let row = "select concat_ws(' ', vobiz_id, cost, coalesce(streaming_cost::text, '-'), coalesce(total_cost::text, '-'),
                 mos, jitter, coalesce(duration::text, '-'), billsec) from vobiz.cdr where call_id = 'wide'";
    let expected =
        "9223372036854775807 0.1234567890123456789012345678 - - -0.001 100000000000000000000.00 - 42";
    assert_eq!(db.text(row).await, expected);
    let notes = db.texts("select unnest(notes) from vobiz.cdr where call_id = 'wide' order by 1").await;
    assert_eq!(notes[0], "duration: out of range: 2147483648");
    assert!(
        notes[1].starts_with("streaming_cost: more digits than can be kept exactly: 0.1234567890"),
        "{notes:?}"
    );
    assert_eq!(notes[2], "total_cost: more digits than can be kept exactly: \"1e200000\"");
    let kept = db.text("select payload::text from vobiz.cdr_revision where call_id = 'wide'").await;
    assert_eq!(kept, body, "the text is kept, whatever could be read of it");
}

#[tokio::test]
async fn what_text_cannot_hold_is_noted_and_kept_in_the_payload() {
    let db = Database::new().await;
    let now = db.now().await;
    let body = r#"{"uuid":"odd","caller_id_name":"a\u0000b","hangup_source":"x\ud800","codec":true,"currency":"\ud83d\ude00",
        "start_time":"yesterday","end_time":"0001-01-01T00:00:00Z","zone\u0000":"\u0000","stream":{"x":[1e400,"\udfff"]},
        "note \"{,}\"":"'\"\\{},","cost":1,"cost":2}"#;
    db.upsert(&[&single(body, now), &plain("clear", now)]).await;
    let row = "select concat_ws('|', caller_id_name, hangup_source, coalesce(codec, '-'), currency, cost) from vobiz.cdr where call_id = 'odd'";
    assert_eq!(db.text(row).await, "ab|x\u{fffd}|-|\u{1f600}|2");
    let mut notes = db.texts("select unnest(notes) from vobiz.cdr where call_id = 'odd'").await;
    notes.sort();
    assert_eq!(
        notes,
        [
            "caller_id_name: U+0000 was removed",
            "codec: not a text: true",
            "cost: given more than once, the last one counts",
            "end_time: no time: \"0001-01-01T00:00:00Z\"",
            "hangup_source: half a surrogate pair became U+FFFD",
            "start_time: not a time: \"yesterday\"",
        ]
    );
    assert_eq!(db.text("select payload::text from vobiz.cdr_revision where call_id = 'odd'").await, body);
    let extra = r#"{"zone\u0000":"\u0000","stream":{"x":[1e400,"\udfff"]},"note \"{,}\"":"'\"\\{},"}"#;
    assert_eq!(db.text("select extra::text from vobiz.cdr where call_id = 'odd'").await, extra);
    assert_eq!(
        db.text("select concat(extra::text, notes::text) from vobiz.cdr where call_id = 'clear'").await,
        "{}",
        "its neighbour has neither"
    );
    let day = db.count("select count(*) from vobiz.cdr where day_at = stored_at").await;
    assert_eq!(day, 2, "the billing instant is never null");
}

#[tokio::test]
async fn the_number_on_our_side_follows_the_direction() {
    let db = Database::new().await;
    let now = db.now().await;
    for (direction, ours, others) in [
        ("inbound", "+918012345678", "+919876543210"),
        ("outbound", "+919876543210", "+918012345678"),
        ("sideways", "-", "-"),
    ] {
        let body = format!(
            r#"{{"uuid":"{direction}","call_direction":"{direction}","caller_id_number":"09876543210","destination_number":"918012345678"}}"#
        );
        db.upsert(&[&single(&body, now)]).await;
        let row = format!(
            "select format('%s %s', coalesce(our_number, '-'), coalesce(other_number, '-')) from vobiz.cdr where call_id = '{direction}'"
        );
        assert_eq!(db.text(&row).await, format!("{ours} {others}"));
    }
}

#[tokio::test]
async fn a_group_may_hold_a_call_twice_and_in_any_order() {
    let db = Database::new().await;
    let now = db.now().await;
    let later = now + TimeDelta::seconds(1);
    let version = |call: &str, cost: &str, at| single(&format!(r#"{{"uuid":"{call}","cost":{cost}}}"#), at);
    let group =
        [version("b", "2", later), version("a", "1", now), version("b", "1", now), version("b", "2.0", now)];
    let done = db.upsert(&group.iter().collect::<Vec<_>>()).await;
    assert_eq!((done.new, done.revised, done.unchanged), (2, 0, 2));
    let rows = db.texts("select concat_ws(' ', call_id, cost, revision) from vobiz.cdr order by 1").await;
    assert_eq!(rows, ["a 1 1", "b 2 2"]);
    assert_eq!(db.upsert(&[]).await.new, 0, "an empty group is no error");
}

#[tokio::test]
async fn a_poison_row_is_a_fault_of_its_data_and_spoils_nothing_else() {
    let db = Database::new().await;
    let now = db.now().await;
    let deep = format!(r#"{{"uuid":"deep","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let poison = single(&deep, now);
    let mut connection = db.connection().await;
    let error = cdr::upsert(&mut connection, &[&plain("good", now), &poison]).await.unwrap_err();
    let code = error.as_database_error().unwrap().code().unwrap().into_owned();
    assert_eq!((code.as_str(), fault(&error)), ("54001", Fault::Data), "{error}");
    // The connection lives, and the rest of the group can be stored without it.
    cdr::upsert(&mut connection, &[&plain("good", now)]).await.unwrap();
    assert_eq!(db.texts("select distinct call_id from vobiz.cdr_revision").await, ["good"]);
}

#[tokio::test]
async fn faults_are_told_apart_by_what_postgres_says() {
    let db = Database::new().await;
    let old = db.now().await - TimeDelta::days(400);
    let error = cdr::upsert(&mut *db.connection().await, &[&plain("a", old)]).await.unwrap_err();
    assert_eq!(fault(&error), Fault::Ours, "a missing partition is no fault of the CDR: {error}");
    for (sql, expected) in [
        ("insert into vobiz.cdr_queue (call_id) values (null)", Fault::Data),
        ("update vobiz.setting set home_country = 'IN'", Fault::Data),
        ("select 1/0", Fault::Data),
        ("select 'x'::int", Fault::Data),
        ("do $$ begin raise sqlstate '40P01'; end $$", Fault::Retry),
        ("do $$ begin raise sqlstate '40001'; end $$", Fault::Retry),
        ("do $$ begin raise sqlstate '53100'; end $$", Fault::Ours),
        ("do $$ begin raise sqlstate '57P01'; end $$", Fault::Ours),
        ("select * from nowhere", Fault::Ours),
        ("set statement_timeout = 1; select pg_sleep(1)", Fault::Ours),
    ] {
        let error = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&db.pool).await.unwrap_err();
        assert_eq!(fault(&error), expected, "{sql}: {error}");
    }
    let nowhere = vobiz_cdr::db::connect("postgres://nobody@127.0.0.1:1/x", "test", 1).unwrap();
    let held = vobiz_cdr::db::acquire(&nowhere, Duration::from_millis(200)).await;
    assert_eq!(held.unwrap_err().fault(), Fault::Ours);
}
