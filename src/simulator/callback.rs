//! What a callback says, byte for byte as captured: keys in byte order, `+` for a space, money zero, times of the
//! console's zone without a zone. Trunk webhooks are JSON with times in UTC and the real cost. Sending and signing
//! are elsewhere.

use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use form_urlencoded::Serializer;

use super::call::{Call, Direction};
use super::cdr;

/// The callbacks of a call's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallbackKind {
    /// Voice, `Event=Ring`.
    Ring,
    /// Voice, `Event=StartApp`: the request to the answer URL.
    Answer,
    /// Voice, `Event=Hangup`: the one that ends the call.
    Hangup,
    /// Trunk, an outbound attempt. It carries another id than the CDR's, as captured.
    CallInitiated,
    /// Trunk, `Event=Hangup`.
    TrunkHangup,
}

impl CallbackKind {
    /// Whether this is a trunk's JSON webhook.
    pub fn is_trunk(self) -> bool {
        matches!(self, Self::CallInitiated | Self::TrunkHangup)
    }
}

/// The body of a callback.
pub fn body(call: &Call, kind: CallbackKind) -> String {
    match kind {
        CallbackKind::Ring => form(ring(call)),
        CallbackKind::Answer => form(answer(call)),
        CallbackKind::Hangup => form(hangup(call)),
        CallbackKind::CallInitiated | CallbackKind::TrunkHangup => trunk(call, kind),
    }
}

/// A form as Go writes it: keys in byte order, spaces as `+`.
pub fn form<K: AsRef<str>, V: AsRef<str>>(mut fields: Vec<(K, V)>) -> String {
    fields.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
    Serializer::new(String::with_capacity(768)).extend_pairs(fields).finish()
}

type FormFields = Vec<(&'static str, String)>;

/// What every voice callback has.
fn every(call: &Call, event: &str, status: &str) -> FormFields {
    let digits = |number: &str| number.trim_start_matches('+').to_owned();
    let mut fields = vec![
        ("CallStatus", status.to_owned()),
        ("CallUUID", announced(call).to_owned()),
        ("Direction", call.direction.as_str().to_owned()),
        ("Event", event.to_owned()),
        ("From", digits(&call.from)),
        ("STIRAttestation", "Not Applicable".to_owned()),
        ("SessionStart", call.session_started_at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()),
    ];
    match call.direction {
        Direction::Outbound => {
            fields.push(("To", digits(&call.to)));
            fields.push(("RequestUUID", announced(call).to_owned()));
            fields.push(("ALegRequestUUID", announced(call).to_owned()));
        }
        // Inbound calls name the dialled number the national way, and no request.
        Direction::Inbound => fields.push(("To", national(&call.to))),
    }
    fields
}

fn ring(call: &Call) -> FormFields {
    every(call, "Ring", "ringing")
}

fn answer(call: &Call) -> FormFields {
    let mut fields = every(call, "StartApp", "in-progress");
    fields.push(("STIRVerification", "Not Applicable".to_owned()));
    match call.direction {
        Direction::Outbound => {
            fields.push(("ALegUUID", announced(call).to_owned()));
            fields.push(("CallerName", call.from.trim_start_matches('+').to_owned()));
        }
        // As captured: an inbound StartApp still says `ringing`, and has two keys without a value.
        Direction::Inbound => {
            "ringing".clone_into(&mut fields[0].1);
            fields.push(("BillRate", "0".to_owned()));
            fields.push(("CallerName", call.from.clone()));
            fields.push(("CountryCode", String::new()));
            fields.push(("ParentAuthID", call.parent_id.clone()));
            fields.push(("RouteType", String::new()));
        }
    }
    fields
}

fn hangup(call: &Call) -> FormFields {
    let mut fields = every(call, "Hangup", status(call));
    let answered = call.answered_at.is_some();
    let text = |word: &str| word.to_owned();
    let (start, rate) = match call.direction {
        Direction::Outbound => (call.started_at, "0.00000"),
        Direction::Inbound => (call.answered_at.unwrap_or(call.started_at), "0"),
    };
    fields.extend([
        ("BillDuration", (call.billsec.div_ceil(60) * 60).to_string()),
        ("BillRate", text(rate)),
        ("Duration", call.billsec.to_string()),
        ("EndTime", console(call.ended_at)),
        ("HangupCause", text(&call.hangup_cause)),
        ("HangupCauseCode", call.hangup_cause_code.to_string()),
        ("HangupCauseName", text(&call.hangup_cause_name)),
        ("HangupSource", text(&call.hangup_source)),
        ("ParentAuthID", call.parent_id.clone()),
        ("STIRVerification", text("Not Applicable")),
        ("StartTime", console(start)),
        ("TotalCost", text("0.00000")),
    ]);
    if let Some(at) = call.answered_at {
        fields.push(("AnswerTime", console(at)));
    }
    match call.direction {
        Direction::Outbound => {
            fields.push(("ALegUUID", if answered { announced(call).to_owned() } else { String::new() }));
        }
        Direction::Inbound => fields.push(("CallerName", call.from.clone())),
    }
    fields
}

fn status(call: &Call) -> &'static str {
    match &*call.hangup_cause {
        _ if call.answered_at.is_some() => "completed",
        "USER_BUSY" => "busy",
        "NO_ANSWER" | "ORIGINATOR_CANCEL" => "no-answer",
        _ => "failed",
    }
}

