//! `vobiz-cdr export`: the itemised calls of one customer in one month, as files that prove themselves.
//!
//! A month that is not over, or not settled with Vobiz for every account in which the customer may have calls, is refused unless it
//! is asked for anyway; then the names of its files say so.
//!
//! Files are written beside their final names and renamed when all of them are whole; the manifest comes last, so a folder with a
//! manifest has everything in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::output::{self, completeness as words, counted};
use crate::config::DatabaseArgs;
use crate::db::bill::billing::{self, ReportFilter};
use crate::db::bill::completeness::{self, Completeness};
use crate::db::bill::itemised::{self, COLUMNS, TOTALS};
use anyhow::{Context, bail};
use chrono::{Datelike, Days, Months, NaiveDate};
use clap::Args;
use futures_util::TryStreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use crate::cli::args::{Usage, is_account, is_among};
use crate::cli::csv::{CsvDialect, CsvFile};
use crate::cli::database;

/// Flags of `export`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ExportArgs {
    /// The customer, as vobiz.customer_rule names it, or unassigned
    #[arg(long, value_name = "NAME")]
    customer: String,
    /// The month, YYYY-MM, in the billing zone of this database (vobiz.setting)
    #[arg(long, value_parser = month, value_name = "MONTH")]
    month: NaiveDate,
    /// Only the calls of this account; then only its days must be settled
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Also a month that is not over or not settled with Vobiz; the names of the files say so
    #[arg(long)]
    anyway: bool,
    /// Folder for the files; made if it is not there
    #[arg(long, default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// For a spreadsheet: no value is taken for a formula, phone numbers stay as they are, as text
    #[arg(long)]
    excel: bool,
    /// Calls in one file at most
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    rows_per_file: u64,
    /// Print what was written, or why nothing was, as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

fn month(text: &str) -> Result<NaiveDate, &'static str> {
    let day = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d");
    day.ok().filter(|_| text.len() == 7).ok_or("write a month such as 2026-03")
}

/// Writes the files. Exit code 1 where the customer has no call in the month, or the month is not complete; 2 where nobody has ever heard
/// of the customer or the account.
pub(in crate::cli) async fn run(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.customer.trim().is_empty() {
        bail!(Usage("--customer: say whose calls".to_owned()));
    }
    database::on_database(&args.database, "export", async |connection| {
        database::say_place(&args.database)?;
        itemised::begin_snapshot(connection).await?;
        let done = write(args, connection).await;
        // After a failure the connection is closed, which ends it too; a second error would hide the first.
        if done.is_ok() {
            itemised::end_snapshot(connection).await?;
        }
        done
    })
    .await
}

async fn write(args: &ExportArgs, connection: &mut PgConnection) -> anyhow::Result<ExitCode> {
    let month = args.month.format("%Y-%m");
    let last =
        args.month.checked_add_months(Months::new(1)).and_then(|next| next.checked_sub_days(Days::new(1)));
    let filter = ReportFilter {
        from: args.month,
        to: last.context("a month beyond the calendar")?,
        account: args.account.clone(),
        customer: Some(args.customer.clone()),
    };
    let known = completeness::read(connection, &filter).await?;
    let account = args.account.as_deref();
    let complete_to = known.complete_to.as_deref();
    let totals = itemised::totals(connection, &args.customer, args.month, account, complete_to).await?;
    if totals.is_empty() {
        // A slip of the pen is no month without calls.
        if let Some(account) = account {
            is_account(connection, account).await?;
        }
        is_among("customer", &args.customer, &billing::customers(connection).await?)?;
        let named = itemised::customers(connection, args.month).await?;
        let named = if named.is_empty() { "nobody".to_owned() } else { named.join(", ") };
        let of = account.map(|account| format!(" of account {account}")).unwrap_or_default();
        output::stderr_line(&format!(
            "vobiz-cdr: {} has no call{of} in {month}; who has: {named}",
            args.customer
        ));
        for line in words::held(&known) {
            output::stderr_line(&line);
        }
        say(args, &known, 0, &[]);
        return Ok(ExitCode::FAILURE);
    }
    if !known.complete && !args.anyway {
        refuse(args, &known);
        return Ok(ExitCode::FAILURE);
    }
    let mut files = Files::new(args, known.complete)?;
    // Everything but the numbers is text to a spreadsheet.
    let mut calls = itemised::calls(connection, &args.customer, args.month, account);
    let (mut sheet, mut rows, mut parts) = (None, 0_u64, 0_u32);
    while let Some(cells) = calls.try_next().await? {
        if sheet.is_none() {
            parts += 1;
            sheet = Some(files.begin(&format!("{parts:03}.csv"), &COLUMNS)?);
        }
        if let Some(open) = &mut sheet {
            // duration, billsec, pulse_minutes; currency stands before the three amounts.
            let numeric = |at| (14..17).contains(&at) || (18..21).contains(&at);
            open.add(cells.iter().enumerate().map(|(at, cell)| (cell.as_deref(), numeric(at))))?;
        }
        rows += 1;
        if rows.is_multiple_of(args.rows_per_file)
            && let Some(full) = sheet.take()
        {
            files.end(full)?;
        }
    }
    drop(calls);
    if let Some(last) = sheet {
        files.end(last)?;
    }
    let mut sheet = files.begin("totals.csv", &TOTALS)?;
    for total in &totals {
        // The counts and amounts, before complete_to.
        let numeric = |at| (4..14).contains(&at);
        sheet.add(total.cells.iter().enumerate().map(|(at, cell)| (cell.as_deref(), numeric(at))))?;
    }
    files.end(sheet)?;
    let names: Vec<String> = files.done.iter().map(|(name, _)| name.clone()).collect();
    let manifest = files.finish()?;
    output::stderr_line(&format!(
        "{} in {}; {path} proves them: sha256sum -c {path}",
        counted(rows, "call", "calls"),
        counted(parts, "file", "files"),
        path = manifest.display()
    ));
    for line in words::lines(&known) {
        output::stderr_line(&line);
    }
    say(args, &known, rows, &names);
    Ok(ExitCode::SUCCESS)
}

