//! How a call comes about: each open property is drawn from a stream of numbers of its own, which the seed and the
//! call's place in the sequence decide. Promise: the same seed and the same sequence of specs give the same calls, up
//! to the times; what one spec fixes moves nothing else.

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rust_decimal::Decimal;

use super::call::{Call, CallKind, CallSpec, Direction, Word};

/// What a stream of numbers is for; streams of one call do not touch each other.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Call,
    Faults,
    Traffic,
    /// The nonces of the call's n-th delivery.
    Delivery(u32),
}

/// The stream of numbers of one purpose for one call.
pub(super) fn numbers(seed: u64, sequence: u64, purpose: Purpose) -> StdRng {
    let purpose = match purpose {
        Purpose::Call => 1,
        Purpose::Faults => 2,
        Purpose::Traffic => 3,
        Purpose::Delivery(nth) => (1 << 32) | u64::from(nth),
    };
    // Odd multipliers keep neighbouring sequences apart; seed_from_u64 scrambles the rest.
    let mixed = seed
        ^ sequence.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ u64::wrapping_mul(purpose, 0xc2b2_ae3d_27d4_eb4f).rotate_left(31);
    StdRng::seed_from_u64(mixed)
}

/// Cause, code, name, who hung up, how, and how often out of the table's sum.
type HangupCause = (&'static str, u32, &'static str, &'static str, &'static str, u32);

const ANSWERED: [HangupCause; 5] = [
    ("NORMAL_CLEARING", 4000, "Normal Hangup", "Callee", "recv_bye", 50),
    ("NORMAL_CLEARING", 4000, "Normal Hangup", "Caller", "send_bye", 35),
    ("NORMAL_CLEARING", 4010, "End Of XML Instructions", "Answer XML", "send_bye", 10),
    ("NORMAL_CLEARING", 6000, "Scheduled Hangup", "Vobiz", "send_bye", 3),
    ("MEDIA_TIMEOUT", 6020, "Media Timeout", "Vobiz", "send_bye", 2),
];
const UNANSWERED: [HangupCause; 8] = [
    ("NO_ANSWER", 3000, "No Answer", "Callee", "send_cancel", 45),
    ("USER_BUSY", 3010, "Busy Line", "Callee", "send_refuse", 20),
    ("ORIGINATOR_CANCEL", 1000, "Canceled", "Caller", "send_cancel", 15),
    ("CALL_REJECTED", 3020, "Rejected", "Callee", "send_refuse", 10),
    ("UNALLOCATED_NUMBER", 3050, "Unallocated number", "Carrier", "send_refuse", 4),
    ("SERVICE_UNAVAILABLE", 3090, "Network congestion from carrier", "Carrier", "send_refuse", 3),
    ("SERVER_ERROR", 3080, "Internal server error from carrier", "Carrier", "send_refuse", 2),
    ("UNKNOWN", 0, "Unknown", "Unknown", "send_refuse", 1),
];

/// What the world knows about a call before anything is drawn.
pub(super) struct DrawSettings<'a> {
    pub(super) seed: u64,
    pub(super) sequence: u64,
    pub(super) now: DateTime<Utc>,
    /// The accounts to choose an owner from, each with the main account above it or itself.
    pub(super) accounts: &'a [(String, String)],
}

