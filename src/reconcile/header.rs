//! The header line: where it stands, what separates its columns, and which of them says what. Pure. Its names, their order and spelling
//! are unpublished, so columns are found by name, in any order, and those we do not need are ignored.

use ::csv::{ByteRecord, ReaderBuilder};

use super::date::DateOrder;
use super::{Wrong, text};

/// What we read, and the names of its columns in exports, as they are without case, blanks and signs. The first is Vobiz's own. The
/// start is taken as `vobiz.cdr.day_at` takes it.
const NAMES: [(&str, &[&str]); 12] = [
    ("call_id", &["uuid", "callid", "calluuid"]),
    ("record_id", &["id"]),
    ("account_id", &["accountid"]),
    ("from", &["calleridnumber", "fromnumber", "callernumber", "from", "caller"]),
    ("to", &["destinationnumber", "tonumber", "callednumber", "destination", "to"]),
    (
        "started_at",
        &[
            "starttime",
            "startedat",
            "calldatetime",
            "datetime",
            "timestamp",
            "endtime",
            "endedat",
            "createdat",
        ],
    ),
    ("duration", &["duration", "callduration", "totalduration"]),
    (
        "billsec",
        &["billsec", "billseconds", "billableseconds", "billedseconds", "billedduration", "billduration"],
    ),
    ("cost", &["cost", "callcost"]),
    ("streaming_cost", &["streamingcost"]),
    (
        "total_cost",
        &["totalcost", "totalamount", "amount", "totalcharge", "totalcharges", "charge", "charges"],
    ),
    ("currency", &["currency", "currencycode"]),
];

/// Lines that are looked at for the header.
const LOOKED_AT: usize = 200;
/// What separates columns; a spreadsheet saves with what its country uses.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Codes of currencies, and other ways in which they are written.
pub(super) const CURRENCIES: [(&str, &str); 17] = [
    ("₹", "INR"),
    ("rupees", "INR"),
    ("rupee", "INR"),
    ("inr", "INR"),
    ("rs.", "INR"),
    ("rs", "INR"),
    ("usd", "USD"),
    ("€", "EUR"),
    ("eur", "EUR"),
    ("£", "GBP"),
    ("gbp", "GBP"),
    ("aed", "AED"),
    ("sgd", "SGD"),
    ("aud", "AUD"),
    ("cad", "CAD"),
    ("jpy", "JPY"),
    ("chf", "CHF"),
];

/// A column of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeadedColumn {
    pub(super) at: usize,
    /// As it is headed.
    pub(super) title: String,
    pub(super) unit: Unit,
    /// Its place among the names of [`NAMES`].
    rank: usize,
}

/// What a heading says of the values below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unit {
    Plain,
    Currency(&'static str),
    Zone(String),
    Dates(DateOrder),
    /// One that we cannot compare.
    Other,
}

