//! `vobiz-cdr backfill` and `recover`: list days again because an operator asks for it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use vobiz_cdr::account::{self, Account};
use vobiz_cdr::config::{DatabaseArgs, VobizArgs, VobizConfig};
use vobiz_cdr::db::clock::Clock;
use vobiz_cdr::db::day::summary::{self, DayLine};
use vobiz_cdr::db::setting;
use vobiz_cdr::db::{
    self,
    backfill::{self, Range},
    task,
};
use vobiz_cdr::metrics::Metrics;
use vobiz_cdr::progress::Progress;
use vobiz_cdr::sweep::{Backfilled, Sweeper};
use vobiz_cdr::vobiz::{AccountId, HomeCountry};

use crate::{Usage, reach};

/// Connections: one holds the right to list a range, one the right to check days; one works, one paces.
pub(crate) const CONNECTIONS: u32 = 5;
/// Rows a page of the list: the most that Vobiz gives (documented).
const PER_PAGE: u64 = 100;

/// Flags of `backfill`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct BackfillArgs {
    /// First day, YYYY-MM-DD, as Vobiz names its days
    #[arg(long, value_name = "DATE", value_parser = crate::date::day, required_unless_present = "resume")]
    from: Option<NaiveDate>,
    /// Last day, included [default: the day before the ledger begins, else yesterday]
    #[arg(long, value_name = "DATE", value_parser = crate::date::day)]
    to: Option<NaiveDate>,
    /// Only this account [default: all that are configured]
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Only say how many requests, hours and bytes it would take
    #[arg(long, conflicts_with_all = ["resume", "anew"])]
    dry_run: bool,
    /// Go on with an unfinished backfill
    #[arg(long, conflicts_with_all = ["from", "to"])]
    resume: bool,
    /// Drop an unfinished backfill and start this one; what it stored stays
    #[arg(long, conflicts_with = "resume")]
    anew: bool,
    /// The ledger of the range as JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    vobiz: VobizArgs,
}

/// Flags of `recover`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecoverArgs {
    /// What was stored since then may be gone: the time of the dump, or of the last transaction that was restored
    #[arg(long, value_name = "TIME")]
    since: DateTime<Utc>,
    /// Only this account [default: all that are configured]
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// The ledger of the range as JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    vobiz: VobizArgs,
}

/// The accounts of a command, ready to be asked.
pub(crate) struct Asked {
    pub(crate) accounts: Vec<Arc<Account>>,
    pub(crate) sweeper: Sweeper,
    pub(crate) metrics: Metrics,
}

impl Asked {
    /// Opens the configured accounts, or the one that was named, and sees that Vobiz lets them read. One that it refuses and that
    /// this database has never known leaves no trace in it.
    pub(crate) async fn open(
        pool: &PgPool,
        mut config: VobizConfig,
        only: Option<&str>,
    ) -> anyhow::Result<Self> {
        if let Some(only) = only {
            config.accounts.retain(|account| account.credentials.account_id.as_str() == only);
            if config.accounts.is_empty() {
                bail!(Usage(format!("--account {only}: no such account is configured")));
            }
        }
        let mut connection = pool.acquire().await?;
        let home = setting::check(&mut connection, None, None).await?;
        let ids: Vec<AccountId> =
            config.accounts.iter().map(|account| account.credentials.account_id.clone()).collect();
        let known = db::account::registered(&mut connection, &ids).await?;
        let accounts = account::open(pool, &config, HomeCountry::new(&home)?).await?;
        for account in &accounts {
            if !account.ensure_access().await {
                if !known.iter().any(|id| id == account.id().as_str()) {
                    db::account::unregister(&mut connection, account.id()).await?;
                }
                bail!("Vobiz does not let us read the CDRs of {}: the line above says why", account.id());
            }
        }
        drop(connection);
        let metrics = Metrics::new();
        let sweeper = Sweeper::new(pool.clone(), accounts.clone(), Duration::ZERO, metrics.clone());
        Ok(Self { accounts, sweeper, metrics })
    }
}

