//! Rows that are no call, but the sum of those before them. Pure. They are never taken for calls, and never believed: each is held against
//! the rows that it sums up.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cell;
use super::date::{self, NoMoment};
use super::decimal::DecimalMark;
use super::heading::CURRENCIES;
use crate::db::reconcile::{Closeness, NUMBERS, SECONDS, TheirCall};
use crate::vobiz::{Half, Numeric, written};

/// So many of them are told one by one.
const SHOWN: usize = 100;
/// So many that no rows before them explain are kept until all rows are known.
const KEPT: usize = 1000;

/// A row that sums up others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TotalRow {
    /// Where it stands.
    pub line: i64,
    /// What is wrong with it: its sums that are not those of the rows, or cannot be read.
    pub wrong: Vec<String>,
    /// What is right about it, but only rounded, nearly or of other rows than it says, and what of it could not be held against rows.
    pub remarks: Vec<String>,
    /// How many of its sums are those of the rows.
    pub right: i64,
    /// How many are not, but so near that they pass.
    pub near: i64,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TotalRows {
    /// How many there are.
    pub rows: i64,
    /// How many have something wrong.
    pub wrong: i64,
    /// The first of them, those before that have something wrong.
    pub shown: Vec<TotalRow>,
}

/// What such a row says.
#[derive(Debug, Default)]
pub(super) struct SaidTotal {
    /// Its sums that stand under their columns, their currency, and what is unreadable among them.
    pub(super) call: TheirCall,
    /// The cell that makes it one.
    pub(super) label: String,
    /// Other cells that say something.
    pub(super) others: Vec<String>,
}

/// Words that say a sum, and those that may stand beside them.
const SUM: [&str; 8] = ["total", "totals", "subtotal", "subtotals", "sum", "sums", "gesamt", "summe"];
const BEFORE_SUM: [&str; 6] = ["grand", "sub", "overall", "net", "report", "page"];
const BEHIND_SUM: [&str; 13] =
    ["of", "all", "amount", "cost", "costs", "calls", "call", "total", "rows", "records", "for", "the", "in"];

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn currency_of(word: &str) -> Option<&'static str> {
    let word = word.trim_matches(|c: char| "()[]:".contains(c)).to_lowercase();
    CURRENCIES.iter().find(|(sign, _)| *sign == word).map(|(_, code)| *code)
}

/// Whether this is how the row of a sum is headed.
pub(super) fn is_label(text: &str) -> bool {
    let words = words(text);
    let words = match words.split_first() {
        Some((first, rest)) if BEFORE_SUM.contains(&first.as_str()) => rest,
        _ => &words[..],
    };
    let Some((first, rest)) = words.split_first() else { return false };
    let may_follow = |word: &String| {
        BEHIND_SUM.contains(&word.as_str())
            || word.bytes().all(|b| b.is_ascii_digit())
            || currency_of(word.trim_end_matches(|c: char| c.is_ascii_digit())).is_some()
    };
    SUM.contains(&first.as_str()) && rest.iter().all(may_follow)
}

/// Whether it heads the sum of a part.
fn is_of_a_part(label: &str) -> bool {
    let words = words(label);
    words.first().is_some_and(|word| ["sub", "page", "subtotal", "subtotals"].contains(&word.as_str()))
}

/// What is said behind the words for a sum: `109.97` of `Total: 109.97`; and the currency.
fn behind_the_words(label: &str) -> (String, Option<&'static str>) {
    let is_word = |word: &&str| {
        let words = words(word);
        let known = |word: &String| {
            let word = word.as_str();
            SUM.contains(&word) || BEFORE_SUM.contains(&word) || BEHIND_SUM.contains(&word)
        };
        currency_of(word).is_none() && words.iter().all(known) && !word.contains(|c: char| c.is_ascii_digit())
    };
    let words: Vec<&str> = label.split_whitespace().flat_map(|word| word.split_inclusive(':')).collect();
    let currency = words.iter().find_map(|word| currency_of(word));
    let rest: Vec<&str> = words.into_iter().skip_while(is_word).collect();
    let rest = rest.join(" ");
    if rest.contains(|c: char| c.is_ascii_digit()) { (rest, currency) } else { (String::new(), currency) }
}

