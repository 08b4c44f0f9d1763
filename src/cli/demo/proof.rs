//! The last part of the demo: calls of the days before, which no callback announced, are listed and proved to be complete.

use std::sync::Arc;
use std::time::Duration;

use chrono::{Days, NaiveDate, NaiveTime, TimeDelta};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::ACCOUNT;
use crate::account::{self, Account};
use crate::cli::output::{self, completeness as words, table};
use crate::config::VobizConfig;
use crate::db::base::clock::Clock;
use crate::db::bill::billing::ReportFilter;
use crate::db::bill::completeness;
use crate::db::ledger::backfill;
use crate::db::ledger::status;
use crate::db::ledger::summary::{self, DayLine};
use crate::db::timed;
use crate::ledger::Ledger;
use crate::simulator::{CallSpec, Simulator};
use crate::vobiz::{HomeCountry, Numeric};
use crate::watch::metrics::Metrics;

/// Where the simulated Vobiz cuts its days, in minutes east of UTC: India.
pub(super) const DAY_ZONE: i32 = 330;
/// Days before today, and calls on each.
const DAYS: u64 = 3;
const CALLS: i32 = 40;
const LIMIT: Duration = Duration::from_secs(10);

/// Makes calls on the days before, lists these days as `vobiz-cdr backfill` does, and prints the ledger. False if a day is not
/// settled.
pub(super) async fn prove(
    pool: &PgPool,
    simulator: &Simulator,
    config: &VobizConfig,
) -> anyhow::Result<bool> {
    let now = timed!(pool, LIMIT, |connection| Clock::read(connection)).await?.now();
    let today = (now + TimeDelta::minutes(DAY_ZONE.into())).date_naive();
    let (first, last) = (today - Days::new(DAYS), today - Days::new(1));
    for day in first.iter_days().take_while(|day| *day <= last) {
        place(simulator, day);
    }
    // Some of their costs change only after the record is there, and would reopen their day.
    tokio::time::sleep(super::REVISED_AFTER + Duration::from_millis(500)).await;
    let accounts = account::open(pool, config, HomeCountry::INDIA).await?;
    let account: &Arc<Account> =
        accounts.first().ok_or_else(|| anyhow::anyhow!("the account {ACCOUNT} is gone"))?;
    let range =
        timed!(pool, LIMIT, |connection| backfill::start(connection, account.id(), first, last)).await?;
    let ledger = Ledger::new(pool.clone(), accounts.clone(), Duration::ZERO, Metrics::new());
    let done = ledger.backfill(account, &range, &CancellationToken::new()).await?;
    let lines =
        timed!(pool, LIMIT, |connection| summary::lines(connection, account.id(), first, last, None)).await?;
    output::stdout_line(&format!(
        "\nThe {DAYS} days before, of which no callback told: listed with {} requests, and each compared with Vobiz's own rows and totals.\n",
        done.requests
    ));
    output::stdout_line(&days(&lines).to_string());
    for safe in timed!(pool, LIMIT, |connection| status::read(connection)).await?.safe_to_bill {
        output::stdout_line(&format!("safe to bill up to {}: {}", safe.safe_to.to_rfc3339(), safe.held_by));
    }
    // Of the days before all is proved; of today nobody can say yet.
    let filter = ReportFilter { from: first, to: last, account: None, customer: None };
    let known = timed!(pool, LIMIT, |connection| completeness::read(connection, &filter)).await?;
    output::stdout_line(&format!("the bill of {first} to {last}:"));
    for line in words::lines(&known) {
        output::stdout_line(&format!("  {line}"));
    }
    Ok(done.unsettled + done.unread == 0)
}

/// The calls of one day, spread over it.
fn place(simulator: &Simulator, day: NaiveDate) {
    let midnight = day.and_time(NaiveTime::MIN).and_utc() - TimeDelta::minutes(DAY_ZONE.into());
    let step = TimeDelta::hours(22) / CALLS;
    for n in 0..CALLS {
        let ended_at = Some(midnight + TimeDelta::hours(1) + step * n);
        simulator.place_call(CallSpec {
            ended_at,
            appears_after: Some(Duration::ZERO),
            ..CallSpec::default()
        });
    }
}

fn days(lines: &[DayLine]) -> table::Framed {
    let mut table =
        table::framed(["day", "state", "calls here", "at Vobiz", "total here", "at Vobiz", "currency"], 2..6);
    let trimmed =
        |sum: &str| sum.parse::<Numeric>().map_or_else(|_| sum.to_owned(), |sum| sum.normalize().to_string());
    for line in lines {
        table.add_row([
            line.day.to_string(),
            line.state.clone(),
            line.calls_here.to_string(),
            line.calls_there.to_string(),
            trimmed(&line.total_here),
            trimmed(&line.total_there),
            line.currency.clone().unwrap_or_default(),
        ]);
    }
    table
}
