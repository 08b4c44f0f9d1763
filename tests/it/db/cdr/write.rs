//! CDRs on their way into the tables: every captured one comes back as it was written, to the last digit, and what

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use vobiz_cdr::db::cdr::{self, Incoming};
use vobiz_cdr::db::ledger::listed;
use vobiz_cdr::db::{Fault, fault};
use vobiz_cdr::vobiz::{CdrFields, HomeCountry, decode_list};

use crate::support::calls::{account, decode, incoming, plain, single};
use crate::support::database::Database;

fn sample(name: &str) -> String {
    std::fs::read_to_string(format!("tests/data/vobiz/{name}")).unwrap()
}

/// The samples of records as one is fetched, or of pages of a list.
fn samples(kind: &str) -> Vec<String> {
    let index: Vec<Value> = serde_json::from_str(&sample("index.json")).unwrap();
    let wanted = |entry: &&Value| {
        let of = entry["kind"].as_str().unwrap();
        of == kind || of.strip_prefix("partner_") == Some(kind)
    };
    let names: Vec<String> =
        index.iter().filter(wanted).map(|entry| entry["file"].as_str().unwrap().to_owned()).collect();
    assert!(names.len() >= 4, "{names:?}");
    names
}

/// The rows of a page of the list.
fn rows_of(page: &str, requested_at: DateTime<Utc>) -> Vec<Incoming> {
    let rows = decode_list(page.as_bytes(), HomeCountry::INDIA).unwrap().rows;
    rows.into_iter().map(|row| incoming(*row.unwrap(), requested_at, false)).collect()
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
    for name in samples("cdr_single") {
        let db = Database::new().await;
        let body = sample(&name);
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
    for name in samples("cdr_list").into_iter().filter(|name| name != "cdr_list_empty.json") {
        let db = Database::new().await;
        let rows = rows_of(&sample(&name), db.now().await);
        let done = db.upsert(&rows.iter().collect::<Vec<_>>()).await;
        assert_eq!(done.new, rows.len(), "{name}");
        columns_say_what_the_payload_says(&db).await;
        let sources = db.texts("select distinct source from vobiz.cdr_revision").await;
        assert_eq!(sources, ["list"], "{name}");
    }
}

#[tokio::test]
async fn no_column_is_empty_in_every_sample() {
    let db = Database::new().await;
    let now = db.now().await;
    let mut rows: Vec<Incoming> =
        samples("cdr_single").iter().map(|name| single(&sample(name), now).fetched(1, Some(now))).collect();
    for name in samples("cdr_list") {
        rows.extend(rows_of(&sample(&name), now));
    }
    db.upsert(&rows.iter().collect::<Vec<_>>()).await;
    let columns = "select column_name::text from information_schema.columns where table_schema = 'vobiz' and table_name = 'cdr'";
    for column in db.texts(columns).await {
        let filled = db.count(&format!("select count({column}) from vobiz.cdr")).await;
        assert!(
            filled > 0,
            "{column} is null in every sample: who takes it for another column is not found out"
        );
    }
}

/// The sample in which no two values are alike, beside them a key that is unknown and comes twice.
fn every_key() -> String {
    let body: Value = serde_json::from_str(&sample("cdr_every_key.json")).unwrap();
    let mut values: Vec<String> = body["data"].as_object().unwrap().values().map(Value::to_string).collect();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), CdrFields::KEYS.len() + 2, "each key has a value of its own");
    assert!(!values.iter().any(|value| value == "null"));
    decode(&sample("cdr_every_key.json")).payload.into_text().replacen('{', r#"{"odd":6,"odd":7,"#, 1)
}

