//! `vobiz-cdr reconcile …`: our calls beside another's list of them.

mod day;
mod print;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::output;
use crate::config::{DatabaseArgs, VobizArgs};
use crate::db::reconcile::{self as rows, ReconcileDifference};
use crate::reconcile::{self, Comparison, Map, ReconcileError, ReconcileRequest, Wrong};
use crate::vobiz::AccountId;
use anyhow::Context;
use chrono::NaiveDate;
use clap::Args;
use futures_util::TryStreamExt;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::cli::database;

/// Differences that a person is shown unless they ask for more.
const SHOWN: u32 = 100;

/// Flags of `reconcile`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("theirs").required(true))]
pub(in crate::cli) struct ReconcileArgs {
    /// List this day at Vobiz now, store what is new in it, and compare; YYYY-MM-DD, as Vobiz cuts days
    #[arg(long, group = "theirs", conflicts_with_all = ["from", "to", "zone", "limit", "all", "out"], value_name = "DATE", value_parser = crate::cli::args::day)]
    day: Option<NaiveDate>,
    /// Compare with the provider's CSV export in this file
    #[arg(long, group = "theirs", value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Compare with this table or view of the same database, as schema.table; it is only read
    #[arg(long, group = "theirs", requires = "map", value_name = "NAME")]
    table: Option<String>,
    /// TOML file that says which column of the table is what
    ///
    /// [columns] names the table's columns: call_id, or from, to and started_at, or all of them; and where the table has them
    /// account_id, duration, billsec, cost, streaming_cost, total_cost, currency. Before it, zone = "Asia/Kolkata" is the zone
    /// of timestamps without one [default: UTC]. [match] says how rows that name no call of ours are recognised: tolerance =
    /// "60s" between the starts, digits = 10 last digits of both numbers. A row that may be several calls is said, not guessed.
    #[arg(long, requires = "table", conflicts_with = "csv", value_name = "FILE")]
    map: Option<PathBuf>,
    /// First day to compare, YYYY-MM-DD, as the billing zone of this database (vobiz.setting) cuts days [default: from the
    /// first call of theirs to the last]
    #[arg(long, requires = "to", value_name = "DATE", value_parser = crate::cli::args::day)]
    from: Option<NaiveDate>,
    /// Last day to compare, included
    #[arg(long, requires = "from", value_name = "DATE", value_parser = crate::cli::args::day)]
    to: Option<NaiveDate>,
    /// Only the calls of this account [default: of all accounts that the rows name, or all]
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
    /// Time zone of times without one in the export
    #[arg(long, conflicts_with = "table", default_value = "UTC", value_name = "ZONE")]
    zone: String,
    /// Show at most so many differences [default: 100; with --json all]
    #[arg(long, value_name = "N", conflicts_with = "all")]
    limit: Option<u32>,
    /// Show all differences
    #[arg(long)]
    all: bool,
    /// Write all differences into this file, as CSV
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Everything as one JSON object on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    vobiz: VobizArgs,
}

/// Compares and prints. Exit code 0 where both sides say the same, 1 where they do not, 2 where they cannot be compared like this.
pub(in crate::cli) async fn run(args: &ReconcileArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    if let Some(day) = args.day {
        return day::run(args, day, stop).await;
    }
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from > to
    {
        output::stderr_line("vobiz-cdr: --from lies after --to");
        return Ok(ExitCode::from(2));
    }
    database::on_database(&args.database, "reconcile", async |connection| on_database(args, connection).await)
        .await
}

