//! One CDR: JSON bytes in, typed fields out, together with everything that did not fit a type (notes, unknown keys, the
//! text as it came). Only what makes a CDR useless is an error: no JSON object, or no `uuid`. What a field means to a bill,
//! and where it is stored, is no matter of this file.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::json::{self, Member};
use super::number::{self, HomeCountry};
use super::value::{Notes, shorten};
use super::{AccountId, CallId, InvalidId, Numeric, Payload};
use super::{owner, plausible};

/// A call detail record as Vobiz's API gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cdr {
    /// The key: Vobiz's `uuid`.
    pub call_id: CallId,
    /// The owner as the record names it; None if it does not, or not by an account id (then there is a note).
    pub account_id: Option<AccountId>,
    /// The other documented fields.
    pub fields: CdrFields,
    /// A JSON object of the keys we do not know, each as it came; None if there were none.
    pub extra: Option<String>,
    /// What could not be read or had to be changed, one `field: why` each.
    pub notes: Vec<String>,
    /// The record's own text (without the envelope around it), as it came; a text that was no JSON only for single tokens is
    /// mended.
    pub payload: Payload,
}

impl Cdr {
    /// The note on a record in whose text bytes that are not UTF-8 were replaced. The text that is kept does not tell.
    pub const REPLACED: &str = "payload: bytes that are not UTF-8 were replaced";

    /// Reads a payload that was kept anew; `replaced` if there is that note on it.
    pub fn read_kept(payload: &Payload, home: HomeCountry, replaced: bool) -> Result<Self, Unreadable> {
        read(check(payload.text())?, home, replaced)
    }

    /// The same as a record of its own, beside another one that has its uuid: under a key that its number is part of, with a note.
    #[must_use]
    pub fn as_further_record(mut self, vobiz_id: i64) -> Self {
        self.notes.push(format!("uuid: another record has it too; this one has the number {vobiz_id}"));
        self.call_id = self.call_id.of_further_record(vobiz_id);
        self
    }

    /// Takes out the times that lie in the future, seen from when the record was asked for.
    #[must_use]
    pub fn without_future(mut self, requested_at: DateTime<Utc>) -> Self {
        plausible::until(&mut self.fields, requested_at, &mut self.notes);
        self
    }

    /// Lays this row of a list over what was known before: what it does not say stays as it was said.
    #[must_use]
    pub fn laid_over(self, older: Self) -> Self {
        let mut notes = self.notes;
        notes.extend(older.notes);
        // Each once, in an order that does not depend on how the versions came in.
        notes.sort_unstable();
        notes.dedup();
        Self {
            account_id: self.account_id.or(older.account_id),
            fields: self.fields.laid_over(older.fields),
            extra: match (self.extra, older.extra) {
                (Some(newer), Some(older)) => Some(joined(&newer, &older)),
                (newer, older) => newer.or(older),
            },
            notes,
            ..self
        }
    }
}

/// The members of two objects, those of the first where both have a key.
fn joined(newer: &str, older: &str) -> String {
    let (mut members, older) = (json::members(newer), json::members(older));
    let missing: Vec<_> =
        older.into_iter().filter(|old| !members.iter().any(|member| member.key == old.key)).collect();
    members.extend(missing);
    let members: Vec<String> = members.iter().map(|m| format!("{}:{}", m.key_text, m.value)).collect();
    format!("{{{}}}", members.join(","))
}

/// Why an answer holds no CDR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No JSON at all, an HTML page for instance.
    #[error("not JSON: {why}")]
    NotJson {
        /// What the JSON reader said, with the place; nothing of the body.
        why: String,
    },
    /// JSON that ends too early: half a body.
    #[error("the JSON is cut short")]
    CutShort,
    /// JSON of another kind where an object belongs.
    #[error("{place} is {found}, not an object")]
    NotAnObject {
        /// Which part of the answer.
        place: &'static str,
        /// What stood there.
        found: &'static str,
    },
    /// A list answer whose `data` is missing or no list.
    #[error("there is no list of rows, data is {found}")]
    NoRows {
        /// What stood there.
        found: &'static str,
    },
    /// No `uuid`: no CDR, or one in the withdrawn format of January 2026.
    #[error("there is no uuid")]
    NoUuid,
    /// A `uuid` that is no call id.
    #[error("uuid is no call id: {value}: {why}")]
    BadUuid {
        /// The value as it was written, cut to about 80 characters.
        value: String,
        /// What is wrong with it.
        why: InvalidId,
    },
}

