//! Another's list as a file. Promises: every line is a row, a line that is counted, or part of one; a row's id stands on it; in a plain file
//! (commas, no quotation marks) numbers are those that are written there, or the row says that it cannot be read.

use crate::bounds::{Bounds, bounded};
use crate::db::reconcile::{Closeness, TheirCall};
use crate::independent::{Exact, assert_exact};
use crate::reconcile::{DateOrder, DecimalMark, Export, FileFacts, Spelling, Wrong};
use crate::vobiz::written;

/// Its buffers, and rows of one character.
const BOUNDS: Bounds = Bounds { bytes_per_byte: 1024 };

/// The first byte chooses how values are written, where the person at the keyboard says so.
pub fn run(input: &[u8]) {
    let Some((choice, file)) = input.split_first() else { return };
    let (decimal, dates) = match choice {
        b'.' => (Some(DecimalMark::Point), Some(DateOrder::DayMonthYear)),
        b',' => (Some(DecimalMark::Comma), Some(DateOrder::MonthDayYear)),
        _ => (None, None),
    };
    let read = bounded(BOUNDS, file, |file| read(file, Spelling { decimal, dates }));
    let Ok(Some((calls, facts))) = read else { return };
    let mut before = 0;
    for call in &calls {
        assert!(call.line > before, "lines go up");
        before = call.line;
        assert!(
            call.call_id.is_some() || call.unreadable.is_some(),
            "a row without a call that says nothing"
        );
    }
    let lines = i64::try_from(file.split(|byte| *byte == b'\n').count()).unwrap_or(i64::MAX);
    // Files of old Macs have other ends of lines.
    if facts.encoding == "UTF-8" && !file.contains(&b'\r') {
        assert!(before <= lines && facts.title_lines + facts.blank_rows <= lines, "{lines} lines, {facts:?}");
        if decimal != Some(DecimalMark::Comma) {
            plain(file, &calls);
        }
    }
}

fn read(file: &[u8], spelling: Spelling) -> Result<Option<(Vec<TheirCall>, FileFacts)>, Wrong> {
    let now = "2026-11-27T00:00:00Z".parse().expect("a time");
    let Some(mut export) = Export::open(file, spelling, Closeness::default(), now)? else { return Ok(None) };
    let mut calls = Vec::new();
    loop {
        let more = export.read(64)?;
        if more.is_empty() {
            return Ok(Some((calls, export.facts()?)));
        }
        calls.extend(more);
    }
}

/// The rows of a plain file, by another reader: the header is its first line, cells are what stands between commas.
fn plain(file: &[u8], calls: &[TheirCall]) {
    let Ok(text) = std::str::from_utf8(file) else { return };
    let plain = text
        .bytes()
        .all(|b| matches!(b, b'\n' | b' '..=b'~') && !matches!(b, b'"' | b'\'' | b';' | b'=' | b'|'));
    let mut lines = text.lines();
    let Some(header) = lines.next().filter(|_| plain) else { return };
    let header: Vec<&str> = header.split(',').collect();
    let column = |name: &str| {
        let mut places = header.iter().enumerate().filter(|(_, title)| **title == name).map(|(at, _)| at);
        places.next().filter(|_| places.next().is_none())
    };
    // Other headings may be read for the same; this reader knows only those of the export.
    let known = [
        "uuid",
        "cost",
        "total_cost",
        "streaming_cost",
        "billsec",
        "duration",
        "currency",
        "account_id",
        "start_time",
    ];
    if header.len() < 2 || !header.iter().all(|title| known.contains(title)) {
        return;
    }
    let Some(uuid) = column("uuid") else { return };
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    for call in calls {
        let Some(row) = usize::try_from(call.line - 2).ok().and_then(|at| rows.get(at)) else {
            panic!("line {} is none of {}", call.line, rows.len() + 1)
        };
        if row.len() != header.len() {
            continue;
        }
        if let Some(id) = &call.call_id {
            assert!(id.eq_ignore_ascii_case(row[uuid].trim()), "{id} of {:?}", row[uuid]);
        }
        for (name, read) in [
            ("cost", &call.cost),
            ("streaming_cost", &call.streaming_cost),
            ("total_cost", &call.total_cost),
            ("billsec", &call.billsec),
            ("duration", &call.duration),
        ] {
            let Some(cell) = column(name).map(|at| row[at].trim()) else {
                assert!(read.is_none(), "{name} of nowhere");
                continue;
            };
            let is_plain = cell.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-')
                && Exact::of(cell).is_some_and(|exact| exact.whole_digits() <= 50 && exact.decimals() <= 100);
            match read {
                Some(read) if is_plain => assert_exact(read.as_str(), cell),
                Some(_) => assert!(!written::is_nothing(cell), "{name} of nothing is {read:?}"),
                None => assert!(
                    call.unreadable.is_some() || written::is_nothing(cell),
                    "{name} of {cell:?} is nothing, and the row says nothing"
                ),
            }
        }
    }
}
