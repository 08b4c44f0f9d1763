//! A call as the CDR API prints it: the 43 documented keys in alphabetical order, times in UTC with whole seconds and
//! `Z`, money as the decimal number it is. Nothing is decided here, and nothing passes through a float.

use std::collections::btree_map;
use std::io::Write as _;
use std::iter::Peekable;

use chrono::{DateTime, SecondsFormat, Utc};
use rust_decimal::Decimal;

use super::call::Call;

/// The body of a single fetch: the CDR in its envelope, or what the call says in its place.
pub(super) fn single(call: &Call) -> Vec<u8> {
    if let Some(body) = &call.body {
        return body.clone().into_bytes();
    }
    let mut out = Vec::with_capacity(1536);
    out.extend_from_slice(br#"{"data":"#);
    row(&mut out, call);
    out.extend_from_slice(br#","success":true}"#);
    out
}

/// The CDR alone: a row of a list, or the partner's single fetch.
pub(super) fn row(out: &mut Vec<u8>, call: &Call) {
    let mut row = JsonWriter { out, set: call.set.iter().peekable(), first: true };
    row.text("account_id", &call.account_id);
    row.time("answer_time", call.answered_at);
    row.int("billsec", call.billsec.into());
    row.text_or_null("bridge_uuid", call.bridge_uuid.as_deref());
    row.text("call_direction", call.direction.as_str());
    row.text("caller_id_name", &call.caller_name);
    row.text("caller_id_number", &call.from);
    row.raw("campaign_id", "null");
    row.text_or_null("carrier_ip", call.carrier_ip.as_deref());
    row.text("codec", &call.codec);
    row.text("context", call.kind.context());
    row.number("cost", call.cost);
    row.time("created_at", Some(call.created_at));
    row.text("currency", &call.currency);
    row.raw("customer_endpoint", "null");
    row.text("destination_number", &call.to);
    row.int("duration", call.duration());
    row.time("end_time", Some(call.ended_at));
    let failed = call.answered_at.is_none();
    row.raw("failure_code", if failed { "\"16\"" } else { "null" });
    row.text_or_null("failure_reason", failed.then_some(&*call.hangup_cause));
    row.text("hangup_cause", &call.hangup_cause);
    row.int("hangup_cause_code", call.hangup_cause_code.into());
    row.text("hangup_cause_name", &call.hangup_cause_name);
    row.text("hangup_disposition", &call.hangup_disposition);
    row.text("hangup_source", &call.hangup_source);
    row.int("id", call.vobiz_id);
    row.number("jitter", call.jitter);
    row.number("mos", call.mos);
    row.text("network_addr", &call.network_addr);
    row.text("origination_region", "mumbai");
    row.number("packet_loss", call.packet_loss);
    row.time("progress_time", Some(call.started_at));
    row.text("region", "ap-south-1");
    row.int("ring_time", call.ring_time.into());
    row.text("sip_call_id", &call.sip_call_id);
    row.text("sip_user_agent", "Vobiz");
    row.time("start_time", Some(call.started_at));
    row.number("streaming_cost", call.streaming_cost);
    row.raw("terminated_to", "null");
    row.number("total_cost", call.total_cost());
    row.text_or_null("trunk_id", call.trunk_id.as_deref());
    row.time("updated_at", Some(call.updated_at));
    row.text("uuid", &call.call_id);
    row.end();
}

/// A JSON object written key by key in alphabetical order, into which [`Call::set`] is merged on the way.
struct JsonWriter<'a> {
    out: &'a mut Vec<u8>,
    set: Peekable<btree_map::Iter<'a, String, Option<String>>>,
    first: bool,
}

impl JsonWriter<'_> {
    /// Starts `key`, after the set keys before it; false when the call sets this key itself.
    fn key(&mut self, key: &str) -> bool {
        while let Some((name, value)) = self.set.next_if(|(name, _)| name.as_str() <= key) {
            if let Some(value) = value {
                self.name(name);
                self.out.extend_from_slice(value.as_bytes());
            }
            if name == key {
                return false;
            }
        }
        self.name(key);
        true
    }

    fn name(&mut self, key: &str) {
        self.out.push(if std::mem::take(&mut self.first) { b'{' } else { b',' });
        text(self.out, key);
        self.out.push(b':');
    }

    fn raw(&mut self, key: &str, json: &str) {
        if self.key(key) {
            self.out.extend_from_slice(json.as_bytes());
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        if self.key(key) {
            text(self.out, value);
        }
    }

    fn text_or_null(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.raw(key, "null"),
        }
    }

    fn int(&mut self, key: &str, value: u64) {
        if self.key(key) {
            print(self.out, format_args!("{value}"));
        }
    }

    fn number(&mut self, key: &str, value: Decimal) {
        if self.key(key) {
            number(self.out, value);
        }
    }

    fn time(&mut self, key: &str, value: Option<DateTime<Utc>>) {
        match value {
            Some(value) => {
                if self.key(key) {
                    time(self.out, value);
                }
            }
            None => self.raw(key, "null"),
        }
    }

    fn end(mut self) {
        while let Some((name, value)) = self.set.next() {
            if let Some(value) = value {
                self.name(name);
                self.out.extend_from_slice(value.as_bytes());
            }
        }
        self.out.push(b'}');
    }
}

/// Prints into memory, which cannot fail.
pub(super) fn print(out: &mut Vec<u8>, words: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(words);
    debug_assert!(written.is_ok(), "a Vec takes every byte");
}

/// A JSON string.
pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    if value.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') {
        print(out, format_args!("{}", serde_json::Value::from(value)));
    } else {
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }
}

/// A JSON number without trailing zeros, as Vobiz prints money: `0.3`, never `0.30`.
pub(super) fn number(out: &mut Vec<u8>, value: Decimal) {
    print(out, format_args!("{}", value.normalize()));
}

/// A JSON time: `"2026-03-25T10:00:42Z"`.
pub(super) fn time(out: &mut Vec<u8>, value: DateTime<Utc>) {
    out.push(b'"');
    out.extend_from_slice(zulu(value).as_bytes());
    out.push(b'"');
}

/// A time as the CDR has it: `2026-03-25T10:00:42Z`.
pub(super) fn zulu(value: DateTime<Utc>) -> String {
    value.to_rfc3339_opts(SecondsFormat::Secs, true)
}