/// Makes the call.
pub(super) fn draw(spec: CallSpec, setting: &DrawSettings<'_>) -> Call {
    let mut numbers = numbers(setting.seed, setting.sequence, Purpose::Call);
    let n = &mut numbers;
    // Everything is drawn before anything of the spec is looked at: a fixed property must not shift the others.
    let owner = n.random_range(0..u32::MAX);
    let outbound = n.random_bool(0.7);
    let answers = n.random_bool(0.7);
    let ring_time = n.random_range(1..=25_u32);
    let billsec = n.random_range(1..=600_u32) * n.random_range(1..=100_u32) / 100 + 1;
    let roll = n.random_range(0..100_u32);
    let (ours, theirs) = (phone(n, "+911100000"), phone(n, "+915000000"));
    let named = n.random_bool(0.3);
    let session_micros = n.random_range(0..900_000_i64);
    let odd_price = n.random_range(0..100_u32);
    let price_noise = n.random_range(1..100_i64);
    let mos = Decimal::new(n.random_range(35..=45), 1);
    let jitter = Decimal::new(n.random_range(0..30), 1);
    let packet_loss = Decimal::new(n.random_range(0..50), 2);
    let pcma = n.random_bool(0.4);
    let uuids = [uuid(n), uuid(n), uuid(n), uuid(n)];
    let sip_text = base62(n, 28);
    let text_id = n.random_bool(0.4);
    let carrier_host = n.random_range(1..255_u32);

    let [own_uuid, bridge, sip_uuid, trunk] = uuids;
    let (account_id, parent_id) = own(&spec, setting, owner);
    let answered =
        spec.billsec.map(|s| s > 0).or(spec.answered).unwrap_or(answers || spec.answered_at.is_some());
    let direction = spec.direction.unwrap_or(if outbound { Direction::Outbound } else { Direction::Inbound });
    let ring_time = spec.ring_time.unwrap_or(ring_time);
    let billsec = if answered { spec.billsec.unwrap_or(billsec) } else { 0 };
    let ended_at = spec.ended_at.unwrap_or(setting.now);
    let answered_at = answered.then(|| spec.answered_at.unwrap_or(ended_at - seconds(billsec)));
    let started_at = spec.started_at.unwrap_or_else(|| answered_at.unwrap_or(ended_at) - seconds(ring_time));
    let cause = cause(&spec, answered, roll);
    let trunk_call = spec.kind == CallKind::Trunk;
    let cost = spec.cost.unwrap_or_else(|| price(spec.kind, billsec, odd_price, price_noise));
    let streams = answered && !trunk_call && (20..24).contains(&odd_price);
    let streaming = if streams { Decimal::new(i64::from(billsec) * 2, 3) } else { Decimal::ZERO };
    let (from, to) = match direction {
        Direction::Outbound => (ours, theirs.clone()),
        Direction::Inbound => (theirs.clone(), ours),
    };
    Call {
        call_id: spec.call_id.unwrap_or(if trunk_call && text_id { sip_text.clone() } else { own_uuid }),
        announced_as: spec.announced_as,
        account_id,
        parent_id,
        vobiz_id: 18_600_000 + setting.sequence,
        kind: spec.kind,
        direction,
        from: spec.from.unwrap_or(from),
        to: spec.to.unwrap_or(to),
        caller_name: if named { theirs.trim_start_matches('+').to_owned() } else { String::new() },
        started_at,
        answered_at,
        ended_at,
        session_started_at: spec
            .session_started_at
            .unwrap_or(started_at + TimeDelta::microseconds(session_micros)),
        created_at: ended_at,
        updated_at: ended_at,
        ring_time,
        billsec,
        cost,
        streaming_cost: spec.streaming_cost.unwrap_or(streaming),
        currency: spec.currency.map_or(Word::Borrowed("INR"), Word::Owned),
        hangup_cause: cause.0,
        hangup_cause_code: cause.1,
        hangup_cause_name: cause.2,
        hangup_source: spec.hangup_source.map_or(cause.3, Word::Owned),
        hangup_disposition: cause.4,
        bridge_uuid: spec.bridge_uuid.or(answered.then_some(bridge)),
        sip_call_id: spec.sip_call_id.unwrap_or(if trunk_call { sip_text } else { sip_uuid }),
        trunk_id: trunk_call.then_some(trunk),
        codec: Word::Borrowed(if pcma { "PCMA" } else { "PCMU" }),
        mos: if answered { mos } else { Decimal::ZERO },
        jitter: if answered { jitter } else { Decimal::ZERO },
        packet_loss: if answered { packet_loss } else { Decimal::ZERO },
        network_addr: "3.110.99.6".to_owned(),
        carrier_ip: answered.then(|| format!("10.0.0.{carrier_host}")),
        set: spec.set,
        body: spec.body,
        unprintable: spec.unprintable,
        sequence: setting.sequence,
    }
}

fn own(spec: &CallSpec, setting: &DrawSettings<'_>, roll: u32) -> (String, String) {
    let known = match &spec.account {
        Some(id) => setting.accounts.iter().find(|(own, _)| own == id).cloned(),
        None if setting.accounts.is_empty() => None,
        None => Some(setting.accounts[roll as usize % setting.accounts.len()].clone()),
    };
    // An owner without an entry is still a call: its account was closed, say. Nobody can fetch it.
    let closed = || spec.account.clone().unwrap_or_else(|| "MA_NOBODY".to_owned());
    known.unwrap_or_else(|| (closed(), closed()))
}

fn cause(spec: &CallSpec, answered: bool, roll: u32) -> (Word, u32, Word, Word, Word) {
    let table: &[HangupCause] = if answered { &ANSWERED } else { &UNANSWERED };
    let mut left = roll;
    let drawn = table.iter().find(|cause| match left.checked_sub(cause.5) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    let drawn = drawn.unwrap_or(&table[0]);
    let asked = spec.hangup_cause.as_ref();
    let known = asked.and_then(|name| ANSWERED.iter().chain(&UNANSWERED).find(|cause| cause.0 == *name));
    let (_, code, name, source, disposition, _) = *known.unwrap_or(drawn);
    let (code, name) = if asked.is_some() && known.is_none() { (0, "Unknown") } else { (code, name) };
    let cause = asked.map_or(Word::Borrowed(drawn.0), |name| Word::Owned(name.clone()));
    (cause, code, name.into(), source.into(), disposition.into())
}

/// Whole minutes at the rate card's price; now and then with more decimals, and a small fee for some unanswered
/// calls, since both occur in real accounts.
fn price(kind: CallKind, billsec: u32, odd: u32, noise: i64) -> Decimal {
    if billsec == 0 {
        return if odd < 15 { Decimal::new(2, 2) } else { Decimal::ZERO };
    }
    let rate = Decimal::new(if kind == CallKind::Trunk { 38 } else { 45 }, 2);
    let whole = rate * Decimal::from(billsec.div_ceil(60));
    if odd < 10 { whole + Decimal::new(noise, 5) } else { whole }
}

fn seconds(count: u32) -> TimeDelta {
    TimeDelta::seconds(count.into())
}

fn phone(numbers: &mut StdRng, prefix: &str) -> String {
    format!("{prefix}{:03}", numbers.random_range(0..1000_u32))
}

pub(super) fn uuid(numbers: &mut StdRng) -> String {
    let mut bytes = [0; 16];
    numbers.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn base62(numbers: &mut StdRng, length: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..length).map(|_| char::from(DIGITS[numbers.random_range(0..DIGITS.len())])).collect()
}