/// Says why nothing was written, and what to do.
fn refuse(args: &ExportArgs, known: &Completeness) {
    let month = args.month.format("%Y-%m");
    let Completeness { ends_local, billing_zone, .. } = known;
    let why = if known.over { "is not settled with Vobiz" } else { "is not over" };
    output::stderr_line(&format!("vobiz-cdr: {month} {why}, so nothing was written"));
    for line in words::held(known).iter().chain(&words::unread(known)) {
        output::stderr_line(&format!("  {line}"));
    }
    output::stderr_line(&format!(
        "It can be exported once every account is safe to bill up to {ends_local} ({billing_zone}): `vobiz-cdr status` and \
         vobiz.safe_to_bill say what holds it, docs/runbook.md what to do. --anyway exports what is there; --account ID asks of one \
         account only."
    ));
    say(args, known, 0, &[]);
}

/// For a program: what was written, and what is known of the month.
fn say(args: &ExportArgs, known: &Completeness, calls: u64, files: &[String]) {
    if args.json {
        let all = json!({
            "customer": args.customer, "month": args.month.format("%Y-%m").to_string(), "account": args.account,
            "calls": calls, "files": files, "completeness": known,
        });
        output::json_line(&all.to_string());
    }
}

/// The files of one export, on their way.
struct Files {
    dir: PathBuf,
    stem: String,
    reader: CsvDialect,
    /// Name and hash of each that is whole.
    done: Vec<(String, String)>,
    open: Option<String>,
}

impl Files {
    /// What is exported although it is not complete says so in its name, and is not in the way of the bill.
    fn new(args: &ExportArgs, complete: bool) -> anyhow::Result<Self> {
        let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let whose = [Some(args.customer.as_str()), args.account.as_deref()]
            .map(|word| word.map(|word| word.chars().map(safe).collect::<String>()));
        let whose = whose.into_iter().flatten().collect::<Vec<_>>().join("-");
        let (whose, end) = (whose.trim_start_matches('.'), if complete { "" } else { "-incomplete" });
        let stem = format!("{whose}-{}-{:02}{end}", args.month.year(), args.month.month());
        let reader = if args.excel { CsvDialect::Spreadsheet } else { CsvDialect::Program };
        let files = Self { dir: args.dir.clone(), stem, reader, done: Vec::new(), open: None };
        let manifest = files.path(&files.manifest());
        if manifest.exists() {
            bail!(Usage(format!(
                "{} is there already: what was handed out is not overwritten; choose another --dir",
                manifest.display()
            )));
        }
        fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
        Ok(files)
    }

    fn manifest(&self) -> String {
        format!("{}.sha256", self.stem)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn begin(&mut self, end: &str, header: &[&str]) -> anyhow::Result<CsvFile<Hashed>> {
        let name = format!("{}-{end}", self.stem);
        let path = part(&self.path(&name));
        let file = create(&path).with_context(|| path.display().to_string())?;
        self.open = Some(name);
        let out = Hashed { file: BufWriter::new(file), hash: Sha256::new() };
        Ok(CsvFile::new(out, self.reader, header)?)
    }

    fn end(&mut self, sheet: CsvFile<Hashed>) -> anyhow::Result<()> {
        let Hashed { mut file, hash } = sheet.end()?;
        file.flush()?;
        file.get_ref().sync_all()?;
        if let Some(name) = self.open.take() {
            self.done.push((name, hex::encode(hash.finalize())));
        }
        Ok(())
    }

    /// Gives all files their names; returns the path of the manifest.
    fn finish(self) -> anyhow::Result<PathBuf> {
        let mut manifest = Vec::new();
        for (name, hash) in &self.done {
            let path = self.path(name);
            fs::rename(part(&path), &path).with_context(|| path.display().to_string())?;
            writeln!(manifest, "{hash}  {name}")?;
        }
        let path = self.path(&self.manifest());
        let mut file = create(&part(&path)).with_context(|| path.display().to_string())?;
        file.write_all(&manifest).with_context(|| path.display().to_string())?;
        fs::rename(part(&path), &path)?;
        Ok(path)
    }
}

/// An empty file for its owner alone: who else may read phone numbers and money is for the owner to say. What an export that was cut short
/// has left there is nobody's.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// A file that knows the hash of what was written.
struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
