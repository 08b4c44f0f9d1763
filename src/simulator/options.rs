//! What a simulated Vobiz is told at its start. Nothing here acts; the other files of this room read it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rust_decimal::Decimal;

use super::answer::RetryAfter;
use super::call::Call;
use super::fault::Faults;

/// One set of credentials, as the console would hand it out.
#[derive(Clone, Debug)]
pub struct SimulatedAccount {
    /// `MA_…`, `SA_…`, or `PA_…`: a partner reads every other account through `/api/v1/partner/`.
    pub auth_id: String,
    /// What `X-Auth-Token` must say, and the key of the V2 and V3 signatures.
    pub auth_token: String,
    /// Id and token of the main account above a sub-account: its token signs MA-V2 and MA-V3. A parent that has no
    /// entry of its own among the accounts gets one.
    pub parent: Option<(String, String)>,
}

impl SimulatedAccount {
    /// An account that has nobody above it.
    pub fn new(auth_id: &str, auth_token: &str) -> Self {
        Self { auth_id: auth_id.to_owned(), auth_token: auth_token.to_owned(), parent: None }
    }

    /// The same account, placed under a main account.
    #[must_use]
    pub fn under(mut self, parent_id: &str, parent_token: &str) -> Self {
        self.parent = Some((parent_id.to_owned(), parent_token.to_owned()));
        self
    }
}

/// Which spelling of `/api/v1/{SimulatedAccount|account}/` works. The vendor's pages disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Casing {
    /// Both spellings work.
    #[default]
    Both,
    /// Only `/api/v1/SimulatedAccount/`.
    Capital,
    /// Only `/api/v1/account/`.
    Lower,
}

/// Which time of a call decides its day, when a list is asked for days. Unpublished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DayOf {
    /// `start_time`.
    #[default]
    Start,
    /// `end_time`.
    End,
    /// Both, and what is between: a call over midnight is in the lists of two days.
    Either,
}

/// Which field `summary.total_cost` adds up. Unpublished; they differ on calls with streaming.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SummaryCost {
    /// The sum of `total_cost`.
    #[default]
    TotalCost,
    /// The sum of `cost`.
    Cost,
}

/// What `summary.total_cost` does with calls in another currency than INR. Unpublished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SummaryCurrencies {
    /// Their numbers are added to those of the others.
    #[default]
    Blind,
    /// They are left out.
    InrOnly,
    /// They are converted, at 84.5 to one.
    Converted,
}

