//! A range of days that a command has listed: how many pages it takes, how far it is, and what came of it.

use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tracing::warn;

use super::accounts::OpenAccounts;
use super::output::progress::Progress;
use super::output::{self, counted, table};
use crate::account::Account;
use crate::db::ledger::backfill::{self, DayRange};
use crate::db::ledger::summary::{self, DayLine};
use crate::ledger::Backfilled;
use crate::list::ListError;
use crate::vobiz::AccountId;

/// Rows a page of the list: the most that Vobiz gives (documented).
const PER_PAGE: u64 = 100;

/// About how many pages it takes to list the rest of a range.
pub(super) fn pages(range: &DayRange, calls: Option<i64>) -> u64 {
    let calls = u64::try_from(calls.unwrap_or(0)).unwrap_or(0);
    let days = u64::try_from((range.next - range.first).num_days() + 1).unwrap_or(1);
    // Half a page is left over at the end of each day, on average, and each day has one at least.
    (calls / PER_PAGE + days.div_ceil(2)).max(days)
}

/// How many calls Vobiz lists for a range, for the estimate. A long range may be too much for one request: then nobody knows.
pub(super) async fn count(open: &OpenAccounts, account: &Account, range: &DayRange) -> Option<i64> {
    open.ledger.count(account, range).await.unwrap_or_else(|error| {
        warn!(account = %account.id(), %error, "Vobiz does not say how many calls there are");
        None
    })
}

/// Shows how far a piece of work is, by the pages that were read.
pub(super) async fn watched(
    open: &OpenAccounts,
    range: &DayRange,
    calls: Option<i64>,
    work: impl Future<Output = Result<Backfilled, ListError>>,
    again: &str,
) -> anyhow::Result<Backfilled> {
    let mut progress = Progress::new(calls.map(|_| pages(range, calls)), "pages");
    let read = open.metrics.list_pages.with_label_values(&["backfill"]);
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
        Err(ListError::Stopped) => {
            bail!("stopped: what is listed is stored; {again} goes on with the rest")
        }
        done => Ok(done?),
    }
}

/// Prints the ledger of the range, with what was found since the work on it began; whether all of it that is over is settled: also what was listed before an interruption.
pub(super) async fn print_outcome(
    pool: &PgPool,
    account: &AccountId,
    (range, began): (&DayRange, Option<DateTime<Utc>>),
    done: &Backfilled,
    json: bool,
) -> anyhow::Result<bool> {
    let Backfilled { days, unsettled, not_over, unread, calls, new, revised, requests } = *done;
    let mut connection = pool.acquire().await?;
    let lines = summary::lines(&mut connection, account, range.first, range.last, began).await?;
    let (ledger, _) = summary::range_of_ledger(&mut connection, account).await?;
    print_lines(&lines, json)?;
    output::stderr_line(&format!(
        "{account}: {} of {} listed with {}; new here: {new}, changed: {revised}; days not settled: {unsettled}",
        counted(calls, "call", "calls"),
        counted(days, "day", "days"),
        counted(requests, "request", "requests"),
    ));
    if not_over > 0 {
        let days = counted(not_over, "day has", "days have");
        output::stderr_line(&format!(
            "{account}: {days} not been over for an hour and cannot be settled yet"
        ));
    }
    if unread > 0 {
        output::stderr_line(&format!(
            "{account}: the lists of {} could not be read: `vobiz-cdr backfill --resume` tries them again",
            counted(unread, "day", "days")
        ));
    }
    if range.first < ledger && unread == 0 {
        output::stderr_line(&match backfill::gap(&mut connection, account, range.first).await? {
            Some((from, to)) => format!(
                "{account}: the ledger begins with {ledger} still: days before it were never compared, so what was listed now does not join \
                 it: `vobiz-cdr backfill --account {account} --from {from} --to {to}`"
            ),
            None => format!(
                "{account}: the ledger begins with {ledger}: on the days before it Vobiz lists no call, and whether there was none or \
                 its records do not go back so far cannot be told"
            ),
        });
    }
    Ok(unread == 0 && unsettled == 0)
}

/// Prints days of the ledger.
pub(super) fn print_lines(lines: &[DayLine], json: bool) -> anyhow::Result<()> {
    if json {
        for line in lines {
            output::json_line(&serde_json::to_string(line)?);
        }
        return Ok(());
    }
    let mut table = table::open(
        [
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
        ],
        3..9,
    );
    for line in lines {
        table.add_row([
            line.day.to_string(),
            line.state.clone(),
            line.currency.clone().unwrap_or_default(),
            line.calls_here.to_string(),
            line.calls_there.to_string(),
            line.total_here.clone(),
            line.total_there.clone(),
            line.recovered.to_string(),
            line.revised.to_string(),
            line.reason.clone().unwrap_or_default(),
        ]);
    }
    output::stdout_line(&table.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::{Days, NaiveDate};

    use super::*;

    #[test]
    fn a_range_takes_a_page_a_day_at_least() {
        let day = |n| NaiveDate::from_ymd_opt(2026, 11, 1).unwrap() + Days::new(n);
        let range = |days: u64| DayRange { id: 0, first: day(0), last: day(days - 1), next: day(days - 1) };
        assert_eq!(pages(&range(10), Some(0)), 10);
        assert_eq!(pages(&range(1), Some(300_000)), 3001);
        assert_eq!(pages(&range(10), Some(10_000)), 105);
        assert_eq!(pages(&range(2), None), 2);
    }
}