#[tokio::test]
async fn every_column_holds_its_own_key_whichever_way_it_came() {
    let body = every_key();
    let page = format!(r#"{{"data":[{body}],"success":true}}"#);
    for (way, before, is_list) in [
        ("a fetched record", None, false),
        ("a row of a list", None, true),
        ("a record over an older one", Some(false), false),
        ("a row of a list over an older one", Some(true), true),
        ("a row of a list over an older record", Some(false), true),
    ] {
        let db = Database::new().await;
        let (now, announced) = (db.now().await, db.now().await - TimeDelta::minutes(5));
        if let Some(is_list) = before {
            let older = r#"{"uuid":"2c3d4e5f-6071-4283-84a5-b6c7d8e9f0a1","account_id":"SA_OLDER","cost":7}"#;
            let older = incoming(decode(older), now - TimeDelta::minutes(1), !is_list);
            db.upsert(&[&older.fetched(3, Some(announced))]).await;
        }
        let row = if is_list { rows_of(&page, now).remove(0) } else { single(&body, now) };
        let (hash, origin) = (hex::encode(row.content_hash), row.origin);
        db.upsert(&[&row.fetched(3, Some(announced))]).await;

        let payload: Value = serde_json::from_str(&body).unwrap();
        let stored: Value = serde_json::from_str(
            &db.text("select (to_jsonb(c) || jsonb_build_object('content_hash', encode(content_hash, 'hex')))::text from vobiz.cdr c")
                .await,
        )
        .unwrap();
        for key in CdrFields::KEYS.into_iter().chain(["uuid", "account_id"]) {
            let (is, said) = (&stored[column(key)], &payload[key]);
            match said.as_str().filter(|_| key.ends_with("_time") || key.ends_with("_at")) {
                Some(said) => assert_eq!(instant(is), instant(&json!(said)), "{way}: {key}"),
                None if said.is_f64() => assert_eq!(is.as_f64(), said.as_f64(), "{way}: {key}"),
                None => assert_eq!(is, said, "{way}: {key}"),
            }
        }
        let ours = json!({
            "listed_by": "MA_TESTAB12",
            "origin": if before == Some(false) { "callback" } else { origin.as_str() },
            "attempts": 3,
            "content_hash": hash,
            "caller_e164": "+919123400001",
            "destination_e164": "+918012300002",
            "our_number": "+918012300002",
            "other_number": "+919123400001",
            "extra": {"odd": 7},
            "notes": ["odd: given more than once, the last one counts"],
            "revision": if before.is_some() { 2 } else { 1 },
        });
        for (column, expected) in ours.as_object().unwrap() {
            assert_eq!(&stored[column], expected, "{way}: {column}");
        }
        assert_eq!(instant(&stored["first_callback_at"]), announced, "{way}");
        assert_eq!(instant(&stored["fetched_at"]), now, "{way}");
        assert_eq!(stored["day_at"], stored["start_time"], "{way}");
    }
}

fn instant(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_the_check_of_a_day_notes_of_a_list_is_what_the_list_says() {
    let db = Database::new().await;
    let body = every_key();
    let (first, again) =
        (decode(r#"{"uuid":"2c3d4e5f-6071-4283-84a5-b6c7d8e9f0a1","cost":7}"#), decode(&body));
    let day = again.fields.start_time.unwrap().date_naive();
    for row in [&first, &again] {
        listed::note(&mut *db.connection().await, &account(), day, &[row]).await.unwrap();
    }
    let payload: Value = serde_json::from_str(&body).unwrap();
    let stored: Value =
        serde_json::from_str(&db.text("select to_jsonb(l)::text from vobiz.listed_call l").await).unwrap();
    let mut compared = 0;
    for (column, is) in stored.as_object().unwrap() {
        let Some(said) = payload.get(if column == "owner" { "account_id" } else { column }) else { continue };
        match said.as_str().filter(|_| column.ends_with("_time") || column.ends_with("_at")) {
            Some(said) => assert_eq!(instant(is), instant(&json!(said)), "{column}"),
            None if column == "account_id" => assert_eq!(is, "MA_TESTAB12", "the one that was asked"),
            None => assert_eq!(is.to_string(), said.to_string(), "{column}"),
        }
        compared += 1;
    }
    assert_eq!(compared, 13, "{stored}");
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
            "total_cost":"1e200000","mos":1E-3,"jitter":100000000000000000000.00,"duration":2147483648,"billsec":"42"}}"#
    );
    db.upsert(&[&single(&body, now)]).await;
    let row = "select concat_ws(' ', vobiz_id, cost, coalesce(streaming_cost::text, '-'), coalesce(total_cost::text, '-'),
                 mos, jitter, coalesce(duration::text, '-'), billsec) from vobiz.cdr where call_id = 'wide'";
    let expected = format!(
        "9223372036854775807 0.1234567890123456789012345678 {sixty} - 0.001 100000000000000000000.00 - 42"
    );
    assert_eq!(db.text(row).await, expected);
    let notes = db.texts("select unnest(notes) from vobiz.cdr where call_id = 'wide' order by 1").await;
    assert_eq!(notes[0], "duration: out of range: 2147483648");
    assert_eq!(notes[1], "total_cost: more digits than can be kept exactly: \"1e200000\"");
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
            "currency: no code of three letters: \"😀\"",
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