/// The header line.
#[derive(Debug)]
pub(super) struct Header {
    /// For each of [`NAMES`], its columns; of several the first that says something counts.
    columns: [Vec<HeadedColumn>; NAMES.len()],
    /// Cells of a row: as many as there are headings, the last ones left away where they have none.
    pub(super) width: std::ops::RangeInclusive<usize>,
    /// Columns read by another name than Vobiz's, and the name.
    pub(super) read_as: Vec<(String, &'static str)>,
    /// Columns that say the same as one that is read.
    pub(super) not_read: Vec<String>,
    squeezed: Vec<String>,
}

/// Where it stands.
pub(super) struct FoundHeader {
    pub(super) header: Header,
    pub(super) separator: u8,
    /// The byte at which it begins.
    pub(super) at: usize,
    /// Lines before it that say something.
    pub(super) title_lines: i64,
    /// Lines before it that say nothing.
    pub(super) blank_lines: i64,
}

/// Looks for the header in the beginning of a file; None if there is nothing at all.
pub(super) fn find(start: &[u8]) -> Result<Option<FoundHeader>, Wrong> {
    let mut lines = Vec::new();
    let mut at = 0;
    for line in start.split_inclusive(|byte| *byte == b'\n').take(LOOKED_AT) {
        lines.push((at, line));
        at += line.len();
    }
    let said = lines.iter().find_map(|(_, line)| separator_said(line));
    let separators = said.as_ref().map_or(&SEPARATORS[..], std::slice::from_ref);
    let (mut best, mut most) = (None, 0);
    for (nth, (at, line)) in lines.iter().enumerate() {
        for separator in separators.iter().filter(|_| !is_blank_line(line)) {
            let cells = record(&start[*at..], *separator);
            let known = cells.iter().filter(|cell| place(cell).is_some()).count();
            if known > most && cells.iter().any(|cell| place(cell).is_some_and(|(field, ..)| field == 0)) {
                most = known;
                best = Some((nth, *separator, cells));
            }
        }
        // A title may have a word that is a heading, too; a line with two of them is the header, and what follows is rows.
        if most >= 2 {
            break;
        }
    }
    let said_something = |(_, line): &&(usize, &[u8])| !is_blank_line(line) && separator_said(line).is_none();
    let Some((nth, separator, cells)) = best else {
        let Some((at, line)) = lines.iter().find(said_something) else { return Ok(None) };
        let most = separators.iter().rev().max_by_key(|one| line.split(|byte| byte == *one).count());
        return Err(Wrong::NoIdColumn(shown(
            &record(&start[*at..], most.copied().unwrap_or(b',')).join(", "),
        )));
    };
    let before = &lines[..nth];
    Ok(Some(FoundHeader {
        header: Header::of(&cells)?,
        separator,
        at: lines[nth].0,
        title_lines: i64::try_from(before.iter().filter(said_something).count()).unwrap_or_default(),
        blank_lines: i64::try_from(before.iter().filter(|(_, line)| is_blank_line(line)).count())
            .unwrap_or_default(),
    }))
}

/// Text of a file as a terminal may be given it, and not too much of it.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `sep=;`, by which Excel tells itself.
fn separator_said(line: &[u8]) -> Option<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_prefix(b"\"").map_or(line, |line| line.strip_suffix(b"\"").unwrap_or(line));
    match line {
        [s, e, p, b'=', one] if [*s, *e, *p].eq_ignore_ascii_case(b"sep") && one.is_ascii() => Some(*one),
        _ => None,
    }
}

fn is_blank_line(line: &[u8]) -> bool {
    line.iter().all(|byte| SEPARATORS.contains(byte) || b"\n\" \x1a\x0c".contains(byte))
}

fn record(text: &[u8], separator: u8) -> Vec<String> {
    // A header of many lines is none.
    let text = &text[..text.len().min(32_768)];
    let mut record = ByteRecord::new();
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text);
    match reader.read_byte_record(&mut record) {
        Ok(true) => record.iter().map(|cell| title(&text::cell(cell).0)).collect(),
        _ => Vec::new(),
    }
}

/// A heading as it is shown: without marks and quotes around it, on one line.
fn title(cell: &str) -> String {
    let cell: Vec<&str> = cell.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    cell.join(" ").trim_matches(|c: char| c.is_whitespace() || "\u{feff}\"'".contains(c)).to_owned()
}

/// Without case, blanks and signs, but for those of a currency.
fn squeezed(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_alphanumeric() || "₹€£$%".contains(*c))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Which of [`NAMES`] a heading is, by which of its names, and in which unit.
fn place(title: &str) -> Option<(usize, usize, Unit)> {
    let named = |name: &str| {
        let name = squeezed(name);
        NAMES
            .iter()
            .enumerate()
            .find_map(|(field, (_, names))| Some((field, names.iter().position(|known| *known == name)?)))
    };
    if let Some((field, rank)) = named(title) {
        return Some((field, rank, Unit::Plain));
    }
    let closed = title.strip_suffix([')', ']']);
    if let Some((name, written)) = closed.and_then(|title| title.rsplit_once(['(', '[']))
        && let Some((field, rank)) = named(name)
    {
        // An id or a number of a phone has no unit: `Call ID (SIP)` is another thing.
        let has_unit = matches!(NAMES[field].0, "started_at") || is_number(field);
        return has_unit.then(|| (field, rank, unit(field, written).unwrap_or(Unit::Other)));
    }
    title.rmatch_indices([' ', '_', '-', '/', ',']).find_map(|(at, _)| {
        let (field, rank) = named(&title[..at])?;
        let written = &title[at + 1..];
        let written = written.strip_prefix("in ").or_else(|| written.strip_prefix("in_")).unwrap_or(written);
        Some((field, rank, unit(field, written)?))
    })
}

