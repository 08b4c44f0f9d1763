//! Asks a running service how it is: the client's side of the ops port, for `healthcheck` and `status`.

use std::fmt::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use clap::Args;
use serde_json::Value;

use super::args::OpsAddress;
use super::output::{self, table};

/// A service on this machine answers from memory, so this is long.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Flags of `status`.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    ops: OpsAddress,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Asks `/healthz`. Exit 1 and a reason, if it does not answer.
pub(super) async fn health(ops: OpsAddress) -> anyhow::Result<ExitCode> {
    let (code, _) = get(ops.ops_listen, "/healthz").await?;
    anyhow::ensure!(code == 200, "/healthz says {code}");
    Ok(ExitCode::SUCCESS)
}

/// Asks `/status` and prints it. Exit 1 when a person must act, or nobody answers.
pub(super) async fn run(StatusArgs { ops, json }: StatusArgs) -> anyhow::Result<ExitCode> {
    let (code, text) = get(ops.ops_listen, "/status").await?;
    let page: Value =
        serde_json::from_str(&text).with_context(|| format!("/status says {code}, and no JSON"))?;
    if json {
        output::json_line(text.trim_end());
    } else {
        output::stdout_line(in_words(&page).trim_end());
    }
    Ok(if code == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Here, every address that a service may listen on is reached by loopback.
async fn get(mut address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { [127, 0, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    let client = crate::vobiz::http_client(TIMEOUT)?;
    let answer = client.get(format!("http://{address}{path}")).send().await.with_context(|| {
        format!("no service answers at {address}: does it run, and is that its CDR_OPS_LISTEN?")
    })?;
    let code = answer.status().as_u16();
    Ok((code, answer.text().await?))
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("-")
}

/// An instant without the fraction of its second.
fn to_the_second(instant: &str) -> String {
    match (instant.find('.'), instant.ends_with('Z')) {
        (Some(point), true) => format!("{}Z", &instant[..point]),
        _ => instant.to_owned(),
    }
}

fn seconds(value: &Value, path: &str) -> String {
    let Some(seconds) = value.pointer(path).and_then(Value::as_f64) else { return "-".into() };
    let whole =
        Duration::from_secs(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default().as_secs());
    humantime::format_duration(whole).to_string()
}

/// Age of the oldest due call, and a word if it waits for the list.
fn oldest_due(account: &Value) -> String {
    let age = seconds(account, "/oldest_due_seconds");
    if account.get("listed_due_to").is_some_and(Value::is_string) { format!("{age} (list)") } else { age }
}

fn count(value: &Value, path: &str) -> i64 {
    value.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

fn rows<'a>(page: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    page.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// The callbacks of the last 15 minutes, in a line.
fn callbacks(counts: &Value) -> String {
    let counted: Vec<String> = counts
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(kind, count)| Some(format!("{} {}", count.as_u64()?, kind.replace('_', " "))))
        .collect();
    let counted = if counted.is_empty() { "none".to_owned() } else { counted.join(", ") };
    format!("Callbacks of the last 15 minutes: {counted}")
}

/// The page for a person: first what must be done, then its status.
fn in_words(page: &Value) -> String {
    let mut out = String::new();
    let status = if text(page, "/status") == "ok" { "all is well" } else { "a person must act" };
    let parts: Vec<&str> = rows(page, "/process/parts").filter_map(Value::as_str).collect();
    let _ = writeln!(
        out,
        "vobiz-cdr {} {} for {} ({}): {status}",
        text(page, "/process/version"),
        text(page, "/process/phase"),
        seconds(page, "/process/uptime_seconds"),
        parts.join(", "),
    );
    for act in rows(page, "/act") {
        let lasting = act.get("for_seconds").map(|_| format!(", for {}", seconds(act, "/for_seconds")));
        let _ = writeln!(
            out,
            "\n  {}{}\n    {}",
            text(act, "/what"),
            lasting.unwrap_or_default(),
            text(act, "/do")
        );
    }
    for warning in rows(page, "/process/warnings").filter_map(Value::as_str) {
        let _ = writeln!(out, "\n  note: {warning}");
    }
    let answers = page.pointer("/postgres/answers").and_then(Value::as_bool).unwrap_or(false);
    let _ = writeln!(
        out,
        "\nPostgres {}: {} for {}; the queue was counted {} ago",
        text(page, "/postgres/version"),
        if answers { "answers" } else { "does not answer" },
        seconds(page, "/postgres/for_seconds"),
        seconds(page, "/queue/counted_seconds_ago"),
    );
    if !answers {
        let _ = writeln!(out, "What follows was seen {} ago:", seconds(page, "/postgres/polled_seconds_ago"));
    }
    if let Some(counts) = page.pointer("/callbacks_last_15_minutes") {
        let _ = writeln!(out, "{}", callbacks(counts));
    }
    let mut table = table::open(
        ["account", "paused", "due", "waiting", "dead", "oldest due", "swept", "API path", "rate"],
        2..5,
    );
    for account in rows(page, "/accounts") {
        let id = text(account, "/account_id");
        let is_its = |row: &&Value| text(row, "/account_id") == id;
        let owed = rows(page, "/queue/accounts").find(is_its).unwrap_or(&Value::Null);
        let dead: i64 = rows(page, "/dead_letters").filter(is_its).map(|row| count(row, "/calls")).sum();
        let share = account.get("rate_share").and_then(Value::as_f64).unwrap_or(1.0);
        table.add_row([
            id.to_owned(),
            account.get("pause_reason").and_then(Value::as_str).unwrap_or("no").to_owned(),
            count(owed, "/due").to_string(),
            count(owed, "/waiting").to_string(),
            dead.to_string(),
            oldest_due(account),
            if account.get("sweep_from").is_some_and(Value::is_null) {
                "never".to_owned()
            } else {
                format!("{} ago", seconds(account, "/swept_seconds_ago"))
            },
            text(account, "/api_path").to_owned(),
            format!("{:.0} %", share * 100.0),
        ]);
    }
    let _ = writeln!(out, "\n{table}");
    for refused in rows(page, "/accounts") {
        if let Some(words) = refused.get("refused_pages").and_then(Value::as_str) {
            let _ = writeln!(out, "{}: {words}", text(refused, "/account_id"));
        }
    }
    for safe in rows(page, "/ledger/safe_to_bill") {
        let _ = writeln!(
            out,
            "{} is safe to bill up to {}: {}",
            text(safe, "/account_id"),
            to_the_second(text(safe, "/safe_to")),
            text(safe, "/held_by")
        );
        let days = count(safe, "/money_not_compared");
        if days > 0 {
            let _ = writeln!(
                out,
                "  Vobiz's summary proves not all of the money, or counts a call more than once, on {days} of its days: see money in vobiz.ledger_day"
            );
        }
    }
    for owner in rows(page, "/unclear/owners") {
        let (unclear, without_cost) = (count(owner, "/unclear"), count(owner, "/without_cost"));
        if unclear + without_cost > 0 {
            let _ = writeln!(
                out,
                "{} has {} (vobiz.unclear) and {without_cost} without an amount (vobiz.cost_gap) since {}",
                text(owner, "/account_id"),
                output::counted(unclear, "unclear call", "unclear calls"),
                text(page, "/unclear/since"),
            );
        }
    }
    out
}
