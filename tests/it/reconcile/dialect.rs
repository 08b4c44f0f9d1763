//! One list in the dialects of the programs that write lists, crossed with each other: each says the same, and one changed amount is
//! found in each.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use serde_json::json;
use vobiz_cdr::db::reconcile::differences;
use vobiz_cdr::reconcile::{self, Comparison, DateOrder, DecimalMark, ReconcileRequest, Spelling, Wrong};

use crate::support::database::Database;
use crate::support::their_list::{kinds, plain};

/// Amounts of the calls, in paise.
const AMOUNTS: [i64; 7] = [45, 12_345_678, 0, -150, 100_000, 1_234_567_800, 7];

struct Dialect {
    end: &'static str,
    separator: u8,
    sep_line: bool,
    titles: usize,
    blank: usize,
    total: Option<&'static str>,
    header: [&'static str; 5],
    encoding: &'static str,
    decimal: DecimalMark,
    grouping: &'static str,
    sign: &'static str,
    time: &'static str,
    dates: Option<DateOrder>,
    quoted: bool,
}

fn one<T: Copy>(random: &mut StdRng, of: &[T]) -> T {
    of[random.random_range(0..of.len())]
}

impl Dialect {
    fn random(random: &mut StdRng) -> Self {
        let encoding = one(random, &["UTF-8", "UTF-8 with a mark", "UTF-16LE", "UTF-16BE", "windows-1252"]);
        let mut signs = vec!["", "Rs. #", "INR #", "# INR", "Rs #/-"];
        let mut headers = vec![
            ["uuid", "start_time", "billsec", "total_cost", "caller_id_name"],
            ["Call UUID", "Start Time", "Bill Sec", "Total Cost", "Name"],
            ["CallUUID", "START-TIME", "Billsec (s)", "Amount (INR)", "Note"],
            ["call_id", "StartTime", "billable seconds", "Amount in Rs.", "Text"],
            ["Call Id", "\u{a0}start time ", "BILLSEC", "TOTAL_COST_INR", "x"],
        ];
        if encoding != "windows-1252" {
            signs.extend(["₹#", "₹ #", "# ₹"]);
            headers.push(["\"UUID\"", "Start Time", "billsec", "Amount (₹)", "é"]);
        }
        let (time, dates) = one(
            random,
            &[
                ("%Y-%m-%dT%H:%M:%SZ", None),
                ("%Y-%m-%d %H:%M:%S", None),
                ("%Y/%m/%d %H:%M:%S", None),
                ("%d/%m/%Y %H:%M:%S", Some(DateOrder::DayMonthYear)),
                ("%d.%m.%y %H:%M", Some(DateOrder::DayMonthYear)),
                ("%m/%d/%Y %I:%M:%S %p", Some(DateOrder::MonthDayYear)),
                ("%y-%m-%d %H:%M", Some(DateOrder::YearMonthDay)),
                ("%d-%b-%Y %H:%M", None),
            ],
        );
        Self {
            end: one(random, &["\n", "\r\n", "\r", "\r\r\n"]),
            separator: one(random, b",;\t|"),
            sep_line: random.random(),
            titles: random.random_range(0..3),
            blank: random.random_range(0..4),
            total: one(random, &[None, Some("Total"), Some("Grand Total:"), Some("TOTAL")]),
            header: one(random, &headers),
            encoding,
            decimal: one(random, &[DecimalMark::Point, DecimalMark::Comma]),
            grouping: one(random, &["none", "Indian", "by threes"]),
            sign: one(random, &signs),
            time,
            dates,
            quoted: random.random(),
        }
    }

