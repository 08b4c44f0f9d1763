//! What a scraper reads.

use std::process::{Command, Stdio};

use vobiz_cdr::simulator::CallSpec;

use super::{service, swept, vobiz};
use crate::support::database::Database;
use crate::support::endpoint::Callback;
use crate::support::wait::{until, until_is};
use crate::support::world::{TOKEN, options};

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_well_formed_and_name_no_call() {
    let database = Database::new().await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    swept(&database).await;
    let placed = vobiz.place_call(CallSpec::default());
    assert_eq!(Callback::of(&vobiz, &placed).send(running.public.unwrap()).await, 200);
    until_is("it is stored", Some(1.0), async || running.metric("vobiz_cdr_freshness_seconds_count").await)
        .await;
    let (_, text) = running.page("/metrics").await;
    for secret in [placed.call_id.as_str(), placed.from.as_str(), "+91", TOKEN] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
    let mut described = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(name.starts_with("vobiz_cdr_") && help.ends_with('.'), "{line}");
            assert!(described.insert(name.to_owned()), "{name} is described twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(described.contains(name) || described.contains(base.unwrap()), "{line}");
        }
    }
    promtool_agrees(&text);
    running.end().await;
}

/// Prometheus's own check, where it is installed (Debian: prometheus).
#[expect(clippy::print_stderr, reason = "what was not checked must be said")]
fn promtool_agrees(text: &str) {
    use std::io::Write;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = promtool.spawn() else {
        eprintln!("promtool is not installed: its check of /metrics was not run");
        return;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    assert!(said.status.success() && words.trim().is_empty(), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_reads_no_table_however_many_calls_are_owed() {
    let database = Database::new().await;
    database
        .run(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at)
             select 'call-' || n, 'MA_TESTAB12', true, true, now() + interval '1 hour' from generate_series(1, 300000) n",
        )
        .await;
    let vobiz = vobiz(options()).await;
    let running = service(&vobiz, &database.url).await;
    until("the queue is counted", async || {
        running.metric("vobiz_cdr_queue_calls{state=\"waiting\"}").await == Some(300_000.0)
    })
    .await;
    // Nobody can read the queue now; what is shown is what was counted. How long a scrape takes is a matter of the benchmarks.
    let mut locked = database.pool.begin().await.unwrap();
    sqlx::query("lock table vobiz.cdr_queue, vobiz.cdr, vobiz.account in access exclusive mode")
        .execute(&mut *locked)
        .await
        .unwrap();
    for path in ["/metrics", "/status"] {
        let (code, text) = running.page(path).await;
        assert!(code == 200 || path == "/status", "{path}: {code}");
        assert!(text.contains("300000"), "{path}: {text}");
    }
    locked.rollback().await.unwrap();
    running.end().await;
}
