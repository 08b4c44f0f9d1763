//! `vobiz-cdr report NAME`: a billing view for a range of days, as a table, CSV or JSON. Every sum comes from Postgres.

use std::io::Write as _;
use std::process::ExitCode;

use chrono::NaiveDate;
use clap::{Args, ValueEnum};

use crate::cli::output::{self, completeness as words, table};
use crate::config::DatabaseArgs;
use crate::db::bill::billing::{self, Column, ColumnKind, Report, ReportFilter, ReportLine};
use crate::db::bill::completeness::{self, Completeness};
use serde_json::value::RawValue;
use sqlx::PgConnection;

use crate::vobiz::plain;

use crate::cli::args::{Usage, is_among};
use crate::cli::csv::{CsvDialect, CsvFile};
use crate::cli::database;

/// Flags of `report`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ReportArgs {
    /// Which report: see --list
    #[arg(required_unless_present = "list", value_name = "NAME")]
    name: Option<String>,
    /// Say which reports there are
    #[arg(long, conflicts_with_all = ["name", "from", "to", "account", "customer"])]
    list: bool,
    /// First day, YYYY-MM-DD, in the billing zone of this database (vobiz.setting)
    #[arg(long, value_name = "DATE", value_parser = crate::cli::args::day)]
    from: Option<NaiveDate>,
    /// Last day, included
    #[arg(long, value_name = "DATE", value_parser = crate::cli::args::day)]
    to: Option<NaiveDate>,
    /// Only the calls of this account
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Only the calls of this customer (vobiz.customer_rule), or unassigned
    #[arg(long, value_name = "NAME")]
    customer: Option<String>,
    /// table, csv (RFC 4180, values as they are) or json (one object)
    #[arg(long, default_value = "table", value_name = "FORMAT", hide_possible_values = true)]
    format: Format,
    /// With csv: for a spreadsheet. No value is taken for a formula, phone numbers stay as they are, as text
    #[arg(long)]
    excel: bool,
    /// Without the totals, of which there is one for each currency
    #[arg(long)]
    no_total: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
}

