//! `vobiz-cdr reconcile …`: our calls beside another's list of them.

mod day;
mod notes;
mod out;
mod print;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::output;
use crate::config::{DatabaseArgs, VobizArgs};
use crate::db::reconcile::{self as rows, Closeness, ReconcileDifference};
use crate::reconcile::{
    self, Comparison, DateOrder, DecimalMark, Map, ReconcileError, ReconcileRequest, Spelling, Wrong,
};
use crate::vobiz::{AccountId, Numeric};
use anyhow::{Context, bail};
use chrono::NaiveDate;
use clap::Args;
use futures_util::TryStreamExt;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use self::out::OutFile;
use crate::cli::args::{Usage, is_account};
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
    /// Time zone of times without one in the file, such as UTC [default: what the heading says, as (UTC) or (IST); else the
    /// billing zone]
    #[arg(long, conflicts_with = "table", value_name = "ZONE")]
    zone: Option<String>,
    /// What stands before the decimals of their numbers: a point or a comma; a number that may be two, such as 1,234, is refused
    /// without it [default: . as far as the numbers show it]
    #[arg(long, conflicts_with_all = ["day", "table"], value_name = "MARK")]
    decimal: Option<DecimalMark>,
    /// Order of their dates of numbers: dmy (20/11/2026), mdy (11/20/2026) or ymd (26/11/20); a date that may be two days is refused
    /// without it
    #[arg(long, conflicts_with_all = ["day", "table"], value_name = "ORDER")]
    dates: Option<DateOrder>,
    /// Amounts are the same if they are no further apart than this, such as 0.005 [default: not at all]
    #[arg(long, conflicts_with = "day", value_name = "AMOUNT", allow_hyphen_values = true, value_parser = tolerance)]
    tolerance: Option<Numeric>,
    /// Amounts are the same if they are when rounded to so many decimals, a half away from zero [default: all of them]
    #[arg(long, conflicts_with = "day", value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    decimals: Option<u8>,
    /// Show at most so many differences [default: 100; with --json all]
    #[arg(long, value_name = "N", conflicts_with = "all")]
    limit: Option<u32>,
    /// Show all differences
    #[arg(long)]
    all: bool,
    /// Write all differences into this file, as CSV; a file of that name is replaced when the list is whole
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

fn tolerance(text: &str) -> Result<Numeric, String> {
    let read = text.parse::<Numeric>().ok().filter(|tolerance| !tolerance.is_negative());
    read.ok_or_else(|| "write an amount that is not below zero, such as 0.005".to_owned())
}

/// Compares and prints. Exit code 0 where both sides say the same, 1 where they do not, 2 where they cannot be compared like this,
/// 3 where it could not be done.
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
    // Begun first: after minutes of comparing it is late to say that a folder is missing.
    let out = args.out.as_deref().map(|path| begin(path, args)).transpose()?;
    if let Some(account) = &args.account {
        // Rows that name no account are taken for those of whichever was asked for.
        is_account(connection, account.as_str()).await?;
    }
    let comparison = compare(args, connection).await?;
    if let (Some(out), Some(path)) = (out, &args.out) {
        let mut list = print::List::new(out.file())?;
        let mut differences = differences(connection, None, args);
        while let Some(difference) = differences.try_next().await? {
            list.add(&difference)?;
        }
        list.end()?;
        out.end().with_context(|| in_file(path))?;
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
    for note in notes::all(&comparison, args.decimals.is_some() || args.tolerance.is_some()) {
        output::stderr_line(&note);
    }
    Ok(if comparison.equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The file of the list; never one that is read.
fn begin(path: &Path, args: &ReconcileArgs) -> anyhow::Result<OutFile> {
    for (flag, read) in [("--csv", &args.csv), ("--map", &args.map)] {
        if read.as_deref().is_some_and(|read| out::is_one_file(read, path)) {
            bail!(Usage(format!(
                "--out {} is the file of {flag}, which would be lost: name another one",
                path.display()
            )));
        }
    }
    OutFile::begin(path).map_err(Wrong::from).with_context(|| in_file(path))
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
    let request = ReconcileRequest {
        days: args.from.zip(args.to),
        account: args.account.clone(),
        zone: args.zone.clone(),
        spelling: Spelling { decimal: args.decimal, dates: args.dates },
        closeness: Closeness { decimals: args.decimals, tolerance: args.tolerance.clone() },
    };
    let comparison = if let Some(path) = &args.csv {
        let file = File::open(path).map_err(Wrong::from).with_context(|| in_file(path))?;
        let comparison = reconcile::with_csv(connection, BufReader::new(file), &request).await;
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