/// The answer to "give me this CDR".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Single {
    /// Here it is.
    Cdr(Box<Cdr>),
    /// A well-formed answer without a CDR: try again later. Never described by Vobiz, so the reading is ours (inferred).
    NotYet(&'static str),
}

/// Hands the documented fields besides `uuid` and `account_id` to a macro, each as `name: type = key;`. It is the only list of
/// them: reading a record is made of it here, and storing one in `db::cdr`. Absent and null are the same (captured: Vobiz
/// leaves null keys out at will); every enumeration is open in practice, so texts stay texts.
macro_rules! cdr_fields {
    (($($macro:tt)+) $($before:tt)*) => {
        $($macro)+! {
            $($before)*
            /// Vobiz's internal number of the row; the API takes it nowhere (documented).
            vobiz_id: i64 = "id" called "vobiz_id";
            /// `inbound` or `outbound`.
            call_direction: String = "call_direction";
            /// A name, digits, or empty.
            caller_id_name: String = "caller_id_name";
            /// The caller; E.164 in the documentation, also without `+` in captures.
            caller_id_number: String = "caller_id_number";
            /// The number called, or a SIP identifier.
            destination_number: String = "destination_number";
            /// Seconds, ringing and talking.
            duration: i32 = "duration";
            /// Seconds talked; 0 means not answered.
            billsec: i32 = "billsec";
            /// Seconds until the answer or the end.
            ring_time: i32 = "ring_time";
            /// UTC; none when not answered.
            answer_time: DateTime<Utc> = "answer_time";
            /// UTC.
            start_time: DateTime<Utc> = "start_time";
            /// UTC.
            end_time: DateTime<Utc> = "end_time";
            /// UTC; equals `start_time` in every example.
            progress_time: DateTime<Utc> = "progress_time";
            /// UTC; when Vobiz wrote the row.
            created_at: DateTime<Utc> = "created_at";
            /// UTC; whether it ever moves is unknown.
            updated_at: DateTime<Utc> = "updated_at";
            /// Amount for this leg, in `currency`.
            cost: Numeric = "cost";
            /// Amount with streaming, in `currency`.
            total_cost: Numeric = "total_cost";
            /// Amount for audio streaming, in `currency`.
            streaming_cost: Numeric = "streaming_cost";
            /// `INR`.
            currency: String = "currency";
            /// A FreeSWITCH-like word, `NORMAL_CLEARING`.
            hangup_cause: String = "hangup_cause";
            /// Vobiz's own code, 4000 for a normal hang-up.
            hangup_cause_code: i32 = "hangup_cause_code";
            /// The code in words.
            hangup_cause_name: String = "hangup_cause_name";
            /// `send_bye`, `recv_bye`, … and `answered` (captured).
            hangup_disposition: String = "hangup_disposition";
            /// Who ended it: `Caller`, `Callee`, `Carrier`, `Vobiz`, …
            hangup_source: String = "hangup_source";
            /// Text of digits, probably Q.850 (inferred).
            failure_code: String = "failure_code";
            /// A word like `NO_ANSWER`.
            failure_reason: String = "failure_reason";
            /// Shared by bridged legs.
            bridge_uuid: String = "bridge_uuid";
            /// The SIP Call-ID.
            sip_call_id: String = "sip_call_id";
            /// `Vobiz`.
            sip_user_agent: String = "sip_user_agent";
            /// `PCMU`, `PCMA`, `opus`.
            codec: String = "codec";
            /// Mean opinion score, 1 to 5; 0 means no media, not bad quality (documented).
            mos: Numeric = "mos";
            /// Milliseconds.
            jitter: Numeric = "jitter";
            /// Percent.
            packet_loss: Numeric = "packet_loss";
            /// An address as text.
            network_addr: String = "network_addr";
            /// An address as text.
            carrier_ip: String = "carrier_ip";
            /// `voice-api`, `sip-trunking`, …
            context: String = "context";
            /// `ap-south-1`.
            region: String = "region";
            /// `mumbai`.
            origination_region: String = "origination_region";
            /// Always null in examples.
            campaign_id: String = "campaign_id";
            /// Always null in examples.
            customer_endpoint: String = "customer_endpoint";
            /// Set for trunk calls.
            trunk_id: String = "trunk_id";
            /// Where it was forwarded to.
            terminated_to: String = "terminated_to";
        }
    };
}
pub(crate) use cdr_fields;