/// What is wrong with its lists.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault by itself")]
pub struct ListFaults {
    /// Rows a page at most, whatever is asked for, in place of 100.
    pub most_per_page: Option<usize>,
    /// Pages beyond this one are refused with 400.
    pub most_pages: Option<usize>,
    /// A list ends after so many rows, whatever it says of their number.
    pub ends_after: Option<usize>,
    /// Pages that begin within this hundred of the rows of a list (from 1) are empty.
    pub hole_at: Option<usize>,
    /// A list without rows says that it has one page.
    pub page_of_nothing: bool,
    /// A list shows its newest row twice, and counts it twice in its total, not in its summary.
    pub repeats_newest: bool,
    /// Each page but the first begins with the last row of the page before it, in place of its own first row, which no page shows: calls
    /// that ended in the same second change places between two requests.
    pub repeats_at_seams: bool,
    /// The list of a parent shows the calls of its sub-accounts at twice their cost.
    pub doubles_cost_of_subs: bool,
    /// Each page holds so many elements in place of its rows: this JSON each time, or running numbers.
    pub elements: Option<(usize, Option<&'static str>)>,
    /// A list says that its pages have so many rows, whatever they have.
    pub claims_per_page: Option<usize>,
    /// This filter is not known, so it changes nothing.
    pub ignores_filter: Option<String>,
    /// Lists with this filter are answered with this status.
    pub fails_filter: Option<(String, u16)>,
}

/// How this Vobiz is to behave.
#[derive(Clone, Debug)]
pub struct SimulatorOptions {
    /// Where the API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may ask, and whose calls are drawn.
    pub accounts: Vec<SimulatedAccount>,
    /// Where voice callbacks go (`hangup_url`), and the URL they are signed for. `{account}` becomes the account's id.
    pub callback_url: Option<String>,
    /// Sends voice callbacks here, still signed for `callback_url`: a proxy that rewrites host and scheme.
    pub callback_sent_to: Option<String>,
    /// Where trunk webhooks go, unsigned: their scheme is unpublished, so a secret in the path has to prove them.
    /// `{account}` becomes the account's id.
    pub trunk_url: Option<String>,
    /// Wait before the first redelivery of a voice callback; it doubles each time.
    pub callback_backoff: Duration,
    /// Everything drawn comes from here: ids, numbers, causes, durations, costs, nonces, faults. Only times come from
    /// the clock or the [`super::CallSpec`].
    pub seed: u64,
    /// The path spelling that works.
    pub casing: Casing,
    /// What the other spelling answers: 404, or 401 as the vendor's errors page has it.
    pub wrong_casing: u16,
    /// The zone in which `start_date` and `end_date` cut days, in minutes east of UTC (330 is IST).
    pub day_zone: i32,
    /// The time that puts a call into its day.
    pub day_of: DayOf,
    /// Lists of days further back than so many are refused (422): how far back Vobiz answers is unpublished.
    pub keeps_days: Option<u64>,
    /// The field `summary.total_cost` adds up.
    pub summary_cost: SummaryCost,
    /// What it does with several currencies.
    pub summary_currencies: SummaryCurrencies,
    /// Decimals to which it rounds that; a zero at the end is not printed.
    pub summary_decimals: Option<u32>,
    /// Its seconds are those that rows state, as impossible as they may be; else what they were.
    pub summary_counts_stated: bool,
    /// Every page says that none follows, whatever it says of their number.
    pub denies_next: bool,
    /// What is wrong with its lists.
    pub lists: ListFaults,
    /// A parent's list, and its single fetches, also show the calls of its sub-accounts.
    pub parent_sees_subs: bool,
    /// A CDR exists from the call's end plus this.
    pub cdr_delay: Duration,
    /// What Vobiz's clock is ahead of ours at the start, in seconds: it moves the times of calls and the `Date` header.
    /// [`super::Simulator::advance`] moves it further.
    pub clock_ahead: i64,
    /// Every answer waits this long.
    pub latency: Duration,
    /// Requests an account may send in any one second; the next one is answered 429.
    pub rate_limit: Option<u32>,
    /// How that 429 says when to come back.
    pub rate_limit_says: RetryAfter,
    /// What goes wrong, and how often.
    pub faults: Faults,
}

impl SimulatorOptions {
    /// What summaries add up.
    pub(super) fn summary(&self) -> SummaryRule {
        SummaryRule {
            cost: self.summary_cost,
            currencies: self.summary_currencies,
            decimals: self.summary_decimals,
            counts_stated: self.summary_counts_stated,
        }
    }
}

/// Which money a summary adds up.
#[derive(Clone, Copy, Debug)]
pub(super) struct SummaryRule {
    pub(super) cost: SummaryCost,
    pub(super) currencies: SummaryCurrencies,
    pub(super) decimals: Option<u32>,
    pub(super) counts_stated: bool,
}

impl SummaryRule {
    /// The seconds that a call adds to the summary: what they were, or the number that its row states.
    pub(super) fn seconds(self, call: &Call, key: &str, were: u64) -> Decimal {
        let stated = call.set.get(key).filter(|_| self.counts_stated).map(|json| {
            json.as_deref().and_then(|json| json.trim_matches('"').parse().ok()).unwrap_or_default()
        });
        stated.unwrap_or_else(|| were.into())
    }

    /// What a call adds to the summary.
    pub(super) fn of(self, call: &Call) -> Decimal {
        let cost = match self.cost {
            SummaryCost::TotalCost => call.total_cost(),
            SummaryCost::Cost => call.cost,
        };
        match self.currencies {
            _ if call.currency == "INR" => cost,
            SummaryCurrencies::Blind => cost,
            SummaryCurrencies::InrOnly => Decimal::ZERO,
            SummaryCurrencies::Converted => cost * Decimal::new(845, 1),
        }
    }
}

impl Default for SimulatorOptions {
    /// A fast and faultless Vobiz with one main account, `MA_SIMULATE` with the token `tok_simulated_main`.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            accounts: vec![SimulatedAccount::new("MA_SIMULATE", "tok_simulated_main")],
            callback_url: None,
            callback_sent_to: None,
            trunk_url: None,
            callback_backoff: Duration::from_secs(1),
            seed: 1,
            casing: Casing::Both,
            wrong_casing: 404,
            day_zone: 0,
            day_of: DayOf::Start,
            keeps_days: None,
            summary_cost: SummaryCost::TotalCost,
            summary_currencies: SummaryCurrencies::Blind,
            summary_decimals: None,
            summary_counts_stated: false,
            denies_next: false,
            lists: ListFaults::default(),
            parent_sees_subs: false,
            cdr_delay: Duration::ZERO,
            clock_ahead: 0,
            latency: Duration::ZERO,
            rate_limit: None,
            rate_limit_says: RetryAfter::Seconds(1),
            faults: Faults::default(),
        }
    }
}