/// Whether it begins as a number does, and is no date: `7 minutes`, `999,99 rupees`.
fn is_a_number(text: &str) -> bool {
    let begins = text.trim_start_matches(|c: char| "+-−(₹$€£".contains(c) || c.is_whitespace());
    let is_a_day = matches!(date::moment(text, None), Ok(_) | Err(NoMoment::Ambiguous | NoMoment::DayAlone));
    begins.starts_with(char::is_numeric) && !is_a_day && written::moment(text).is_none()
}

/// The sum of so many values.
#[derive(Debug, Clone, Default)]
struct SumOfValues {
    sum: Numeric,
    /// That of the same values, each rounded as `--decimals` says.
    rounded: Numeric,
    values: u32,
}

type SumsOfNumbers = [SumOfValues; NUMBERS.len()];

/// SumsOfNumbers of rows, of amounts by currency: those of different ones are only added up by who wrote the file.
#[derive(Debug, Clone, Default)]
struct RowSums {
    rows: u32,
    all: SumsOfNumbers,
    by_currency: BTreeMap<String, SumsOfNumbers>,
}

fn add(sums: &mut SumsOfNumbers, call: &TheirCall, decimals: Option<usize>) {
    for (sum, value) in sums.iter_mut().zip(call.numbers()) {
        if let Some(value) = value {
            sum.sum = &sum.sum + value;
            sum.rounded = match decimals {
                Some(decimals) if value.scale() > decimals => {
                    &sum.rounded + &value.rounded(decimals, Half::Up)
                }
                _ => &sum.rounded + value,
            };
            sum.values += 1;
        }
    }
}

impl RowSums {
    fn add(&mut self, call: &TheirCall, decimals: Option<usize>) {
        self.rows += 1;
        add(&mut self.all, call, decimals);
        let has_amount = call.numbers().into_iter().skip(SECONDS.len()).any(Option::is_some);
        if has_amount {
            let currency = call.currency.clone().unwrap_or_default();
            add(self.by_currency.entry(currency).or_default(), call, decimals);
        }
    }

    /// The sums that a total may be: of a currency, of all rows where they name none; without one, of each currency and of all.
    fn of(&self, at: usize, currency: Option<&str>) -> Vec<&SumOfValues> {
        let mut sums: Vec<&SumsOfNumbers> = match currency.filter(|_| at >= SECONDS.len()) {
            None => [&self.all].into_iter().chain(self.by_currency.values()).collect(),
            Some(_) if self.by_currency.keys().all(String::is_empty) => vec![&self.all],
            Some(code) => self.by_currency.get(code).into_iter().collect(),
        };
        sums.retain(|sums| sums[at].values > 0);
        sums.into_iter().map(|sums| &sums[at]).collect()
    }
}

/// What there is to hold a row against.
struct KnownSums<'a> {
    /// Of the rows since the total row before it.
    since: &'a RowSums,
    /// Of all rows before it.
    before: &'a RowSums,
    /// Of all rows; not known yet while the file is read.
    all: Option<&'a RowSums>,
    /// What a sum may be off by.
    closeness: &'a Closeness,
}

/// One sum that was found.
struct FoundSum {
    /// Of all rows, where that of a part is said.
    of_others: bool,
    like: Likeness,
}

/// How what was said is like a sum, and that sum.
enum Likeness {
    Equal,
    Rounded(Numeric),
    Near(Numeric),
}