fn is_number(field: usize) -> bool {
    is_money(field) || matches!(NAMES[field].0, "duration" | "billsec")
}

fn is_money(field: usize) -> bool {
    matches!(NAMES[field].0, "cost" | "streaming_cost" | "total_cost")
}

fn unit(field: usize, written: &str) -> Option<Unit> {
    let written = written.trim().to_lowercase();
    if is_money(field) {
        let code = CURRENCIES.iter().find(|(sign, _)| *sign == written);
        return code.map(|(_, code)| Unit::Currency(code));
    }
    if is_number(field) {
        let seconds = ["s", "sec", "secs", "second", "seconds", "hh:mm:ss", "h:mm:ss", "mm:ss", "hhmmss"]
            .contains(&&*written);
        return seconds.then_some(Unit::Plain);
    }
    if NAMES[field].0 != "started_at" {
        return None;
    }
    match &*written {
        "utc" | "gmt" | "z" => return Some(Unit::Zone("UTC".into())),
        // Of India, where Vobiz is: which zone was taken is said.
        "ist" | "asia/kolkata" | "asia/calcutta" | "utc+5:30" | "utc+05:30" | "gmt+5:30" | "gmt+05:30"
        | "+05:30" => {
            return Some(Unit::Zone("Asia/Kolkata".into()));
        }
        _ => {}
    }
    let order: String = written.split([' ', 't']).next()?.chars().filter(|c| "dmy".contains(*c)).collect();
    let mut order: Vec<char> = order.chars().collect();
    order.dedup();
    order.into_iter().collect::<String>().parse().ok().map(Unit::Dates)
}

impl Header {
    fn of(titles: &[String]) -> Result<Self, Wrong> {
        let mut columns = [const { Vec::new() }; NAMES.len()];
        for (at, title) in titles.iter().enumerate() {
            if let Some((field, rank, unit)) = place(title) {
                columns[field].push(HeadedColumn { at, title: shown(title), unit, rank });
            }
        }
        let (mut read_as, mut not_read) = (Vec::new(), Vec::new());
        for (field, columns) in columns.iter_mut().enumerate() {
            columns.sort_by_key(|column| (column.unit == Unit::Other, column.rank));
            for (one, other) in columns.iter().zip(columns.iter().skip(1)) {
                if one.rank == other.rank && (one.unit == Unit::Other) == (other.unit == Unit::Other) {
                    return Err(Wrong::TwiceThere(one.title.clone()));
                }
            }
            // Of ids and times each row may have another; an amount beside the amount is another amount.
            if !matches!(NAMES[field].0, "call_id" | "started_at") {
                not_read.extend(columns.drain(1.min(columns.len())..).map(|column| column.title));
            }
            if let Some(column) = columns.iter().find(|column| column.unit == Unit::Other) {
                return Err(Wrong::OtherUnit(column.title.clone()));
            }
            let named = columns.iter().filter(|column| is_number(field) && column.rank > 0);
            read_as.extend(named.map(|column| (column.title.clone(), NAMES[field].0)));
        }
        let least = titles.iter().rposition(|title| !title.is_empty()).map_or(0, |at| at + 1);
        let squeezed = titles.iter().map(|title| squeezed(title)).collect();
        Ok(Self { columns, width: least..=titles.len(), read_as, not_read, squeezed })
    }

    /// The columns of one of our names.
    pub(super) fn columns(&self, name: &str) -> &[HeadedColumn] {
        NAMES
            .iter()
            .zip(&self.columns)
            .find(|((ours, _), _)| *ours == name)
            .map_or(&[], |(_, columns)| columns)
    }

    /// Whether a row is this line again, as where files were put together.
    pub(super) fn is_again(&self, record: &ByteRecord) -> bool {
        record.len() == self.squeezed.len()
            && record.iter().zip(&self.squeezed).all(|(cell, name)| squeezed(&text::cell(cell).0) == *name)
    }