/// Runs `backfill`. Exit code 1 if a day of the range is not settled in the end.
pub(crate) async fn run(args: BackfillArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let config = args.vobiz.check()?;
    Box::pin(reach::on_pool(&args.database, "backfill", CONNECTIONS, async |pool| {
        let asked = Asked::open(pool, config.clone(), args.account.as_deref()).await?;
        let mut planned = Vec::new();
        let mut holder = pool.acquire().await?;
        for account in &asked.accounts {
            let name = format!("backfill {}", account.id());
            if !args.dry_run && !task::lock(&mut holder, &name).await? {
                bail!(Usage(format!(
                    "a backfill of {} is at work: wait for its end, or stop it",
                    account.id()
                )));
            }
            match plan(pool, account.id(), &args).await? {
                Some(range) => planned.push((account, range)),
                None => crate::say(&format!("{}: no backfill is unfinished", account.id())),
            }
        }
        // All of them are written down before the first request: whatever stops this, --resume knows of each.
        if !args.resume && !args.dry_run {
            start(pool, &mut planned, args.anew).await?;
        }
        let mut settled = true;
        for (account, range) in planned {
            let calls = count(&asked, account, &range).await;
            say_cost(pool, account, &range, calls).await?;
            if args.dry_run {
                continue;
            }
            let work = asked.sweeper.backfill(account, &range, &stop);
            let done =
                Box::pin(watched(&asked, &range, calls, work, "`vobiz-cdr backfill --resume`")).await?;
            settled &= say_outcome(pool, account.id(), &range, &done, args.json).await?;
        }
        Ok(if settled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }))
    .await
}

/// How many calls Vobiz lists for a range, for the estimate. A long range may be too much for one request: then nobody knows.
async fn count(asked: &Asked, account: &Account, range: &Range) -> Option<i64> {
    asked.sweeper.count(account, range).await.unwrap_or_else(|error| {
        warn!(account = %account.id(), %error, "Vobiz does not say how many calls there are");
        None
    })
}

/// Runs `recover`. Exit code 1 if a day that is over is not settled in the end.
pub(crate) async fn recover(args: RecoverArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let config = args.vobiz.check()?;
    Box::pin(reach::on_pool(&args.database, "recover", CONNECTIONS, async |pool| {
        if args.since > Clock::read(&mut *pool.acquire().await?).await?.now() {
            bail!(Usage("--since lies in the future".into()));
        }
        let asked = Asked::open(pool, config.clone(), args.account.as_deref()).await?;
        let mut settled = true;
        for account in &asked.accounts {
            let days = summary::range(&mut *pool.acquire().await?, account.id(), args.since).await?;
            let range = Range { id: 0, first: days.0, last: days.1, next: days.1 };
            let calls = count(&asked, account, &range).await;
            let work = asked.sweeper.recover(account, args.since, &stop);
            let again = "`serve`, or the same command,";
            let done = Box::pin(watched(&asked, &range, calls, work, again)).await?;
            settled &= say_outcome(pool, account.id(), &range, &done, args.json).await?;
        }
        Ok(if settled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }))
    .await
}

/// What is to be listed for an account; none if nothing is to be resumed. A range of a dry run has no number.
async fn plan(pool: &PgPool, account: &AccountId, args: &BackfillArgs) -> anyhow::Result<Option<Range>> {
    let mut connection = pool.acquire().await?;
    let unfinished = backfill::unfinished(&mut connection, account).await?;
    if args.resume {
        return Ok(unfinished);
    }
    if let Some(range) = unfinished.filter(|_| !args.anew && !args.dry_run) {
        let (first, last, next) = (range.first, range.last, range.next);
        bail!(Usage(format!(
            "a backfill of {account} from {first} to {last} stopped before {next}: go on with it by --resume, or drop it by --anew"
        )));
    }
    let (ledger, today) = summary::range_of_ledger(&mut connection, account).await?;
    let first = args.from.context("--from is missing")?;
    let last = args.to.or_else(|| if first < ledger { ledger.pred_opt() } else { today.pred_opt() });
    let last = last.context("--to is missing")?;
    if first > last {
        bail!(Usage(format!("--from {first} lies after --to {last}")));
    }
    if last > today {
        bail!(Usage(format!("--to {last} lies in the future: today is {today} at Vobiz")));
    }
    Ok(Some(Range { id: 0, first, last, next: last }))
}

async fn start(pool: &PgPool, ranges: &mut [(&Arc<Account>, Range)], anew: bool) -> anyhow::Result<()> {
    let mut transaction = pool.begin().await?;
    for (account, range) in ranges {
        if anew {
            backfill::drop_unfinished(&mut transaction, account.id()).await?;
        }
        *range = backfill::start(&mut transaction, account.id(), range.first, range.last).await?;
    }
    Ok(transaction.commit().await?)
}

fn pages(range: &Range, calls: Option<i64>) -> u64 {
    let calls = u64::try_from(calls.unwrap_or(0)).unwrap_or(0);
    let days = u64::try_from((range.next - range.first).num_days() + 1).unwrap_or(1);
    // Half a page is left over at the end of each day, on average, and each day has one at least.
    (calls / PER_PAGE + days.div_ceil(2)).max(days)
}

/// What a range costs, in requests, time and bytes.
async fn say_cost(pool: &PgPool, account: &Account, range: &Range, calls: Option<i64>) -> anyhow::Result<()> {
    let Some(calls) = calls else {
        crate::say(&format!("{}: Vobiz does not say how many calls there are", account.id()));
        return Ok(());
    };
    let requests = pages(range, Some(calls));
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = Duration::try_from_secs_f64(requests as f64 / account.max_rps).unwrap_or_default();
    let size = summary::bytes_per_call(&mut *pool.acquire().await?).await?;
    let bytes = u64::try_from(calls).unwrap_or(0).saturating_mul(size.bytes);
    crate::say(&format!(
        "{}: {calls} calls from {} to {}: about {requests} requests, {} at {} a second if nobody else asks, {} in Postgres ({} bytes a call{})",
        account.id(),
        range.first,
        range.next,
        humantime::format_duration(Duration::from_secs(seconds.as_secs().max(1))),
        account.max_rps,
        indicatif::HumanBytes(bytes),
        size.bytes,
        if size.measured { ", as the calls that are here" } else { ", as is usual" },
    ));
    Ok(())
}

/// Shows how far a piece of work is, by the pages that were read.
async fn watched(
    asked: &Asked,
    range: &Range,
    calls: Option<i64>,
    work: impl Future<Output = Result<Backfilled, vobiz_cdr::sweep::SweepError>>,
    again: &str,
) -> anyhow::Result<Backfilled> {
    let mut progress = Progress::new(calls.map(|_| pages(range, calls)), "pages");
    let read = asked.metrics.list_pages.with_label_values(&["backfill"]);
    let mut seen = read.get();
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(Duration::from_millis(250)) => {
                progress.advance(read.get() - seen);
                seen = read.get();
            }
        }
    };
    progress.finish();
    match done {
        Err(vobiz_cdr::sweep::SweepError::Stopped) => {
            bail!("stopped: what is listed is stored; {again} goes on with the rest")
        }
        done => Ok(done?),
    }
}