    fn amount(&self, paise: i64) -> String {
        let (mark, group) = match self.decimal {
            DecimalMark::Point => ('.', ','),
            DecimalMark::Comma => (',', '.'),
        };
        let digits = (paise.abs() / 100).to_string();
        let mut text = if paise < 0 { "-".to_owned() } else { String::new() };
        for (at, digit) in digits.chars().enumerate() {
            let left = digits.len() - at;
            let size = if self.grouping == "Indian" { 2 } else { 3 };
            if self.grouping != "none" && at > 0 && left >= 3 && (left - 3).is_multiple_of(size) {
                text.push(group);
            }
            text.push(digit);
        }
        write!(text, "{mark}{:02}", paise.abs() % 100).unwrap();
        if self.sign.is_empty() { text } else { self.sign.replace('#', &text) }
    }

    /// The file, with an amount of each call.
    fn write(&self, amounts: &[i64]) -> Vec<u8> {
        let mut random = StdRng::seed_from_u64(7);
        let quotes = if self.quoted { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let mut rows = csv::WriterBuilder::new()
            .delimiter(self.separator)
            .quote_style(quotes)
            .flexible(true)
            .from_writer(Vec::new());
        rows.write_record(self.header).unwrap();
        let mut blank_after: Vec<usize> =
            (0..self.blank).map(|_| random.random_range(0..amounts.len())).collect();
        blank_after.sort_unstable();
        for (nth, paise) in amounts.iter().enumerate() {
            let at = if self.time.ends_with('Z') { start(nth) } else { start(nth) + TimeDelta::minutes(330) };
            let time = at.format(self.time).to_string();
            rows.write_record([&id(nth), &time, "42", &self.amount(*paise), "Caf\u{e9}; \"Süd\", Pune"])
                .unwrap();
            for _ in blank_after.iter().filter(|after| **after == nth) {
                rows.write_record(["", "", "", " ", ""]).unwrap();
            }
        }
        if let Some(label) = self.total {
            rows.write_record([label, "", "", &self.amount(amounts.iter().sum()), ""]).unwrap();
        }
        let rows = String::from_utf8(rows.into_inner().unwrap()).unwrap();
        let mut text = String::new();
        if self.sep_line {
            writeln!(text, "sep={}", char::from(self.separator)).unwrap();
        }
        for title in 0..self.titles {
            writeln!(text, "Calls of March, {title}; by \"Acme").unwrap();
        }
        let text = (text + &rows).replace('\n', self.end);
        let units = |text: &str| text.encode_utf16().collect::<Vec<_>>();
        match self.encoding {
            "UTF-8" => text.into_bytes(),
            "UTF-8 with a mark" => format!("\u{feff}{text}").into_bytes(),
            "UTF-16LE" => units(&format!("\u{feff}{text}")).into_iter().flat_map(u16::to_le_bytes).collect(),
            "UTF-16BE" => units(&format!("\u{feff}{text}")).into_iter().flat_map(u16::to_be_bytes).collect(),
            // The first 256 characters of Unicode have the bytes of Latin-1.
            _ => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(),
        }
    }

    fn asked(&self) -> ReconcileRequest {
        let spelling = Spelling { decimal: Some(self.decimal), dates: self.dates };
        ReconcileRequest { spelling, ..ReconcileRequest::default() }
    }
}

fn id(nth: usize) -> String {
    format!("0d0d0020-0000-4000-8000-{nth:012}")
}

/// Days and months that may be taken for each other.
fn start(nth: usize) -> DateTime<Utc> {
    let first: DateTime<Utc> = "2026-03-05T04:30:00Z".parse().unwrap();
    first + TimeDelta::hours(i64::try_from(nth).unwrap() * 20)
}

async fn stored() -> Database {
    let db = Database::new().await;
    for (nth, paise) in AMOUNTS.iter().enumerate() {
        let mut call = plain('a');
        call["uuid"] = json!(id(nth));
        call["start_time"] = json!(start(nth));
        call["total_cost"] = json!(format!(
            "{}{}.{:02}",
            if *paise < 0 { "-" } else { "" },
            paise.abs() / 100,
            paise.abs() % 100
        ));
        db.store(call).await;
    }
    db
}

async fn compared(db: &Database, file: &[u8], asked: &ReconcileRequest) -> (Comparison, Vec<String>) {
    let mut connection = db.connection().await;
    let comparison = reconcile::with_csv(&mut connection, file, asked).await.unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(file));
    });
    let found: Vec<_> = differences(&mut connection, None).try_collect().await.unwrap();
    let details = found.iter().filter_map(|found| found.why.clone());
    (comparison, kinds(&found).into_iter().chain(details).collect())
}

