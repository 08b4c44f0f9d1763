//! A comparison as a person reads it, as JSON, and its differences as CSV. Differences come one by one: there may be a million.

use std::fs::File;
use std::io::Write as _;

use crate::cli::output::{self, table};
use crate::db::reconcile::{ReconcileDifference, SIDES};
use crate::reconcile::Comparison;
use crate::vobiz::{plain, plain_json};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Map, Value, json};

pub(super) type DifferenceStream<'a> = BoxStream<'a, Result<ReconcileDifference, sqlx::Error>>;

/// Lines that are laid out together; a table of all would have to be held.
const PAGE: usize = 1000;

fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".into(), |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// Summary, sums, differences. `by_line`: their rows have line numbers that mean something.
pub(super) async fn text(
    comparison: &Comparison,
    mut differences: DifferenceStream<'_>,
    by_line: bool,
) -> Result<(), sqlx::Error> {
    summary(comparison);
    let mut rows = Vec::new();
    let mut shown = 0;
    while let Some(difference) = differences.try_next().await? {
        shown += 1;
        rows.push(difference);
        if rows.len() == PAGE {
            page(&rows, by_line);
            rows.clear();
        }
    }
    page(&rows, by_line);
    if comparison.counts.differences() > shown {
        output::stderr_line("only the first differences are shown: see --limit, --all and --out");
    }
    Ok(())
}

fn summary(comparison: &Comparison) {
    let counts = &comparison.counts;
    output::stdout_line(if comparison.equal { "equal" } else { "not equal" });
    let accounts = comparison.accounts.as_ref().map_or_else(|| "all".to_owned(), |named| named.join(", "));
    if let (Some(from), Some(until)) = (comparison.from, comparison.until) {
        output::stdout_line(&format!("calls from {} until {}", time(Some(from)), time(Some(until))));
    }
    output::stdout_line(&format!("accounts: {}", plain(&accounts)));
    output::stdout_line(&format!("compared: {}\n", comparison.compared.join(", ")));
    let mut calls = table::open(["", "calls"], [1]);
    for (name, count) in [
        ("here", counts.calls_here),
        ("there", counts.calls_there),
        ("equal", counts.equal),
        ("missing here", counts.missing_here),
        ("missing there", counts.missing_there),
        ("differing", counts.differing),
        ("unreadable rows", counts.unreadable),
        ("contradicting rows", counts.contradicting),
        ("charged twice", counts.charged_twice),
        ("repeated rows", counts.repeated),
        ("ambiguous here", counts.ambiguous_here),
        ("ambiguous there", counts.ambiguous_there),
        ("left out", counts.left_out),
    ] {
        // The rare ones only where there are any.
        if count > 0
            || ["here", "there", "equal", "missing here", "missing there", "differing"].contains(&name)
        {
            calls.add_row([name.to_owned(), count.to_string()]);
        }
    }
    output::stdout_line(&calls.to_string());
    let mut sums = table::open(["currency", "", "here", "there", "difference"], 2..5);
    let known = |what: &str| what == "calls" || comparison.compared.contains(&what);
    for total in comparison.totals.iter().filter(|total| known(&total.what)) {
        let number = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        sums.add_row([
            plain(total.currency.as_deref().unwrap_or("-")).into_owned(),
            total.what.clone(),
            number(&total.here),
            number(&total.there),
            number(&total.difference),
        ]);
    }
    if !comparison.totals.is_empty() {
        output::stdout_line(&format!("\n{sums}"));
    }
}

fn page(rows: &[ReconcileDifference], by_line: bool) {
    if rows.is_empty() {
        return;
    }
    let mut header = vec!["what", "call", "began", "from", "to", "in detail"];
    if by_line {
        header.insert(1, "line");
    }
    let mut page = table::open(&header, []);
    for row in rows {
        let text = |text: Option<&str>| text.map_or_else(|| "-".into(), |text| plain(text).into_owned());
        let differing = row.fields().map(|(field, here, there)| {
            format!(
                "{field} {} here, {} there",
                here.map_or_else(|| "nothing".into(), plain),
                there.map_or_else(|| "nothing".into(), plain)
            )
        });
        let details: Vec<String> =
            differing.chain(row.why.as_deref().map(|why| plain(why).into_owned())).collect();
        let mut cells = vec![
            row.kind.replace('_', " "),
            text(row.call_id.as_deref()),
            time(row.called_at),
            text(row.from_number.as_deref()),
            text(row.to_number.as_deref()),
            details.join("; "),
        ];
        if by_line {
            cells.insert(1, row.line.map_or_else(|| "-".into(), |line| line.to_string()));
        }
        page.add_row(cells);
    }
    output::stdout_line(&format!("\n{page}"));
}

/// One object on one line: the comparison, and `differences` at its end.
pub(super) async fn json(
    comparison: &Comparison,
    mut differences: DifferenceStream<'_>,
) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(output::Stdout);
    let head = serde_json::to_string(comparison)?;
    write!(out, "{},\"differences\":[", plain_json(head.strip_suffix('}').unwrap_or(&head)))?;
    let mut separator = "";
    while let Some(difference) = differences.try_next().await? {
        write!(out, "{separator}{}", plain_json(&in_json(&difference).to_string()))?;
        separator = ",";
    }
    writeln!(out, "]}}")?;
    Ok(out.flush()?)
}

fn in_json(row: &ReconcileDifference) -> Value {
    let side = |values: &[Option<String>]| -> Value {
        let said =
            SIDES.iter().zip(values).filter_map(|(field, value)| Some((*field, json!(value.as_ref()?))));
        said.map(|(field, value)| (field.to_owned(), value)).collect::<Map<_, _>>().into()
    };
    json!({
        "kind": row.kind,
        "line": row.line,
        "call_id": row.call_id,
        "account_id": row.account_id,
        "from": row.from_number,
        "to": row.to_number,
        "called_at": row.called_at,
        "differs": row.fields().map(|(field, _, _)| field).collect::<Vec<_>>(),
        "here": side(&row.here),
        "there": side(&row.there),
        "why": row.why,
    })
}

/// The full list in a file.
pub(super) struct List<'a>(csv::Writer<&'a File>);

impl<'a> List<'a> {
    /// Begins it with a header line.
    pub(super) fn new(file: &'a File) -> csv::Result<Self> {
        let mut list = csv::Writer::from_writer(file);
        let names = ["kind", "line", "call_id", "account_id", "from", "to", "called_at", "differs"];
        let sides = SIDES.iter().flat_map(|field| [format!("{field}_here"), format!("{field}_there")]);
        list.write_record(names.map(str::to_owned).into_iter().chain(sides).chain(["why".to_owned()]))?;
        Ok(Self(list))
    }

    /// Adds a call.
    pub(super) fn add(&mut self, row: &ReconcileDifference) -> csv::Result<()> {
        let text =
            |text: &Option<String>| text.as_deref().map(|text| plain(text).into_owned()).unwrap_or_default();
        let differs: Vec<&str> = row.fields().map(|(field, _, _)| field).collect();
        let mut cells = vec![
            row.kind.clone(),
            row.line.map(|line| line.to_string()).unwrap_or_default(),
            text(&row.call_id),
            text(&row.account_id),
            text(&row.from_number),
            text(&row.to_number),
            row.called_at.map(|at| at.to_rfc3339()).unwrap_or_default(),
            differs.join(" "),
        ];
        cells.extend(row.here.iter().zip(&row.there).flat_map(|(here, there)| [text(here), text(there)]));
        cells.push(text(&row.why));
        self.0.write_record(cells)
    }

    /// Ends it.
    pub(super) fn end(mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