impl KnownSums<'_> {
    fn sums(&self, at: usize, currency: Option<&str>, is_of_a_part: bool) -> Vec<(bool, &SumOfValues)> {
        let sums = [Some(self.since), Some(self.before), self.all];
        let sums =
            sums.into_iter().enumerate().filter_map(|(nth, sums)| Some((nth > 0 && is_of_a_part, sums?)));
        sums.flat_map(|(other, sums)| sums.of(at, currency).into_iter().map(move |sum| (other, sum)))
            .collect()
    }

    fn find(sums: &[(bool, &SumOfValues)], said: &Numeric) -> Option<FoundSum> {
        let found = |of_others: bool, like| Some(FoundSum { of_others, like });
        // Of no rows there is no sum.
        if sums.is_empty() && *said == Numeric::default() {
            return found(false, Likeness::Equal);
        }
        if let Some((other, _)) = sums.iter().find(|(_, sum)| sum.sum == *said) {
            return found(*other, Likeness::Equal);
        }
        let (other, sum) = sums.iter().find(|(_, sum)| sum.sum.rounded(said.scale(), Half::Up) == *said)?;
        found(*other, Likeness::Rounded(sum.sum.normalize()))
    }

    /// A sum of amounts, or of the same amounts rounded one by one, that is no further off than the tolerance: a sum is one amount, and
    /// what one row may be off is no room for all of them.
    fn find_near(&self, sums: &[(bool, &SumOfValues)], said: &Numeric) -> Option<FoundSum> {
        let tolerance = self.closeness.tolerance.clone().unwrap_or_default();
        let is_near = |sum: &SumOfValues| {
            [&sum.sum, &sum.rounded].into_iter().any(|sum| sum.minus(said).abs() <= tolerance)
        };
        let (other, sum) = sums.iter().find(|(_, sum)| is_near(sum))?;
        Some(FoundSum { of_others: *other, like: Likeness::Near(sum.sum.normalize()) })
    }

    fn judge(&self, said: &SaidTotal, decimal: DecimalMark) -> TotalRow {
        let mut row = TotalRow { line: said.call.line, ..TotalRow::default() };
        row.wrong.extend(said.call.unreadable.clone());
        let (behind, in_label) = behind_the_words(&said.label);
        let currency = said.call.currency.as_deref().or(in_label);
        if let (Some(label), Some(cells)) = (in_label, said.call.currency.as_deref())
            && label != cells
        {
            row.wrong.push(format!("its words say {label}, its amounts {cells}"));
        }
        let is_of_a_part = is_of_a_part(&said.label);
        for (at, (name, number)) in NUMBERS.iter().zip(said.call.numbers()).enumerate() {
            let Some(number) = number else { continue };
            let code = currency.filter(|_| at >= SECONDS.len());
            let words =
                code.map_or_else(|| format!("{name} {number}"), |code| format!("{name} {number} {code}"));
            let sums = self.sums(at, currency, is_of_a_part);
            let near = || self.find_near(&sums, number).filter(|_| at >= SECONDS.len());
            match Self::find(&sums, number).or_else(near) {
                None => {
                    let sum = self.before.of(at, currency).first().map(|sum| sum.sum.normalize());
                    row.wrong.push(match (sum, code) {
                        (None, Some(code)) => format!("{words}, but no row before it is in {code}"),
                        (sum, _) => {
                            format!("{words}, but the rows before it add up to {}", sum.unwrap_or_default())
                        }
                    });
                }
                Some(found) => row.note(&words, found),
            }
        }
        for other in [behind].iter().chain(&said.others).filter(|text| !text.is_empty()) {
            self.judge_other(other, currency, decimal, is_of_a_part, &mut row);
        }
        if row == (TotalRow { line: row.line, ..TotalRow::default() }) {
            row.remarks.push("it says no sum".to_owned());
        }
        row
    }

    /// A sum that stands under no column of ours: that of any of them, or how many rows there are.
    fn judge_other(
        &self,
        text: &str,
        currency: Option<&str>,
        decimal: DecimalMark,
        is_of_a_part: bool,
        row: &mut TotalRow,
    ) {
        let shown = super::heading::shown(text);
        let behind = if is_label(text) { behind_the_words(text).0 } else { text.to_owned() };
        // `Amount: 999.99`.
        let words = behind.rsplit_once([':', '=']);
        let text = match words {
            Some((words, number)) if words.starts_with(char::is_alphabetic) => number,
            _ => &behind,
        };
        let bare = text.trim_matches(|c: char| c.is_whitespace() || "()[]:=".contains(c));
        let number = bare.split_whitespace().next().unwrap_or_default();
        let counted = number.parse::<u32>().ok().filter(|_| {
            let unit = bare[number.len()..].trim().to_lowercase();
            ["", "calls", "call", "rows", "records"].contains(&&*unit)
        });
        let sets = [Some(self.since), Some(self.before), self.all];
        if counted.is_some_and(|count| sets.into_iter().flatten().any(|sums| sums.rows == count)) {
            row.right += 1;
            return;
        }
        let spelling = cell::Spelling { decimal: Some(decimal), dates: None };
        let by_the_clock = || cell::seconds(bare, Some(spelling)).map(|seconds| (seconds, None));
        let Ok((said, sign)) = cell::amount(bare, decimal).or_else(|_| by_the_clock()) else {
            if counted.is_some() {
                row.wrong.push(format!("{shown}, but {} rows are before it", self.before.rows));
            } else if is_a_number(bare) {
                row.wrong.push(format!(
                    "{shown:?} was not held against anything: it cannot be told what it is of"
                ));
            } else if text.contains(|c: char| c.is_ascii_digit()) {
                row.remarks.push(format!("{shown:?} was not held against the rows"));
            }
            return;
        };
        let code = sign.or(currency);
        let first = if code.is_some() { SECONDS.len() } else { 0 };
        let known = (first..NUMBERS.len()).filter(|at| self.has(*at));
        let known: Vec<_> = known.map(|at| (at, self.sums(at, code, is_of_a_part))).collect();
        let found = known.iter().find_map(|(at, sums)| Some((*at, Self::find(sums, &said)?)));
        let amounts = || known.iter().filter(|(at, _)| *at >= SECONDS.len());
        let near = || amounts().find_map(|(at, sums)| Some((*at, self.find_near(sums, &said)?)));
        match found.or_else(near) {
            Some((at, found)) => row.note(&format!("{} {said}", NUMBERS[at]), found),
            None => row.wrong.push(format!(
                "{shown:?} is no sum of the rows before it that is known, and not how many they are"
            )),
        }
    }

    fn has(&self, at: usize) -> bool {
        [Some(self.before), self.all].into_iter().flatten().any(|sums| sums.all[at].values > 0)
    }
}

