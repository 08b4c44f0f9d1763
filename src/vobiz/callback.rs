//! A callback: form, query or JSON in, "this call ended" out, or not. A callback is a hint and nothing more: its body is
//! signed by nobody, so no time, number or amount is taken from it, only which CDR to fetch and whose it may be.
//! Whether it is proven is `signature`'s matter. Promise: any bytes give a [`Callback`], without an error or a panic.

use std::borrow::Cow;

use super::{AccountId, CallId, json};

/// What a callback says, as far as we listen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callback {
    /// The event's name for the log: printable ASCII, at most 64 characters, empty if there was none.
    pub event: String,
    /// The call that is over, if the callback says so.
    pub ended: Option<CallEnd>,
    /// The call it talks about, for the log. On a `DialHangup` that is the A call, which goes on.
    pub call_id: Option<CallId>,
    /// Whose call it may be, best hint first: `ParentAuthID`, `AccountId`, `auth_id`, `account_id`. The first one is the
    /// main account even for a sub-account's call (captured).
    pub accounts: Vec<AccountId>,
    /// What could not be read, and why.
    pub note: Option<String>,
}

/// A call that is over and whose CDR we want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallEnd {
    /// The CDR to fetch.
    pub call_id: CallId,
    /// What kind of leg it was.
    pub leg: Leg,
    /// The SIP Call-ID of a trunk call: the list finds its CDR where `call_id` does not (vendor pages disagree about
    /// which of the two is the CDR's `uuid`).
    pub sip_call_id: Option<String>,
}

/// The kinds of legs a callback can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// A call of the voice API.
    Voice,
    /// A call over a SIP trunk.
    Trunk,
    /// The far leg of a `<Dial>`. That it has a CDR of its own is inferred from "each leg is billed".
    BLeg,
    /// A campaign's contact. That its `call_uuid` is a CDR's is inferred.
    Campaign,
}

impl Leg {
    /// Whether it is a guess that a CDR with this id will ever exist.
    pub fn is_speculative(self) -> bool {
        matches!(self, Self::BLeg | Self::Campaign)
    }
}

/// Reads a callback from its query and its body.
///
/// What the body is decides how it is read, not its Content-Type (documented pages and captures disagree about that):
/// `{` begins a JSON object, `[` a list around one object with a `body` (how an automation tool passes it on, reported),
/// everything else is a form, and so is what begins like JSON, is none, and says something as a form. A body that names no event leaves the word to the query, where GET callbacks have it.
pub fn parse(query: Option<&str>, body: &[u8]) -> Callback {
    let mut said = Said::in_body(body);
    if said.event().is_empty()
        && let Some(query) = query
    {
        let in_query = Said::in_form(query.trim_start_matches('?').as_bytes());
        if !in_query.event().is_empty() || said == Said::default() {
            let note = said.note.take();
            said = Said { note, ..in_query };
        }
    }
    said.understood()
}

/// The few values we listen to, as they came; of a repeated key the first that is not empty.
#[derive(Default, PartialEq, Eq)]
struct Said {
    voice_event: String,
    other_event: String,
    call_uuid: String,
    campaign_call_uuid: String,
    old_call_id: String,
    dial_a_leg: String,
    dial_b_leg: String,
    trunk_id: String,
    sip_call_id: String,
    accounts: [String; 4],
    note: Option<String>,
}

impl Said {
    fn in_body(body: &[u8]) -> Self {
        let start = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
        match start.first() {
            Some(b'{' | b'[') => Self::in_json_or_form(&json::text_of(start).0, start, true),
            _ => Self::in_form(start),
        }
    }

    fn in_json_or_form(text: &str, form: &[u8], may_be_wrapped: bool) -> Self {
        Self::in_json(text, may_be_wrapped).unwrap_or_else(|| {
            let said = Self::in_form(form);
            if said == Self::default() {
                Self::noted("the body is no JSON, or only half of it")
            } else {
                said
            }
        })
    }

    fn noted(note: &str) -> Self {
        Self { note: Some(note.to_owned()), ..Self::default() }
    }

    fn in_form(form: &[u8]) -> Self {
        let mut said = Self::default();
        for (key, value) in form_urlencoded::parse(form) {
            said.hear(&key, value);
        }
        said
    }