    /// The zone that the headings of times name, and the order of their dates.
    pub(super) fn times(&self) -> Result<(Option<String>, Option<DateOrder>), Wrong> {
        let (mut zone, mut dates) = (None, None);
        for column in self.columns("started_at") {
            match &column.unit {
                Unit::Zone(named) if zone.get_or_insert_with(|| named.clone()) != named => {
                    return Err(Wrong::OtherUnit(column.title.clone()));
                }
                Unit::Dates(order) if dates.get_or_insert(*order) != order => {
                    return Err(Wrong::OtherUnit(column.title.clone()));
                }
                _ => {}
            }
        }
        Ok((zone, dates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(title: &str) -> Option<(&'static str, Unit)> {
        place(title).map(|(field, _, unit)| (NAMES[field].0, unit))
    }

    #[test]
    fn a_heading_is_found_however_it_is_spelt() {
        for name in [
            "uuid",
            "UUID",
            "Call UUID",
            "call_uuid",
            "CallUUID",
            "Call Id",
            "CALL-ID",
            "call.id",
            " call  id ",
        ] {
            assert_eq!(placed(&title(name)), Some(("call_id", Unit::Plain)), "{name}");
        }
        for (name, field, unit) in [
            ("Amount (INR)", "total_cost", Unit::Currency("INR")),
            ("Amount [₹]", "total_cost", Unit::Currency("INR")),
            ("Total Cost in Rs.", "total_cost", Unit::Currency("INR")),
            ("TOTAL_COST_INR", "total_cost", Unit::Currency("INR")),
            ("Cost ₹", "cost", Unit::Currency("INR")),
            ("Cost (USD)", "cost", Unit::Currency("USD")),
            ("Cost (paise)", "cost", Unit::Other),
            ("Amount (incl. GST)", "total_cost", Unit::Other),
            ("Duration (min)", "duration", Unit::Other),
            ("Duration (Sec)", "duration", Unit::Plain),
            ("duration_seconds", "duration", Unit::Plain),
            ("Bill Sec", "billsec", Unit::Plain),
            ("Start Time (IST)", "started_at", Unit::Zone("Asia/Kolkata".into())),
            ("Start Time UTC", "started_at", Unit::Zone("UTC".into())),
            ("Start Time (DD/MM/YYYY HH:MM)", "started_at", Unit::Dates(DateOrder::DayMonthYear)),
        ] {
            assert_eq!(placed(name), Some((field, unit)), "{name}");
        }
        for name in
            ["Cost Center", "SIP Call ID", "bridge_uuid", "UUID of bridge", "Call ID (SIP)", "Account", ""]
        {
            assert_eq!(placed(name), None, "{name}");
        }
    }

    #[test]
    fn the_header_is_the_line_that_names_most_of_what_we_read() {
        for (text, at, separator, titles, blank) in [
            ("uuid,cost\n", 0, b',', 0, 0),
            ("sep=;\nuuid;cost\n", 6, b';', 0, 0),
            ("\"SEP=|\"\nuuid|cost\n", 8, b'|', 0, 0),
            ("Calls of November\nFor: Acme, Inc; Pune\n\n;;\nuuid;cost\n", 43, b';', 2, 2),
            ("\"An open quote\nuuid\tcost\n", 15, b'\t', 1, 0),
            ("Call ID\nuuid,cost\na,1\n", 8, b',', 1, 0),
            ("\n\"Call\n UUID\",\"Amount\n(INR)\"\n", 1, b',', 0, 1),
        ] {
            let found = find(text.as_bytes()).unwrap().unwrap();
            assert_eq!((found.at, found.separator as char), (at, separator as char), "{text:?}");
            assert_eq!((found.title_lines, found.blank_lines), (titles, blank), "{text:?}");
        }
    }

    #[test]
    fn of_two_columns_for_one_thing_one_is_read_and_the_other_said() {
        let header = |text: &str| find(text.as_bytes()).map(|found| found.unwrap().header);
        let both = header("uuid,Amount,Total Cost,Duration (min),Duration (s)\n").unwrap();
        assert_eq!(both.columns("total_cost")[0].at, 2);
        assert_eq!(both.columns("duration")[0].at, 4);
        assert_eq!(both.not_read, ["Duration (min)", "Amount"]);
        let named = header("uuid,Amount (INR)\n").unwrap();
        assert_eq!(named.read_as, [("Amount (INR)".to_owned(), "total_cost")]);
        assert!(matches!(header("uuid,cost,Cost\n"), Err(Wrong::TwiceThere(_))));
        assert!(matches!(header("uuid,Cost (INR),Cost (USD)\n"), Err(Wrong::TwiceThere(_))));
        assert!(matches!(header("uuid,Cost (paise)\n"), Err(Wrong::OtherUnit(_))));
    }
}