impl TotalRow {
    fn note(&mut self, words: &str, found: FoundSum) {
        match found.like {
            Likeness::Equal => self.right += 1,
            Likeness::Rounded(sum) => {
                self.right += 1;
                self.remarks.push(format!("{words} is the sum of the rows, {sum}, rounded"));
            }
            Likeness::Near(sum) => {
                self.near += 1;
                self.remarks.push(format!(
                    "{words} is not the sum of the rows, {sum}, but no further from it than --decimals and --tolerance allow"
                ));
            }
        }
        if found.of_others {
            self.remarks
                .push(format!("{words} is the sum of all rows, not of those since the total row before it"));
        }
    }
}

/// One that waits for the rest of the file.
struct WaitingTotal {
    said: SaidTotal,
    before: RowSums,
    since: RowSums,
}

/// The sums of a file that is being read.
#[derive(Default)]
pub(super) struct Totals {
    closeness: Closeness,
    all: RowSums,
    since: RowSums,
    waiting: Vec<WaitingTotal>,
    judged: TotalRows,
}

impl Totals {
    /// Where sums may be off by so much.
    pub(super) fn new(closeness: Closeness) -> Self {
        Self { closeness, ..Self::default() }
    }

    /// A row of a call.
    pub(super) fn add(&mut self, call: &TheirCall) {
        let decimals = self.closeness.decimals.map(usize::from);
        self.all.add(call, decimals);
        self.since.add(call, decimals);
    }

    /// A row that says sums.
    pub(super) fn say(&mut self, said: SaidTotal, decimal: DecimalMark) {
        let since = std::mem::take(&mut self.since);
        let known = KnownSums { since: &since, before: &self.all, all: None, closeness: &self.closeness };
        let row = known.judge(&said, decimal);
        // A total may stand above its rows, and be that of them to the digit.
        if (!row.wrong.is_empty() || row.near > 0) && self.waiting.len() < KEPT {
            self.waiting.push(WaitingTotal { said, before: self.all.clone(), since });
        } else {
            self.judged.add(row);
        }
    }

    /// All of them, with what is to be said of each.
    pub(super) fn judge(mut self, decimal: DecimalMark) -> TotalRows {
        for WaitingTotal { said, before, since } in std::mem::take(&mut self.waiting) {
            let closeness = &self.closeness;
            let known = KnownSums { since: &since, before: &before, all: Some(&self.all), closeness };
            self.judged.add(known.judge(&said, decimal));
        }
        self.judged.shown.sort_by_key(|row| row.line);
        self.judged
    }
}

impl TotalRows {
    fn add(&mut self, row: TotalRow) {
        self.rows += 1;
        self.wrong += i64::from(!row.wrong.is_empty());
        if self.shown.len() < SHOWN {
            self.shown.push(row);
        } else if !row.wrong.is_empty()
            && let Some(fine) = self.shown.iter().rposition(|shown| shown.wrong.is_empty())
        {
            self.shown[fine] = row;
        }
    }
}

#[cfg(test)]
#[path = "total_tests.rs"]
mod tests;