    /// None if it is no JSON.
    fn in_json(text: &str, may_be_wrapped: bool) -> Option<Self> {
        let noted = |note: &str| Some(Self::noted(note));
        let mended = json::check(text).is_err().then(|| json::mended(text)).flatten();
        let value = json::check(mended.as_deref().unwrap_or(text)).ok()?;
        if value.starts_with('[') {
            if !may_be_wrapped {
                return noted("the body is a list in a list");
            }
            let elements = json::elements(value);
            let members = elements.first().map(|element| json::members(element)).unwrap_or_default();
            return match members.iter().find(|member| member.key == "body") {
                Some(member) if elements.len() == 1 => match member.value.as_bytes()[0] {
                    b'{' => Self::in_json(member.value, false),
                    b'"' => {
                        let inner = json::string(member.value).0;
                        let is_json = inner.trim_ascii_start().starts_with(['{', '[']);
                        let form = inner.as_bytes();
                        Some(if is_json {
                            Self::in_json_or_form(&inner, form, false)
                        } else {
                            Self::in_form(form)
                        })
                    }
                    _ => noted("the body is a list around something else than a callback"),
                },
                _ => noted("the body is a list that is no wrapped callback"),
            };
        }
        let mut said = Self::default();
        for member in json::members(value) {
            match member.value.as_bytes()[0] {
                b'"' => said.hear(&member.key, json::string(member.value).0),
                b'-' | b'0'..=b'9' => said.hear(&member.key, Cow::Borrowed(member.value)),
                // Objects, lists, booleans and null name neither an event nor an id.
                _ => {}
            }
        }
        Some(said)
    }

    fn hear(&mut self, key: &str, value: Cow<'_, str>) {
        let place = match key {
            "Event" => &mut self.voice_event,
            "event" => &mut self.other_event,
            "CallUUID" => &mut self.call_uuid,
            "call_uuid" => &mut self.campaign_call_uuid,
            "call_id" => &mut self.old_call_id,
            "DialALegUUID" => &mut self.dial_a_leg,
            "DialBLegUUID" => &mut self.dial_b_leg,
            "TrunkID" => &mut self.trunk_id,
            "SIPCallID" => &mut self.sip_call_id,
            "ParentAuthID" => &mut self.accounts[0],
            "AccountId" => &mut self.accounts[1],
            "auth_id" => &mut self.accounts[2],
            "account_id" => &mut self.accounts[3],
            _ => return,
        };
        if place.is_empty() {
            *place = value.into_owned();
        }
    }

    fn event(&self) -> &str {
        let event = if self.voice_event.is_empty() { &self.other_event } else { &self.voice_event };
        event.trim()
    }

    fn understood(self) -> Callback {
        let mut notes: Vec<String> = self.note.clone().into_iter().collect();
        let mut accounts = Vec::new();
        for account in self.accounts.iter().filter(|account| !account.is_empty()) {
            match AccountId::new(account) {
                Ok(account) if accounts.contains(&account) => {}
                Ok(account) => accounts.push(account),
                Err(why) => notes.push(format!("an account is no account id: {why}")),
            }
        }
        let ended = self.ended(&mut notes);
        let ids = [
            ("CallUUID", &self.call_uuid),
            ("call_uuid", &self.campaign_call_uuid),
            ("call_id", &self.old_call_id),
        ];
        let call_id = match ids.into_iter().find(|(_, text)| !text.is_empty()) {
            Some((key, text)) => id(key, text, &mut notes),
            None => None,
        };
        notes.dedup();
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        Callback { event: printable(self.event()), ended, call_id, accounts, note }
    }

    fn ended(&self, notes: &mut Vec<String>) -> Option<CallEnd> {
        let event = self.event();
        let (key, text, leg) = if event.eq_ignore_ascii_case("Hangup") {
            // Keys that only trunk webhooks have (documented); voice callbacks never do (captured).
            let trunk =
                [&self.trunk_id, &self.sip_call_id, &self.accounts[1]].iter().any(|value| !value.is_empty());
            ("CallUUID", &self.call_uuid, if trunk { Leg::Trunk } else { Leg::Voice })
        } else if event.eq_ignore_ascii_case("DialHangup") {
            ("DialBLegUUID", &self.dial_b_leg, Leg::BLeg)
        } else if event.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("contact.")) {
            ("call_uuid", &self.campaign_call_uuid, Leg::Campaign)
        } else {
            return None;
        };
        if text.is_empty() {
            // A contact that was never dialled has no call to name.
            if leg != Leg::Campaign {
                notes.push(format!("there is no {key}"));
            }
            return None;
        }
        let call_id = id(key, text, notes)?;
        let same = |other: &&String| CallId::new(other).as_ref() == Ok(&call_id);
        if leg == Leg::BLeg && [&self.call_uuid, &self.dial_a_leg].iter().any(same) {
            // The A leg goes on; its own Hangup will come.
            notes.push("DialBLegUUID is the A leg".to_owned());
            return None;
        }
        let sip = &self.sip_call_id;
        let usable = leg == Leg::Trunk && (1..=255).contains(&sip.len()) && !sip.contains(char::is_control);
        Some(CallEnd { call_id, leg, sip_call_id: usable.then(|| sip.clone()) })
    }
}

fn id(key: &str, text: &str, notes: &mut Vec<String>) -> Option<CallId> {
    let id = CallId::new(text);
    if let Err(why) = &id {
        notes.push(format!("{key} is no call id: {why}"));
    }
    id.ok()
}

/// Fit for a log line and a column: nothing that could break a line or forge another field.
fn printable(event: &str) -> String {
    let safe = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    event.chars().take(64).map(safe).collect()
}

#[cfg(test)]
#[path = "callback_tests.rs"]
mod tests;