/// Prints the report. Exit code 2 where there is none of this name.
pub(in crate::cli) async fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        for &report in Report::ALL {
            output::stdout_line(&format!("{:20} {}", report.name(), report.about()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (report, filter) = checked(args)?;
    database::on_database(&args.database, "report", async |connection| {
        database::say_place(&args.database)?;
        print(args, report, &filter, connection).await
    })
    .await
}

fn checked(args: &ReportArgs) -> Result<(Report, ReportFilter), Usage> {
    let name = args.name.as_deref().unwrap_or_default();
    let Some(report) = Report::named(name) else {
        return Err(Usage(format!(
            "there is no report {name:?}: `vobiz-cdr report --list` says which there are"
        )));
    };
    let (Some(from), Some(to)) = (args.from, args.to) else {
        return Err(Usage("give both --from and --to, such as --from 2026-03-01 --to 2026-03-31".to_owned()));
    };
    if from > to {
        return Err(Usage(format!("--from {from} lies after --to {to}, which is the last day, included")));
    }
    if args.excel && args.format != Format::Csv {
        return Err(Usage("--excel goes with --format csv".to_owned()));
    }
    if args.customer.is_some() && !report.knows_customers() {
        return Err(Usage(format!("{name} does not know customers: leave out --customer")));
    }
    Ok((report, ReportFilter { from, to, account: args.account.clone(), customer: args.customer.clone() }))
}

async fn print(
    args: &ReportArgs,
    report: Report,
    filter: &ReportFilter,
    connection: &mut PgConnection,
) -> anyhow::Result<ExitCode> {
    let known = completeness::read(connection, filter).await?;
    let zone = &known.billing_zone;
    let mut lines = report.lines(connection, filter).await?;
    if lines.is_empty() {
        is_known(filter, connection).await?;
    }
    if args.no_total {
        lines.retain(|line| !line.total);
    }
    let columns = report.columns();
    match args.format {
        Format::Table => {
            output::stderr_line(&format!(
                "{}, {} to {}, both included ({zone})",
                report.about(),
                filter.from,
                filter.to
            ));
            output::stdout_line(&laid_out(&columns, &lines));
        }
        Format::Csv => {
            let reader = if args.excel { CsvDialect::Spreadsheet } else { CsvDialect::Program };
            output::Stdout.write_all(&sheet(filter, &known, &columns, &lines, reader)?)?;
        }
        Format::Json => output::json_line(&json(report, filter, &known, &columns, &lines)?),
    }
    for line in words::lines(&known) {
        output::stderr_line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails where there is no call at all of what was asked for: a wrong name must not look like a bill of nothing.
async fn is_known(filter: &ReportFilter, connection: &mut PgConnection) -> anyhow::Result<()> {
    if let Some(account) = &filter.account {
        is_among("account", account, &billing::accounts(connection).await?)?;
    }
    if let Some(customer) = &filter.customer {
        is_among("customer", customer, &billing::customers(connection).await?)?;
    }
    Ok(())
}

/// The cells of a line; a total says so in its first one.
fn cells(line: &ReportLine) -> impl Iterator<Item = Option<&str>> {
    line.cells
        .iter()
        .enumerate()
        .map(|(at, cell)| if line.total && at == 0 { Some("total") } else { cell.as_deref() })
}

fn laid_out(columns: &[Column], lines: &[ReportLine]) -> String {
    let numbers =
        columns.iter().zip(0..).filter(|(column, _)| column.kind == ColumnKind::Number).map(|(_, at)| at);
    let mut table = table::open(columns.iter().map(|column| column.name), numbers);
    for line in lines {
        // In a total, the columns that it does not go by are empty.
        let empty = if line.total { "" } else { "-" };
        table.add_row(
            cells(line).map(|cell| cell.map_or_else(|| empty.to_owned(), |cell| plain(cell).into_owned())),
        );
    }
    table.to_string()
}

/// A file is passed on without the words around it: each line says from when to when it is, of which zone, and up to when it is
/// complete.
fn sheet(
    filter: &ReportFilter,
    known: &Completeness,
    columns: &[Column],
    lines: &[ReportLine],
    reader: CsvDialect,
) -> std::io::Result<Vec<u8>> {
    let (from, to) = (filter.from.to_string(), filter.to.to_string());
    let header: Vec<&str> = columns
        .iter()
        .map(|column| column.name)
        .chain(["from", "to", "billing_zone", "complete_to"])
        .collect();
    let mut sheet = CsvFile::new(Vec::new(), reader, &header)?;
    for line in lines {
        let values = cells(line).zip(columns).map(|(cell, column)| (cell, column.kind == ColumnKind::Number));
        let said = [Some(from.as_str()), Some(&to), Some(&known.billing_zone), known.complete_to.as_deref()];
        sheet.add(values.chain(said.map(|said| (said, false))))?;
    }
    sheet.end()
}

fn json(
    report: Report,
    filter: &ReportFilter,
    known: &Completeness,
    columns: &[Column],
    lines: &[ReportLine],
) -> serde_json::Result<String> {
    let rows = |total: bool| -> serde_json::Result<Vec<String>> {
        lines.iter().filter(|line| line.total == total).map(|line| object(columns, line)).collect()
    };
    Ok(format!(
        r#"{{"report":{},"from":"{}","to":"{}","billing_zone":{},"rows":[{}],"totals":[{}],"completeness":{}}}"#,
        serde_json::to_string(report.name())?,
        filter.from,
        filter.to,
        serde_json::to_string(&known.billing_zone)?,
        rows(false)?.join(","),
        rows(true)?.join(","),
        serde_json::to_string(known)?
    ))
}

/// A line as an object. Numbers are numbers, digit by digit as Postgres prints them; a total has what it goes by.
fn object(columns: &[Column], line: &ReportLine) -> serde_json::Result<String> {
    let mut members = Vec::new();
    for (column, cell) in columns.iter().zip(&line.cells) {
        let value = match cell {
            None if line.total && column.name != "currency" => continue,
            None => RawValue::from_string("null".to_owned())?,
            // Postgres has numbers that JSON has not (NaN, Infinity): those are text.
            Some(text) if column.kind == ColumnKind::Number => RawValue::from_string(text.clone())
                .or_else(|_| RawValue::from_string(serde_json::to_string(text)?))?,
            Some(text) => RawValue::from_string(serde_json::to_string(text)?)?,
        };
        members.push(format!("{}:{value}", serde_json::to_string(column.name)?));
    }
    Ok(format!("{{{}}}", members.join(",")))
}
