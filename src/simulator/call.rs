//! One finished call: what it is, and what a test may ask it to be. How the open rest is drawn is in `draw.rs`; how a
//! call looks in the API is in `cdr.rs`, in a callback in `callback.rs`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

/// A fixed word, or one that a test made up.
pub type Word = Cow<'static, str>;

/// Which product carried the call. It decides the form of the callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallKind {
    /// The voice API: signed form callbacks.
    #[default]
    Voice,
    /// A SIP trunk: JSON webhooks without a signature.
    Trunk,
}

impl CallKind {
    pub(super) fn context(self) -> &'static str {
        match self {
            Self::Voice => "voice-api",
            Self::Trunk => "sip-trunking",
        }
    }
}

/// Who called whom, seen from the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A caller called the account.
    Inbound,
    /// The account called a number.
    Outbound,
}

impl Direction {
    /// Vobiz's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// A finished call, as Vobiz knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `uuid` of the CDR, `CallUUID` of the hang-up callback.
    pub call_id: String,
    /// The id the hang-up callback carries instead: the trunk page and the trunk captures disagree on whether it is
    /// the CDR's.
    pub announced_as: Option<String>,
    /// The owner.
    pub account_id: String,
    /// The main account above the owner, or the owner itself (`ParentAuthID`).
    pub parent_id: String,
    /// The number of the row at Vobiz (`id`); grows with each call placed.
    pub vobiz_id: u64,
    /// Voice API or trunk.
    pub kind: CallKind,
    /// Inbound or outbound.
    pub direction: Direction,
    /// The caller in E.164, with `+`.
    pub from: String,
    /// The callee in E.164, with `+`.
    pub to: String,
    /// `caller_id_name`.
    pub caller_name: String,
    /// Start of ringing.
    pub started_at: DateTime<Utc>,
    /// `None` when nobody answered.
    pub answered_at: Option<DateTime<Utc>>,
    /// The end.
    pub ended_at: DateTime<Utc>,
    /// `SessionStart` of the callbacks, with microseconds.
    pub session_started_at: DateTime<Utc>,
    /// When the CDR says it was written.
    pub created_at: DateTime<Utc>,
    /// When the CDR says it changed last.
    pub updated_at: DateTime<Utc>,
    /// Seconds until the answer, or until the end without one.
    pub ring_time: u32,
    /// Seconds talked.
    pub billsec: u32,
    /// The price of this leg.
    pub cost: Decimal,
    /// The price of audio streaming.
    pub streaming_cost: Decimal,
    /// `INR` unless told otherwise.
    pub currency: Word,
    /// `NORMAL_CLEARING` and its kin.
    pub hangup_cause: Word,
    /// Vobiz's number for it.
    pub hangup_cause_code: u32,
    /// Vobiz's words for it.
    pub hangup_cause_name: Word,
    /// Who hung up.
    pub hangup_source: Word,
    /// How, in SIP.
    pub hangup_disposition: Word,
    /// Shared by bridged legs.
    pub bridge_uuid: Option<String>,
    /// The SIP Call-ID.
    pub sip_call_id: String,
    /// Set on trunk calls.
    pub trunk_id: Option<String>,
    /// `PCMU` or `PCMA`.
    pub codec: Word,
    /// Speech quality; 0 means that no audio flowed.
    pub mos: Decimal,
    /// Milliseconds.
    pub jitter: Decimal,
    /// Percent.
    pub packet_loss: Decimal,
    /// IPv4 as text.
    pub network_addr: String,
    /// IPv4 as text.
    pub carrier_ip: Option<String>,
    /// Keys of the CDR to print differently, as raw JSON (`"12.50"`, `null`, `"\"text\""`); `None` leaves the key out,
    /// an unknown key is added. Filters and summaries do not look in here.
    pub set: BTreeMap<String, Option<String>>,
    /// Answers single fetches with this text instead of the CDR. Lists show the CDR.
    pub body: Option<String>,
    /// A page of a list that would show it is refused with 400.
    pub unprintable: bool,
    /// How many calls were placed before this one.
    pub sequence: u64,
}

impl Call {
    /// `cost` and `streaming_cost` together.
    pub fn total_cost(&self) -> Decimal {
        self.cost + self.streaming_cost
    }

    /// Ringing and talking, in seconds.
    pub fn duration(&self) -> u64 {
        u64::from(self.ring_time) + u64::from(self.billsec)
    }
}

/// What a call is to be; everything left open is drawn from the seed, and the end is now.
#[derive(Clone, Debug, Default)]
pub struct CallSpec {
    /// The owner.
    pub account: Option<String>,
    /// Voice unless told otherwise.
    pub kind: CallKind,
    /// Inbound or outbound.
    pub direction: Option<Direction>,
    /// The id.
    pub call_id: Option<String>,
    /// Another id for the hang-up callback.
    pub announced_as: Option<String>,
    /// The caller, in E.164 with `+`.
    pub from: Option<String>,
    /// The callee, in E.164 with `+`.
    pub to: Option<String>,
    /// Start of ringing; otherwise the answer less `ring_time`.
    pub started_at: Option<DateTime<Utc>>,
    /// The answer; otherwise the end less `billsec`.
    pub answered_at: Option<DateTime<Utc>>,
    /// The end; otherwise now.
    pub ended_at: Option<DateTime<Utc>>,
    /// `SessionStart`; otherwise within a second of the start.
    pub session_started_at: Option<DateTime<Utc>>,
    /// Whether anybody answered; a `billsec` decides it too.
    pub answered: Option<bool>,
    /// Seconds of ringing.
    pub ring_time: Option<u32>,
    /// Seconds talked.
    pub billsec: Option<u32>,
    /// The price of the leg.
    pub cost: Option<Decimal>,
    /// The price of streaming.
    pub streaming_cost: Option<Decimal>,
    /// Otherwise `INR`.
    pub currency: Option<String>,
    /// A cause of the vendor's tables brings its code and name along; another one gets code 0.
    pub hangup_cause: Option<String>,
    /// Who hung up.
    pub hangup_source: Option<String>,
    /// The SIP Call-ID.
    pub sip_call_id: Option<String>,
    /// The id of the bridge.
    pub bridge_uuid: Option<String>,
    /// The CDR appears this long after the call is placed, whatever its end and the faults say;
    /// [`Duration::MAX`] is never.
    pub appears_after: Option<Duration>,
    /// See [`Call::set`].
    pub set: BTreeMap<String, Option<String>>,
    /// See [`Call::body`].
    pub body: Option<String>,
    /// See [`Call::unprintable`].
    pub unprintable: bool,
}

impl CallSpec {
    /// Prints a key of the CDR as this raw JSON.
    #[must_use]
    pub fn with(mut self, key: &str, json: &str) -> Self {
        self.set.insert(key.to_owned(), Some(json.to_owned()));
        self
    }

    /// Leaves a key of the CDR out.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.set.insert(key.to_owned(), None);
        self
    }
}
