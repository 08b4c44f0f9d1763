//! What a record says, in the tables: exact, or nothing with a note.

use chrono::{DateTime, TimeDelta, Utc};
use vobiz_cdr::vobiz::{HomeCountry, Single, decode_single};

use crate::support::calls::{DIFFERS_FROM_ITS_VERSIONS, listed, single};
use crate::support::database::Database;

#[tokio::test]
async fn amounts_are_stored_to_the_last_digit() {
    let db = Database::new().await;
    let now = db.now().await;
    let cost = "0.450000000000000011102230246251565404236316680908203125";
    let total = "0.01333333333333333333333333333";
    let large = "99999999999999999999999999999999999999.5";
    db.upsert(&[
        &single(
            &format!(
                r#"{{"uuid":"a","cost":{cost},"total_cost":{total},"streaming_cost":0.300,"currency":"INR"}}"#
            ),
            now,
        ),
        &listed(
            &format!(
                r#"{{"uuid":"b","cost":-0.45,"total_cost":{large},"streaming_cost":1e-29,"currency":"inr"}}"#
            ),
            now,
        ),
    ])
    .await;
    let amounts =
        "select concat_ws(' ', cost, streaming_cost, total_cost, currency, cardinality(notes)) from ";
    let expected = [
        format!("{cost} 0.300 {total} INR 0"),
        format!("-0.45 0.00000000000000000000000000001 {large} INR 0"),
    ];
    assert_eq!(db.texts(&format!("{amounts} vobiz.cdr order by call_id")).await, expected);
    assert_eq!(db.count("select count(*) from vobiz.cdr c join vobiz.cdr_revision r using (call_id, cost, streaming_cost, total_cost)").await, 2);
    assert_eq!(
        db.text("select sum(cost)::text from vobiz.billing_day").await,
        "0.000000000000000011102230246251565404236316680908203125"
    );
    // Built anew from its versions it is the same.
    db.upsert(&[&listed(
        r#"{"uuid":"a","codec":"PCMU","caller_id_name":"\\u0041"}"#,
        now + TimeDelta::seconds(1),
    )])
    .await;
    assert_eq!(db.texts(&format!("{amounts} vobiz.cdr order by call_id")).await, expected);
    assert_eq!(db.count(DIFFERS_FROM_ITS_VERSIONS).await, 0);
}

#[tokio::test]
async fn a_version_dated_in_the_future_keeps_no_correction_out() {
    let db = Database::new().await;
    let now = db.now().await;
    let version = |updated_at: DateTime<Utc>, cost: &str, seconds: i64| {
        let body =
            format!(r#"{{"uuid":"a","updated_at":"{}","total_cost":{cost}}}"#, updated_at.to_rfc3339());
        single(&body, now + TimeDelta::seconds(seconds))
    };
    // Ten years ahead, then half a day; and as it was meant.
    for (n, ahead) in [TimeDelta::days(3650), TimeDelta::hours(25)].into_iter().enumerate() {
        let n = i64::try_from(n).unwrap() * 10;
        db.upsert(&[&version(now + ahead, "0", n)]).await;
        db.upsert(&[&version(now, &format!("0.4{n}"), n + 1)]).await;
        assert_eq!(db.text("select total_cost::text from vobiz.cdr").await, format!("0.4{n}"), "{ahead}");
    }
    assert_eq!(db.count(DIFFERS_FROM_ITS_VERSIONS).await, 0);
    let dates = "select count(*) from vobiz.cdr_revision where updated_at > vobiz.now() + interval '1 day'";
    assert_eq!(db.count(dates).await, 0);
}

#[tokio::test]
async fn a_record_with_tokens_that_are_no_json_is_kept_and_known_again() {
    let db = Database::new().await;
    let now = db.now().await;
    let body = "{\"uuid\":\"a\",\"packet_loss\":NaN,\"caller_id_name\":\"J\nX\",\"x\":-Infinity,\"total_cost\":0.45}";
    assert!(matches!(decode_single(body.as_bytes(), HomeCountry::INDIA), Ok(Single::Cdr(_))));
    db.upsert(&[&single(body, now)]).await;
    for seconds in 1..4 {
        let done = db.upsert(&[&listed(body, now + TimeDelta::seconds(seconds))]).await;
        assert_eq!((done.new, done.revised), (0, 0));
    }
    assert_eq!(db.count("select count(*) from vobiz.cdr_revision").await, 1);
    assert_eq!(
        db.text("select payload::text || ' ' || (extra -> 'x' ->> 'not JSON') from vobiz.cdr_revision join vobiz.cdr using (call_id)").await,
        "{\"uuid\":\"a\",\"packet_loss\":{\"not JSON\":\"NaN\"},\"caller_id_name\":\"J\\u000aX\",\
         \"x\":{\"not JSON\":\"-Infinity\"},\"total_cost\":0.45} -Infinity"
    );
    assert_eq!(
        db.text("select array_to_string(notes, '; ') from vobiz.cdr").await,
        "packet_loss: no JSON, taken as null: NaN; caller_id_name: control characters are in it"
    );
}
