//! The command line of the simulator: flags -> [`SimulatorOptions`], then calls until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::args::Usage;
use crate::simulator::{
    Casing, Faults, ListFaults, SimulatedAccount, Simulator, SimulatorOptions, SummaryCurrencies, Traffic,
    TrafficProgress,
};

/// Flags of `simulate`.
#[derive(Debug, Clone, Args)]
pub(super) struct SimulateArgs {
    /// Address of the CDR API
    #[arg(long, default_value = "127.0.0.1:9080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Account whose calls these are
    #[arg(long, default_value = "MA_SIMULATE", value_name = "ID")]
    auth_id: String,
    /// Its token
    #[arg(long, default_value = "tok_simulated_main", value_name = "TOKEN")]
    auth_token: String,
    /// Where voice callbacks go, signed for this URL
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,
    /// Send voice callbacks here instead, still signed for the callback URL (as through a proxy)
    #[arg(long, value_name = "URL")]
    callback_sent_to: Option<String>,
    /// Where trunk webhooks go: unsigned, so put the secret into the path
    #[arg(long, value_name = "URL")]
    trunk_url: Option<String>,
    /// Calls to make, then keep answering; without a callback URL they are only listed
    #[arg(long, default_value_t = 0, value_name = "N")]
    calls: u64,
    /// Calls a second
    #[arg(long, default_value_t = 10, value_name = "RATE")]
    per_second: u32,
    /// Share of trunk calls, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    trunk_share: f64,
    /// Everything drawn follows from this number
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// The casing of the API path that works
    #[arg(long, default_value = "both", value_name = "CASING")]
    casing: CasingFlag,
    /// Zone in which list days are cut, in minutes east of UTC (330 is India)
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_name = "MINUTES")]
    day_zone: i32,
    /// What the cost of a summary does with calls in another currency than INR
    #[arg(long, default_value = "blind", value_name = "WAY")]
    summary_currencies: CurrenciesFlag,
    /// Refuse this page of every list with 400
    #[arg(long, value_name = "PAGE")]
    refuse_page: Option<usize>,
    /// Rows a page of a list at most, whatever is asked for
    #[arg(long, value_name = "ROWS")]
    most_per_page: Option<usize>,
    /// Refuse pages of a list beyond this one with 400
    #[arg(long, value_name = "PAGE")]
    most_pages: Option<usize>,
    /// A list ends after so many rows, whatever it says of their number
    #[arg(long, value_name = "ROWS")]
    list_ends_after: Option<usize>,
    /// Pages that begin within this hundred of the rows of a list, from 1, are empty
    #[arg(long, value_name = "HUNDRED")]
    list_hole_at: Option<usize>,
    /// Each page of a list holds so many numbers in place of its rows
    #[arg(long, value_name = "COUNT")]
    list_elements: Option<usize>,
    /// A CDR appears this long after its call
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    cdr_delay: Duration,
    /// Every answer waits this long
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    latency: Duration,
    /// Requests a second before 429
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<u32>,
    /// A bad day: some of every fault
    #[arg(long)]
    some_faults: bool,
    /// Share of calls hit by a fault: late, lost_callback, duplicated_callback, throttled, server_error, html_error,
    /// half_body, reset, slow, success_false, wrong_uuid, empty_body, revised_later, no_time, time_spelling,
    /// impossible_seconds, seconds_spelling, impossible_measure, word_spelling, long_amount, bad_token, broken_row, unprintable
    /// (its page is refused), other_currency, no_id or upper_case_id; may be repeated
    #[arg(long, value_name = "NAME=SHARE")]
    fault: Vec<String>,
    /// How late a late CDR is
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    late_by: Duration,
    /// After how long a cost that is revised later is revised
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    revised_after: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CurrenciesFlag {
    Blind,
    InrOnly,
    Converted,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CasingFlag {
    Both,
    Capital,
    Lower,
}

impl SimulateArgs {
    fn options(&self) -> anyhow::Result<SimulatorOptions> {
        let mut faults = if self.some_faults { Faults::some() } else { Faults::default() };
        (faults.late_by, faults.revised_after) = (self.late_by, self.revised_after);
        for text in &self.fault {
            set_fault(&mut faults, text)?;
        }
        Ok(SimulatorOptions {
            listen: self.listen,
            accounts: vec![SimulatedAccount::new(&self.auth_id, &self.auth_token)],
            callback_url: self.callback_url.clone(),
            callback_sent_to: self.callback_sent_to.clone(),
            trunk_url: self.trunk_url.clone(),
            seed: self.seed,
            casing: match self.casing {
                CasingFlag::Both => Casing::Both,
                CasingFlag::Capital => Casing::Capital,
                CasingFlag::Lower => Casing::Lower,
            },
            day_zone: self.day_zone,
            summary_currencies: match self.summary_currencies {
                CurrenciesFlag::Blind => SummaryCurrencies::Blind,
                CurrenciesFlag::InrOnly => SummaryCurrencies::InrOnly,
                CurrenciesFlag::Converted => SummaryCurrencies::Converted,
            },
            lists: ListFaults {
                most_per_page: self.most_per_page.map(|rows| rows.clamp(1, 100)),
                most_pages: self.most_pages,
                ends_after: self.list_ends_after,
                hole_at: self.list_hole_at,
                elements: self.list_elements.map(|count| (count, None)),
                ..ListFaults::default()
            },
            cdr_delay: self.cdr_delay,
            latency: self.latency,
            rate_limit: self.rate_limit,
            faults,
            ..SimulatorOptions::default()
        })
    }
}

fn set_fault(faults: &mut Faults, text: &str) -> Result<(), Usage> {
    let (name, share) = text
        .split_once('=')
        .ok_or_else(|| Usage(format!("--fault {text}: write NAME=SHARE, such as late=0.05")))?;
    let share: f64 = share
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| Usage(format!("--fault {name}: {share:?} is no share from 0 to 1")))?;
    let place = match name {
        "late" => &mut faults.late,
        "lost_callback" => &mut faults.lost_callback,
        "duplicated_callback" => &mut faults.duplicated_callback,
        "throttled" => &mut faults.throttled,
        "server_error" => &mut faults.server_error,
        "html_error" => &mut faults.html_error,
        "half_body" => &mut faults.half_body,
        "reset" => &mut faults.reset,
        "slow" => &mut faults.slow,
        "success_false" => &mut faults.success_false,
        "wrong_uuid" => &mut faults.wrong_uuid,
        "empty_body" => &mut faults.empty_body,
        "revised_later" => &mut faults.revised_later,
        "no_time" => &mut faults.no_time,
        "time_spelling" => &mut faults.time_spelling,
        "impossible_seconds" => &mut faults.impossible_seconds,
        "seconds_spelling" => &mut faults.seconds_spelling,
        "impossible_measure" => &mut faults.impossible_measure,
        "word_spelling" => &mut faults.word_spelling,
        "long_amount" => &mut faults.long_amount,
        "bad_token" => &mut faults.bad_token,
        "broken_row" => &mut faults.broken_row,
        "unprintable" => &mut faults.unprintable,
        "other_currency" => &mut faults.other_currency,
        "no_id" => &mut faults.no_id,
        "upper_case_id" => &mut faults.upper_case_id,
        _ => {
            return Err(Usage(format!(
                "--fault: there is no fault {name:?}; `vobiz-cdr simulate --help` lists them"
            )));
        }
    };
    *place = share;
    Ok(())
}

/// Answers, and makes calls, until told to stop.
pub(super) async fn run(args: SimulateArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let simulator = Simulator::start(args.options()?)
        .await
        .with_context(|| format!("--listen: {} cannot be listened on", args.listen))?;
    simulator.refuse_page(&args.auth_id, args.refuse_page);
    info!(api = simulator.api_url(), account = args.auth_id, "a simulated Vobiz answers");
    let traffic = Traffic {
        calls: args.calls,
        per_second: args.per_second,
        trunk_share: args.trunk_share,
        ..Traffic::default()
    };
    let progress = Arc::new(TrafficProgress::default());
    tokio::select! {
        made = simulator.run(&traffic, &progress), if args.calls > 0 => {
            info!(?made, "all calls are made; still answering");
            stop.cancelled().await;
        }
        () = stop.cancelled() => {}
    }
    info!(made = ?progress.summary(), requests = simulator.stats().total_requests(), "stopped");
    simulator.stop().await;
    Ok(())
}