macro_rules! fields {
    ($($(#[$doc:meta])+ $name:ident: $type:ty = $key:literal $(called $called:literal)?;)+) => {
        /// The documented fields besides `uuid` and `account_id`, under Vobiz's names.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct CdrFields {
            $($(#[$doc])+ pub $name: Option<$type>,)+
            /// `caller_id_number` in E.164 (ours), where that is certain.
            pub caller_e164: Option<String>,
            /// `destination_number` in E.164 (ours), where that is certain.
            pub destination_e164: Option<String>,
        }

        // A field that is not named after its key would be another one in code than in the table.
        $(const _: () = assert!(is_same([$key $(, $called)?], stringify!($name)), $key);)+

        impl CdrFields {
            /// The keys in Vobiz's JSON, in the order of the fields.
            pub const KEYS: [&'static str; [$($key),+].len()] = [$($key),+];

            /// Reads one key's value; false if we do not know the key.
            fn read(&mut self, key: &str, written: &str, notes: &mut Notes) -> bool {
                match key {
                    $($key => {
                        let written = plausible::spelled($key, written, notes);
                        self.$name = notes.read($key, &written);
                    })+
                    _ => return false,
                }
                true
            }

            /// Takes from older fields what these do not say. A number in E.164 belongs to the number it was made of.
            fn laid_over(self, older: Self) -> Self {
                let of = |said: bool, ours, theirs| if said { ours } else { theirs };
                Self {
                    caller_e164: of(self.caller_id_number.is_some(), self.caller_e164, older.caller_e164),
                    destination_e164: of(
                        self.destination_number.is_some(),
                        self.destination_e164,
                        older.destination_e164,
                    ),
                    $($name: self.$name.or(older.$name),)+
                }
            }
        }
    };
}

cdr_fields!((fields));

/// Whether the last of the names for a key is that of its field.
const fn is_same<const N: usize>(names: [&str; N], field: &str) -> bool {
    let (a, b) = (names[N - 1].as_bytes(), field.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

/// Reads the answer of a single fetch: `{"data": {…}, "success": true}` (documented), or the bare object that the
/// partner paths give (documented).
pub fn decode_single(body: &[u8], home: HomeCountry) -> Result<Single, Unreadable> {
    let (text, replaced) = json::text_of(body);
    match single(&text, home, replaced) {
        // What is JSON needs no mending, and half a body cannot be mended.
        Err(error @ Unreadable::NotJson { .. }) => {
            json::mended(&text).map_or(Err(error), |text| single(&text, home, replaced))
        }
        answer => answer,
    }
}

fn single(text: &str, home: HomeCountry, replaced: bool) -> Result<Single, Unreadable> {
    if text.trim().is_empty() {
        return Ok(Single::NotYet("the body is empty"));
    }
    let answer = check(text)?;
    if answer == "null" {
        return Ok(Single::NotYet("the body is null"));
    }
    let members = object("the answer", answer)?;
    let get = |key: &str| members.iter().rev().find(|member| member.key == key).map(|member| member.value);
    if get("success") == Some("false") {
        return Ok(Single::NotYet("success is false"));
    }
    let cdr = match get("data") {
        Some(data) if data.starts_with('{') => read(data, home, replaced)?,
        _ if get("uuid").is_some() => read(answer, home, replaced)?,
        Some("null") => return Ok(Single::NotYet("data is null")),
        Some(other) => return Err(Unreadable::NotAnObject { place: "data", found: kind(other) }),
        // Absent is null, here as everywhere; without `success` it is no envelope at all.
        None if get("success").is_some() => return Ok(Single::NotYet("there is no data")),
        None => return Err(Unreadable::NoUuid),
    };
    Ok(Single::Cdr(Box::new(cdr)))
}

/// The text without the white space around it, if it is JSON.
pub(super) fn check(text: &str) -> Result<&str, Unreadable> {
    json::check(text).map_err(|error| {
        let why = error.to_string();
        // A text that was cut inside a string does not end like a record: there a quote is missing or too many.
        let ends_well = why.starts_with("EOF while parsing a string") && text.trim_ascii_end().ends_with('}');
        if error.is_eof() && !ends_well { Unreadable::CutShort } else { Unreadable::NotJson { why } }
    })
}

pub(super) fn object<'a>(place: &'static str, value: &'a str) -> Result<Vec<Member<'a>>, Unreadable> {
    if value.starts_with('{') {
        Ok(json::members(value))
    } else {
        Err(Unreadable::NotAnObject { place, found: kind(value) })
    }
}

/// What kind of JSON value this is, in words.
pub(super) fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) => "a number",
        None => "missing",
    }
}

/// Reads one CDR object that is known to be JSON; `replaced` says that the body around it had bytes that are not UTF-8.
pub(super) fn read(text: &str, home: HomeCountry, replaced: bool) -> Result<Cdr, Unreadable> {
    let members = object("the CDR", text)?;
    let mut notes = Notes::default();
    // In a list only the rows that show a replacement can be the ones concerned.
    if replaced && text.contains(char::REPLACEMENT_CHARACTER) {
        let (about, complaint) = Cdr::REPLACED.split_once(": ").unwrap_or_default();
        notes.add(about, complaint);
    }
    let mut call_id = None;
    let mut account_id = None;
    let mut fields = CdrFields::default();
    let mut extra = String::new();
    for member in last_of_each(members, &mut notes) {
        match member.key.as_ref() {
            "uuid" => call_id = uuid(member.value)?,
            "account_id" => account_id = owner::account(member.value, &mut notes),
            key if fields.read(key, member.value, &mut notes) => {}
            _ => {
                extra.push(if extra.is_empty() { '{' } else { ',' });
                extra.extend([member.key_text, ":", member.value]);
            }
        }
    }
    plausible::bound(&mut fields, &mut notes);
    let (caller, destination) = (&fields.caller_id_number, &fields.destination_number);
    (fields.caller_e164, fields.destination_e164) =
        number::read_both(caller.as_deref(), destination.as_deref(), home, &mut notes);
    Ok(Cdr {
        call_id: call_id.ok_or(Unreadable::NoUuid)?,
        account_id,
        fields,
        extra: (!extra.is_empty()).then(|| extra + "}"),
        notes: notes.into_vec(),
        payload: Payload::new(text),
    })
}

/// So many keys that nobody knows are noted as repeated; more of them mean a hostile text, not a helpful record.
const MOST_REPEATED: usize = 16;

/// The members with only the last of each repeated key.
fn last_of_each<'a>(mut members: Vec<Member<'a>>, notes: &mut Notes) -> Vec<Member<'a>> {
    let mut seen = HashMap::with_capacity(members.len());
    let (mut repeated, mut unknown) = (HashSet::new(), 0);
    for (position, member) in members.iter().enumerate() {
        if seen.insert(member.key.clone(), position).is_none() || !repeated.insert(member.key.clone()) {
            continue;
        }
        let known = matches!(&*member.key, "uuid" | "account_id") || CdrFields::KEYS.contains(&&*member.key);
        unknown += usize::from(!known);
        if known || unknown <= MOST_REPEATED {
            let written = &member.key_text[1..member.key_text.len() - 1];
            let about = if known { &member.key } else { written };
            notes.add(&shorten(about), "given more than once, the last one counts");
        }
    }
    if !repeated.is_empty() {
        let mut position = 0;
        members.retain(|member| {
            position += 1;
            seen.get(&member.key) == Some(&(position - 1))
        });
    }
    members
}

fn uuid(written: &str) -> Result<Option<CallId>, Unreadable> {
    if written == "null" {
        return Ok(None);
    }
    // A number is taken by its digits. `true` would pass as an id, so the kind is asked first.
    let refuse = |why| Unreadable::BadUuid { value: shorten(written), why };
    match written.as_bytes().first() {
        Some(b'"' | b'-' | b'0'..=b'9') => CallId::new(&json::string(written).0).map(Some).map_err(refuse),
        _ => Err(refuse(InvalidId::Character)),
    }
}

#[cfg(test)]
#[path = "cdr_tests.rs"]
mod tests;
