//! What was measured: every value of every turn, medians and their spread, ratios, and the bars that they are held to.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use sha2::{Digest, Sha256};

/// A figure: scenario, what, variant.
type Key = (String, String, String);

/// Collects and prints.
pub(crate) struct Report {
    quick: bool,
    order: Vec<Key>,
    figures: BTreeMap<Key, (&'static str, Vec<f64>)>,
    bars: Vec<Bar>,
    machine: Vec<(String, String)>,
    noise: Vec<f64>,
}

struct Bar {
    what: String,
    value: f64,
    wanted: String,
    holds: bool,
}

/// A line for the person who waits.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

impl Report {
    /// An empty one.
    pub(crate) fn new(quick: bool) -> Self {
        let (order, figures, bars) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { quick, order, figures, bars, machine: Vec::new(), noise: Vec::new() }
    }

    /// Notes what it ran on.
    pub(crate) fn machine(&mut self, postgres: u32, settings: &[(&str, &str)]) {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.lines().next().unwrap_or("memory unknown").split_whitespace().nth(1);
        let memory = memory.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib / 1024 / 1024);
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
        self.machine = vec![
            ("cores".into(), cores.to_string()),
            ("cpu".into(), cpu.trim_start_matches([' ', '\t', ':']).to_owned()),
            ("memory_gib".into(), memory.to_string()),
            ("postgres".into(), postgres.to_string()),
            ("settings".into(), format!("fsync=on synchronous_commit=on {}", settings.join(" "))),
        ];
    }

    /// Adds a value.
    pub(crate) fn add(&mut self, scenario: &str, what: &str, variant: &str, unit: &'static str, value: f64) {
        let key = (scenario.to_owned(), what.to_owned(), variant.to_owned());
        say(&format!("  {what}, {variant}: {} {unit}", shown(value)));
        if !self.figures.contains_key(&key) {
            self.order.push(key.clone());
        }
        self.figures.entry(key).or_insert_with(|| (unit, Vec::new())).1.push(value);
    }

    /// The median of a figure so far; not a number if there is none.
    pub(crate) fn median(&self, scenario: &str, what: &str, variant: &str) -> f64 {
        let key = (scenario.to_owned(), what.to_owned(), variant.to_owned());
        self.figures.get(&key).map_or(f64::NAN, |(_, values)| median(values))
    }

    /// One median over another.
    pub(crate) fn ratio(&self, scenario: &str, what: &str, variant: &str, base: &str) -> f64 {
        self.median(scenario, what, variant) / self.median(scenario, what, base)
    }

    /// Holds a value to a lower bar; one that was not measured, to none.
    pub(crate) fn at_least(&mut self, what: &str, value: f64, bar: f64) {
        if value.is_nan() {
            return;
        }
        let holds = value >= bar;
        self.bars.push(Bar { what: what.to_owned(), value, wanted: format!(">= {}", shown(bar)), holds });
    }

    /// Holds a value to an upper bar; one that was not measured, to none.
    pub(crate) fn at_most(&mut self, what: &str, value: f64, bar: f64) {
        if value.is_nan() {
            return;
        }
        let holds = value <= bar;
        self.bars.push(Bar { what: what.to_owned(), value, wanted: format!("<= {}", shown(bar)), holds });
    }

    /// Does a fixed piece of work on one core: if it takes longer than before, the machine is slower than before.
    pub(crate) fn take_noise(&mut self) {
        let started = Instant::now();
        let mut digest = [0_u8; 32];
        for _ in 0..400_000 {
            digest = Sha256::digest(digest).into();
        }
        std::hint::black_box(digest);
        self.noise.push(started.elapsed().as_secs_f64() * 1000.0);
    }

    /// Prints everything and writes the JSON; whether all bars hold.
    #[expect(clippy::disallowed_methods, reason = "a failed write fails it")]
    pub(crate) fn finish(&self, file: Option<&Path>) -> anyhow::Result<bool> {
        let mut out = std::io::stdout().lock();
        for (name, value) in &self.machine {
            writeln!(out, "{name}: {value}")?;
        }
        if !self.noise.is_empty() {
            writeln!(out, "noise: a fixed piece of work took {}", spread(&self.noise, "ms"))?;
        }
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["scenario", "what", "variant", "median", "unit", "spread"]);
        for column in [3, 5] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for key in &self.order {
            let (unit, values) = &self.figures[key];
            let (low, high) = ends(values);
            let width =
                if values.len() > 1 { format!("{} … {}", shown(low), shown(high)) } else { String::new() };
            let (scenario, what, variant) = key;
            table.add_row([scenario, what, variant, &shown(median(values)), *unit, &width]);
        }
        writeln!(out, "\n{table}\n")?;
        let mut bars = Table::new();
        bars.load_style(presets::ASCII_MARKDOWN);
        bars.set_header(["figure", "measured", "bar", ""]);
        for bar in &self.bars {
            let word = if bar.holds { "holds" } else { "MISSED" };
            bars.add_row([&bar.what, &shown(bar.value), &bar.wanted, word]);
        }
        if !self.bars.is_empty() {
            writeln!(out, "{bars}")?;
        }
        if self.quick {
            writeln!(out, "A quick run: these figures show that it works, not how fast it is.")?;
        }
        if let Some(file) = file {
            std::fs::write(file, serde_json::to_vec_pretty(&self.json())?)?;
        }
        Ok(self.bars.iter().all(|bar| bar.holds))
    }

    fn json(&self) -> serde_json::Value {
        let figures: Vec<_> = self
            .order
            .iter()
            .map(|key| {
                let (unit, values) = &self.figures[key];
                let (scenario, what, variant) = key;
                json!({"scenario": scenario, "what": what, "variant": variant, "unit": unit, "median": median(values), "values": values})
            })
            .collect();
        let bars: Vec<_> = self
            .bars
            .iter()
            .map(|bar| json!({"figure": bar.what, "measured": bar.value, "bar": bar.wanted, "holds": bar.holds}))
            .collect();
        let machine: serde_json::Map<_, _> =
            self.machine.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({"machine": machine, "quick": self.quick, "noise_ms": self.noise, "figures": figures, "bars": bars})
    }
}

fn ends(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
}

fn spread(values: &[f64], unit: &str) -> String {
    let (low, high) = ends(values);
    format!("{} {unit} (from {} to {})", shown(median(values)), shown(low), shown(high))
}

/// Three digits that matter.
fn shown(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "-".into(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