fn announced(call: &Call) -> &str {
    call.announced_as.as_deref().unwrap_or(&call.call_id)
}

/// `+91` and ten digits as they are dialled inside India.
fn national(number: &str) -> String {
    match number.strip_prefix("+91") {
        Some(rest) => format!("0{rest}"),
        None => number.trim_start_matches('+').to_owned(),
    }
}

/// A time of the console's zone (IST in every capture), which the text does not name.
fn console(at: DateTime<Utc>) -> String {
    const IST: i32 = 330 * 60;
    let text = |at: String| at.replace('T', " ").chars().take(19).collect();
    match FixedOffset::east_opt(IST) {
        Some(zone) => text(at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Secs, false)),
        None => text(cdr::zulu(at)),
    }
}

fn trunk(call: &Call, kind: CallbackKind) -> String {
    let mut out = Vec::with_capacity(768);
    let mut first = true;
    let mut key = |out: &mut Vec<u8>, name: &str| {
        out.push(if std::mem::take(&mut first) { b'{' } else { b',' });
        cdr::text(out, name);
        out.push(b':');
    };
    let ended = kind == CallbackKind::TrunkHangup;
    let (event, status, account_key) =
        if ended { ("Hangup", "completed", "AccountId") } else { ("CallInitiated", "initiated", "auth_id") };
    // The vendor's own example: CallInitiated carries the SIP Call-ID, only Hangup the id of the CDR.
    let id = if ended { announced(call) } else { &call.sip_call_id };
    let at = if ended { call.ended_at } else { call.started_at };
    let texts = [
        ("Event", event),
        ("CallUUID", id),
        ("RequestID", &request_id(call)),
        ("Timestamp", &cdr::zulu(at)),
        ("From", &call.from),
        ("To", &call.to),
        ("Direction", call.direction.as_str()),
        ("Status", status),
        (account_key, &call.account_id),
        ("TrunkID", call.trunk_id.as_deref().unwrap_or("")),
        ("Domain", "0a1b2c3d.sip.vobiz.ai"),
        ("SourceIP", "10.0.0.1"),
        ("SIPCallID", &call.sip_call_id),
    ];
    for (name, value) in texts {
        key(&mut out, name);
        cdr::text(&mut out, value);
    }
    if !ended {
        out.extend_from_slice(br#","Allowed":true,"Reason":""}"#);
        return String::from_utf8_lossy(&out).into_owned();
    }
    let texts = [
        ("BridgeUUID", call.bridge_uuid.as_deref().unwrap_or("")),
        ("Reason", &call.hangup_cause),
        ("StartTime", &cdr::zulu(call.started_at)),
        ("EndTime", &cdr::zulu(call.ended_at)),
    ];
    for (name, value) in texts {
        key(&mut out, name);
        cdr::text(&mut out, value);
    }
    cdr::print(
        &mut out,
        format_args!(
            r#","Duration":{},"Billsec":{},"RingTime":{},"Cost":{},"Currency":"{}","MOS":{}"#,
            call.duration(),
            call.billsec,
            call.ring_time,
            call.total_cost().normalize(),
            call.currency,
            call.mos.normalize(),
        ),
    );
    key(&mut out, "HangupCauseName");
    cdr::text(&mut out, &call.hangup_cause_name);
    cdr::print(&mut out, format_args!(r#","HangupCauseCode":{},"HangupSource":"#, call.hangup_cause_code));
    cdr::text(&mut out, &call.hangup_source);
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}

/// `X-Vobiz-Request-ID`, the same for both webhooks of a call.
pub(super) fn request_id(call: &Call) -> String {
    format!("req-{:08x}", call.sequence)
}