#[tokio::test]
async fn a_list_is_the_same_in_every_dialect_and_one_changed_amount_is_found_in_each() {
    let db = stored().await;
    let mut random = StdRng::seed_from_u64(20);
    for _ in 0..60 {
        let dialect = Dialect::random(&mut random);
        let file = dialect.write(&AMOUNTS);
        let shown = String::from_utf8_lossy(&file).into_owned();
        let (comparison, found) = compared(&db, &file, &dialect.asked()).await;
        assert!(comparison.equal && found.is_empty(), "{found:?} {comparison:?}\n{shown}");
        assert_eq!(comparison.counts.equal, 7);
        let facts = comparison.file.unwrap();
        let titles = i64::try_from(dialect.titles).unwrap();
        let blank = i64::try_from(dialect.blank).unwrap();
        assert_eq!((facts.title_lines, facts.blank_rows), (titles, blank), "{shown:?}");
        assert_eq!(facts.totals.rows, i64::from(dialect.total.is_some()), "{shown}");
        assert!(facts.totals.shown.iter().all(|total| total.right == 1), "{shown}");

        let mut amounts = AMOUNTS;
        let changed = random.random_range(0..amounts.len());
        amounts[changed] += one(&mut random, &[1, -1, 100, 90_000]);
        let (comparison, found) = compared(&db, &dialect.write(&amounts), &dialect.asked()).await;
        assert_eq!(found, [format!("differs {}", id(changed))], "{shown}");
        assert!(!comparison.equal);
    }
}

#[tokio::test]
async fn a_total_row_that_contradicts_its_rows_makes_the_lists_differ() {
    let db = stored().await;
    let mut random = StdRng::seed_from_u64(21);
    for _ in 0..10 {
        let dialect = Dialect { total: None, ..Dialect::random(&mut random) };
        let dialect = Dialect { encoding: "UTF-8", end: "\n", ..dialect };
        let total = |paise: i64| {
            let separator = char::from(dialect.separator);
            let amount = dialect.amount(paise);
            format!("Total{separator}{separator}{separator}\"{amount}\"{separator}\n").into_bytes()
        };
        let sum: i64 = AMOUNTS.iter().sum();
        let (right, _) =
            compared(&db, &[dialect.write(&AMOUNTS), total(sum)].concat(), &dialect.asked()).await;
        assert!(right.equal, "{right:?}");
        let (wrong, found) =
            compared(&db, &[dialect.write(&AMOUNTS), total(sum + 1)].concat(), &dialect.asked()).await;
        assert!(!wrong.equal && found.is_empty(), "{found:?}");
        assert_eq!(wrong.file.unwrap().totals.wrong, 1);
    }
}

#[tokio::test]
async fn a_date_that_may_be_two_days_is_refused_with_its_place() {
    let db = stored().await;
    let mut connection = db.connection().await;
    for (text, at) in [
        ("uuid,Start Time\na,20/03/2026 10:00\nb,05/03/2026 10:00\n", (3, "Start Time")),
        ("Calls\n\nuuid,start_time,end_time\na,1970-01-01 00:00,5.3.26 10:00\n", (4, "end_time")),
    ] {
        let refused =
            reconcile::with_csv(&mut connection, text.as_bytes(), &ReconcileRequest::default()).await;
        match refused {
            Err(reconcile::ReconcileError::Wrong(Wrong::AmbiguousDate { line, column, .. })) => {
                assert_eq!((line, &*column), at);
            }
            other => panic!("{other:?}"),
        }
    }
}
