//! A list of calls from elsewhere: rows of an export of Vobiz, and a table as a customer might have it.

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use vobiz_cdr::db::reconcile::{ReconcileDifference, differences};
use vobiz_cdr::reconcile::{self, Comparison, Map, ReconcileRequest};

use super::calls::single;
use super::database::{ACCOUNT, Database};

pub(crate) const EXPORT: &str = "tests/data/vobiz/export.csv";

pub(crate) const HEADER: &str =
    "account_id,uuid,start_time,duration,billsec,cost,streaming_cost,total_cost,currency\n";

/// One table in all its columns.
pub(crate) const MAP: &str = "zone = \"Asia/Kolkata\"
    [columns]
    call_id = \"their id\"\nfrom = \"caller\"\nto = \"callee\"\nstarted_at = \"at\"\nbillsec = \"seconds\"\ncost = \"rupees\"
    currency = \"currency\"";

impl Database {
    pub(crate) async fn store(&self, call: Value) {
        let now = self.now().await;
        self.upsert(&[&single(&call.to_string(), now)]).await;
    }

    /// Calls named `a`, `b`, …, ten minutes apart from 10:00 UTC on, 42 seconds and 0.45 INR each, of [`ACCOUNT`].
    pub(crate) async fn store_plain(&self, calls: &str) {
        for name in calls.chars() {
            self.store(plain(name)).await;
        }
    }

    pub(crate) async fn with_csv(
        &self,
        text: &str,
        zone: &str,
        asked: &ReconcileRequest,
    ) -> (Comparison, Vec<ReconcileDifference>) {
        let mut connection = self.connection().await;
        let asked = ReconcileRequest { zone: Some(zone.to_owned()), ..asked.clone() };
        let comparison = reconcile::with_csv(&mut connection, text.as_bytes(), &asked).await.unwrap();
        (comparison, differences(&mut connection, None).try_collect().await.unwrap())
    }

    pub(crate) async fn with_table(
        &self,
        table: &str,
        map: &str,
        asked: &ReconcileRequest,
    ) -> (Comparison, Vec<ReconcileDifference>) {
        let mut connection = self.connection().await;
        let map = Map::read(map).unwrap();
        let comparison = reconcile::with_table(&mut connection, table, &map, asked).await.unwrap();
        (comparison, differences(&mut connection, None).try_collect().await.unwrap())
    }

    /// A table as a customer might have it; rows are SQL.
    pub(crate) async fn make_table(&self, rows: &str) {
        self.run(&format!(
            r#"create schema "My CRM";
               create table "My CRM"."Calls; drop" ("their id" text, caller text, callee bigint, at timestamp, seconds float8,
                                                    rupees text, currency varchar(3));
               insert into "My CRM"."Calls; drop" values {rows}"#
        ))
        .await;
    }
}

pub(crate) const TABLE: &str = "My CRM.Calls; drop";

fn minute(name: char) -> String {
    let minute = 10 * (u32::from(name) - u32::from('a'));
    format!("{:02}:{:02}", 10 + minute / 60, minute % 60)
}

pub(crate) fn plain(name: char) -> Value {
    json!({
        "uuid": name.to_string(), "account_id": ACCOUNT, "start_time": format!("2026-03-25T{}:00Z", minute(name)),
        "call_direction": "outbound", "caller_id_number": "+918012345678",
        "destination_number": format!("+9198765432{:02}", u32::from(name) - u32::from('a')),
        "duration": 47, "billsec": 42, "cost": 0.45, "streaming_cost": 0, "total_cost": 0.45, "currency": "INR"
    })
}

/// The export's row of a plain call.
pub(crate) fn row(name: char) -> String {
    format!("{ACCOUNT},{name},2026-03-25T{}:00Z,47,42,0.45,0,0.45,INR\n", minute(name))
}

pub(crate) fn rows(calls: &str) -> String {
    HEADER.to_owned() + &calls.chars().map(row).collect::<String>()
}

pub(crate) fn days(from: &str, to: &str) -> ReconcileRequest {
    ReconcileRequest {
        days: Some((from.parse().unwrap(), to.parse().unwrap())),
        ..ReconcileRequest::default()
    }
}

/// Kind and call (or line) of each.
pub(crate) fn kinds(differences: &[ReconcileDifference]) -> Vec<String> {
    let name = |d: &ReconcileDifference| d.call_id.clone().unwrap_or_else(|| format!("{:?}", d.line));
    differences.iter().map(|d| format!("{} {}", d.kind, name(d))).collect()
}

pub(crate) fn total<'a>(comparison: &'a Comparison, what: &str) -> [Option<&'a str>; 3] {
    let total = comparison.totals.iter().find(|total| total.what == what).unwrap();
    [total.here.as_deref(), total.there.as_deref(), total.difference.as_deref()]
}