/// Prints the ledger of the range; whether all of it is settled.
async fn say_outcome(
    pool: &PgPool,
    account: &AccountId,
    range: &Range,
    done: &Backfilled,
    json: bool,
) -> anyhow::Result<bool> {
    let Backfilled { days, unsettled, unread, calls, new, revised, requests } = *done;
    let mut connection = pool.acquire().await?;
    let lines = summary::lines(&mut connection, account, range.first, range.last).await?;
    let (ledger, today) = summary::range_of_ledger(&mut connection, account).await?;
    print_lines(&lines, json)?;
    crate::say(&format!(
        "{account}: {calls} calls of {days} days listed with {requests} requests; new here: {new}, changed: {revised}; days not settled: {unsettled}"
    ));
    if unread > 0 {
        crate::say(&format!(
            "{account}: the lists of {unread} days could not be read: `vobiz-cdr backfill --resume` tries them again"
        ));
    }
    if range.first < ledger && unread == 0 {
        crate::say(&format!(
            "{account}: the ledger begins with {ledger}: before it Vobiz lists no call that joins on, and whether there was none or \
             its records do not go back so far cannot be told"
        ));
    }
    // What counts is how the days stand, also those that were listed before an interruption. Today is not over.
    Ok(unread == 0 && lines.iter().all(|line| line.state == "settled" || line.day >= today))
}

/// Prints days of the ledger.
pub(crate) fn print_lines(lines: &[DayLine], json: bool) -> anyhow::Result<()> {
    if json {
        for line in lines {
            crate::print_line(&serde_json::to_string(line)?);
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "day",
        "state",
        "currency",
        "calls here",
        "at Vobiz",
        "total here",
        "at Vobiz",
        "found",
        "changed",
        "why",
    ]);
    for line in lines {
        table.add_row([
            line.day.to_string(),
            line.state.clone(),
            line.currency.clone().unwrap_or_default(),
            line.calls_here.to_string(),
            line.calls_there.to_string(),
            line.total_here.to_string(),
            line.total_there.to_string(),
            line.recovered.to_string(),
            line.revised.to_string(),
            line.reason.clone().unwrap_or_default(),
        ]);
    }
    for column in 3..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    crate::print_line(&table.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::Days;

    use super::*;

    #[test]
    fn a_range_takes_a_page_a_day_at_least() {
        let day = |n| NaiveDate::from_ymd_opt(2026, 11, 1).unwrap() + Days::new(n);
        let range = |days: u64| Range { id: 0, first: day(0), last: day(days - 1), next: day(days - 1) };
        assert_eq!(pages(&range(10), Some(0)), 10);
        assert_eq!(pages(&range(1), Some(300_000)), 3001);
        assert_eq!(pages(&range(10), Some(10_000)), 105);
        assert_eq!(pages(&range(2), None), 2);
    }
}