async fn on_database(args: &ReconcileArgs, connection: &mut PgConnection) -> anyhow::Result<ExitCode> {
    // Opened first: after minutes of comparing it is late to say that a folder is missing.
    let out = match &args.out {
        Some(path) => Some(File::create(path).map_err(Wrong::from).with_context(|| in_file(path))?),
        None => None,
    };
    let comparison = compare(args, connection).await?;
    if let Some(file) = out {
        let mut list = print::List::new(file)?;
        let mut differences = differences(connection, None, args);
        while let Some(difference) = differences.try_next().await? {
            list.add(&difference)?;
        }
        list.end()?;
    }
    let most = if args.all || (args.json && args.limit.is_none()) {
        None
    } else {
        Some(i64::from(args.limit.unwrap_or(SHOWN)))
    };
    let differences = differences(connection, most, args);
    if args.json {
        print::json(&comparison, differences).await?;
    } else {
        print::text(&comparison, differences, args.csv.is_some()).await?;
    }
    for note in notes(&comparison) {
        output::stderr_line(&note);
    }
    Ok(if comparison.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A row of a table has no number that means anything.
fn differences<'a>(
    connection: &'a mut PgConnection,
    most: Option<i64>,
    args: &ReconcileArgs,
) -> print::DifferenceStream<'a> {
    let in_file = args.csv.is_some();
    let numbered = move |difference: ReconcileDifference| ReconcileDifference {
        line: difference.line.filter(|_| in_file),
        ..difference
    };
    Box::pin(rows::differences(connection, most).map_ok(numbered))
}

async fn compare(args: &ReconcileArgs, connection: &mut PgConnection) -> anyhow::Result<Comparison> {
    let request = ReconcileRequest { days: args.from.zip(args.to), account: args.account.clone() };
    let comparison = if let Some(path) = &args.csv {
        let file = File::open(path).map_err(Wrong::from).with_context(|| in_file(path))?;
        let comparison = reconcile::with_csv(connection, BufReader::new(file), &args.zone, &request).await;
        comparison.map_err(|error| (error, in_file(path)))
    } else if let (Some(table), Some(path)) = (&args.table, &args.map) {
        let text = std::fs::read_to_string(path).map_err(Wrong::from).with_context(|| in_file(path))?;
        let map = Map::read(&text).with_context(|| in_file(path))?;
        let comparison = reconcile::with_table(connection, table, &map, &request).await;
        comparison.map_err(|error| (error, format!("--table {table}")))
    } else {
        anyhow::bail!("nothing to compare with: give --csv or --table");
    };
    comparison.map_err(|(error, place)| match error {
        ReconcileError::Wrong(wrong) => anyhow::Error::new(wrong).context(place),
        ReconcileError::Sql(error) => anyhow::Error::new(error).context(place),
    })
}

fn in_file(path: &Path) -> String {
    path.display().to_string()
}

/// What a person must know to read the figures rightly.
fn notes(comparison: &Comparison) -> Vec<String> {
    let counts = &comparison.counts;
    let mut notes = Vec::new();
    if comparison.rows == 0 && (counts.calls_here > 0 || comparison.from.is_none()) {
        notes.push("they have no rows at all: that proves nothing".to_owned());
        if comparison.from.is_none() {
            notes.push("give --from and --to, to see which calls should be there".to_owned());
        }
    }
    if comparison.rows == 0 && comparison.from.is_some() && counts.calls_here == 0 {
        notes.push("neither side has a call on these days".to_owned());
    }
    let sums_differ = comparison.totals.iter().any(|total| {
        let known = total.what == "calls" || comparison.compared.contains(&total.what.as_str());
        known && total.difference.as_deref() != Some("0")
    });
    if counts.differences() == 0 && sums_differ {
        notes.push("the sums differ where rows of theirs say nothing; what they do say is equal".to_owned());
    }
    if counts.repeated > 0 {
        notes.push(format!("{} rows say again what a row before them said; compared once", counts.repeated));
    }
    if counts.left_out > 0 {
        notes.push(format!(
            "{} rows of other days or accounts than were asked for: left out",
            counts.left_out
        ));
    }
    if comparison.compared.is_empty() && comparison.rows > 0 {
        notes.push(
            "they have no column of seconds, cost or currency: only whether calls are there was compared"
                .to_owned(),
        );
    }
    notes
}
