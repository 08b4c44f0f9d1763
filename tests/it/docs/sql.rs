//! Every ```sql block of the pages runs as it stands, on calls made over as the page of the bill says, and what must add up does.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::pages;
use crate::support::calls::single;
use crate::support::database::Database;

/// What stands in a block for something that differs from place to place, and what is put there.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("MA_XXXXXXXX", "MA_DEMO"),
    ("$__timeFrom()", "'2026-11-05T00:00:00Z'"),
    ("$__timeTo()", "'2026-11-20T00:00:00Z'"),
    (
        "'2026-03-01') and day_at < vobiz.billing_day_start('2026-04-01'",
        "'2026-11-01') and day_at < vobiz.billing_day_start('2026-12-01'",
    ),
];

/// The blocks of a page, each with the heading above it.
fn blocks(page: &str) -> Vec<(String, String)> {
    let (mut found, mut heading, mut block) = (Vec::new(), String::new(), None::<String>);
    for line in page.lines() {
        match (&mut block, line.trim()) {
            (None, "```sql") => block = Some(String::new()),
            (None, _) if line.starts_with('#') => {
                line.trim_start_matches('#').trim().clone_into(&mut heading);
            }
            (None, _) => {}
            (Some(text), "```") => {
                found.push((heading.clone(), std::mem::take(text)));
                block = None;
            }
            (Some(text), _) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    found
}

fn filled_in(block: &str) -> String {
    PLACEHOLDERS.iter().fold(block.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The statements of a block.
fn statements(block: &str) -> Vec<String> {
    let code: Vec<&str> = block.lines().map(|line| line.split("--").next().unwrap().trim_end()).collect();
    let code = code.join("\n");
    code.split(';').map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

/// Calls as the simulated Vobiz of the demo makes them: one day of November 2026, trunks, streams, bridges, changed costs.
async fn demo(db: &Database) {
    db.run("insert into vobiz.account (account_id) values ('MA_DEMO')").await;
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    // Two records with one uuid.
    let further = |id: u32| {
        format!(
            r#"{{"id":{id},"uuid":"further","account_id":"MA_DEMO","start_time":"2026-11-24T08:00:00Z","billsec":1,"total_cost":0.1,"currency":"INR"}}"#
        )
    };
    for id in [5_000, 5_001] {
        db.upsert(&[&single(&further(id), now)]).await;
    }
    for revised in [false, true] {
        let records: Vec<_> = (0_u32..900)
            .filter(|n| !revised || n % 60 == 0)
            .map(|n| {
                let (outbound, answered, trunk) = (n % 3 > 0, n % 10 < 7, n % 5 == 0);
                let (minute, second) = (n / 60, n % 60);
                let at = |after: u32| {
                    let second = minute * 60 + second + after;
                    format!("2026-11-24T0{}:{:02}:{:02}Z", 6 + second / 3600, second / 60 % 60, second % 60)
                };
                let billsec = if answered { 20 + n % 170 } else { 0 };
                let money = f64::from(if answered { 45 + n % 50 + u32::from(revised) * 5 } else { n % 2 * 2 }) / 100.0;
                let streamed = if answered && n % 20 == 1 { 0.054 } else { 0.0 };
                let (ours, theirs) = (format!("+9111000{:05}", n % 90), format!("+9198{:08}", n * 7919 % 99_999_999));
                let (from, to) = if outbound { (ours, theirs) } else { (theirs, ours) };
                let (cause, code) =
                    if answered { ("NORMAL_CLEARING", 4000) } else { [("NO_ANSWER", 3000), ("USER_BUSY", 3010)][n as usize % 2] };
                let record = serde_json::json!({
                    "id": n + 1, "uuid": format!("{n:08x}-0000-4000-8000-000000000000"), "account_id": "MA_DEMO",
                    "call_direction": if outbound { "outbound" } else { "inbound" }, "caller_id_number": from, "destination_number": to,
                    "start_time": at(0), "progress_time": at(0), "answer_time": answered.then(|| at(5)), "end_time": at(5 + billsec),
                    "updated_at": at(if revised { 900 } else { 300 }), "duration": billsec + 5, "billsec": billsec, "ring_time": 5,
                    "cost": money, "streaming_cost": streamed, "total_cost": money + streamed, "currency": "INR",
                    "hangup_cause": cause, "hangup_cause_code": code, "trunk_id": trunk.then_some("trunk"), "codec": "PCMU",
                    "mos": if answered { 4.1 } else { 0.0 }, "jitter": 1, "packet_loss": 0.1, "context": "voice-api",
                    "bridge_uuid": answered.then(|| format!("{n:08x}-0000-4000-9000-000000000000")),
                    "ring_note": "", "duration_note": null,
                });
                // What is odd and what cannot be read, for the pages about notes.
                let record = match n {
                    5 => record.to_string().replace("\"INR\"", "\"rupee\""),
                    6 => record.to_string().replace("\"billsec\":26", "\"billsec\":\"abc\""),
                    _ => record.to_string(),
                };
                single(&record, now)
            })
            .collect();
        db.upsert(&records.iter().collect::<Vec<_>>()).await;
    }
}

/// Runs a statement, and gives its rows as JSON.
async fn rows(connection: &mut PgConnection, statement: &str) -> Result<Vec<serde_json::Value>, sqlx::Error> {
    let asks = ["select", "with"].iter().any(|word| statement.starts_with(word))
        && !statement.contains("update vobiz.");
    if asks {
        let asked = format!("select to_jsonb(x) from ({statement}) x");
        return sqlx::query_scalar(AssertSqlSafe(asked)).fetch_all(connection).await;
    }
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await.map(|_| Vec::new())
}

/// A column of some rows added up, as text.
async fn sum(connection: &mut PgConnection, rows: &[serde_json::Value], column: &str) -> String {
    let sql = "select coalesce(trim_scale(sum((x ->> $2)::numeric)), 0)::text from unnest($1::jsonb[]) x";
    sqlx::query_scalar(sql).bind(rows).bind(column).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn every_sql_block_of_the_pages_runs_and_says_something_and_what_must_add_up_does() {
    let db = Database::new().await;
    demo(&db).await;
    let mut connection = db.connection().await;
    let all: Vec<_> = pages()
        .into_iter()
        .flat_map(|(path, page)| {
            blocks(&page)
                .into_iter()
                .map(move |(heading, block)| (format!("{}: {heading}", path.display()), block))
        })
        .collect();
    assert!(all.len() > 25, "{} blocks", all.len());
    let makes_demo = |heading: &str| heading.ends_with(": The demo data");
    let changes = |block: &str| block.starts_with("insert");

    // What changes something is run before the demo's rules are there, and taken back.
    for (heading, block) in all.iter().filter(|(_, block)| changes(block)) {
        let mut transaction = connection.begin().await.unwrap();
        for statement in statements(&filled_in(block)) {
            rows(&mut transaction, &statement)
                .await
                .unwrap_or_else(|error| panic!("{heading}: {error}\n{statement}"));
        }
        transaction.rollback().await.unwrap();
    }
    for (heading, block) in all.iter().filter(|(heading, _)| makes_demo(heading)) {
        for statement in statements(block) {
            rows(&mut connection, &statement)
                .await
                .unwrap_or_else(|error| panic!("{heading}: {error}\n{statement}"));
        }
    }
    // A slip, for the question after slips.
    db.run("insert into vobiz.customer_rule (field, value, customer) values ('trunk_id', 'Trunk-Mumbai', 'asha clinics')").await;

    let mut said: BTreeMap<String, Vec<Vec<serde_json::Value>>> = BTreeMap::new();
    for (heading, block) in all.iter().filter(|(heading, block)| !changes(block) && !makes_demo(heading)) {
        for statement in statements(&filled_in(block)) {
            let found = rows(&mut connection, &statement)
                .await
                .unwrap_or_else(|error| panic!("{heading}: {error}\n{statement}"));
            assert!(!found.is_empty(), "{heading} says nothing:\n{statement}");
            said.entry(heading.clone()).or_default().push(found);
        }
    }
    let answer = |number: u32, which: usize| {
        let heading = format!(": {number}. ");
        let (_, answers) = said.iter().find(|(name, _)| name.contains(&heading)).unwrap();
        answers[which].clone()
    };
    let november = answer(1, 0);
    let (calls, cost) =
        (sum(&mut connection, &november, "calls").await, sum(&mut connection, &november, "total_cost").await);
    assert_ne!((calls.as_str(), cost.as_str()), ("0", "0"));
    for (number, which, column) in [(4, 0, "calls"), (9, 0, "calls"), (12, 0, "legs")] {
        assert_eq!(sum(&mut connection, &answer(number, which), column).await, calls, "question {number}");
    }
    for (number, which) in [(4, 0), (9, 0), (12, 1)] {
        assert_eq!(
            sum(&mut connection, &answer(number, which), "total_cost").await,
            cost,
            "question {number}"
        );
    }
    // What is unassigned by question 4 is all there in question 5, and each call once.
    let unassigned: Vec<_> = answer(4, 0).into_iter().filter(|row| row["customer"] == "unassigned").collect();
    for column in ["calls", "total_cost"] {
        let (all, split) = (
            sum(&mut connection, &unassigned, column).await,
            sum(&mut connection, &answer(5, 0), column).await,
        );
        assert_ne!(all, "0");
        assert_eq!(split, all, "{column} of question 5");
    }
    // A time series has one point for each time and metric, whatever accounts there are.
    let (_, block) = all.iter().find(|(_, block)| block.contains("$__timeFrom()")).unwrap();
    db.run(
        "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, billsec,
           call_direction, currency)
         select 'other ' || call_id, 'SA_OTHER', listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, billsec,
           call_direction, currency from vobiz.cdr",
    )
    .await;
    let statement = statements(&filled_in(block)).remove(0);
    let points = rows(&mut connection, &statement).await.unwrap();
    let mut times: Vec<_> =
        points.iter().map(|point| (point["time"].to_string(), point["metric"].to_string())).collect();
    times.dedup();
    assert_eq!(times.len(), points.len());
}
