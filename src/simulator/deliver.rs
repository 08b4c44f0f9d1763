//! Sending callbacks as Vobiz does: signed, with its headers and its timeout. What they say is in `callback.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::http::{Method, Request, StatusCode};

use super::call::Call;
use super::callback::{self, CallbackKind};
use super::draw::{Purpose, numbers};
use super::sign;
use super::world::World;

/// Voice callbacks: an answer later than this is none.
const VOICE_TIMEOUT: Duration = Duration::from_secs(3);
/// The last step of a trunk webhook's way.
const TRUNK_TIMEOUT: Duration = Duration::from_secs(10);
/// Redeliveries after the first attempt of a voice callback.
const REDELIVERIES: u32 = 3;

/// Why a callback got no status.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// Nobody told this Vobiz where such callbacks go.
    #[error("no URL is set for this kind of callback")]
    NoUrl,
    /// The URL cannot be requested.
    #[error("{0:?} is no URL to send a callback to")]
    BadUrl(String),
    /// Refused, cut off, or not answered in time.
    #[error("no answer")]
    NoAnswer(#[source] reqwest::Error),
}

/// How a delivery with its redeliveries ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// 1 to 4.
    pub attempts: u32,
    /// The last answer; `None` when it did not come.
    pub status: Option<StatusCode>,
}

impl Delivery {
    /// Only 200 is known to satisfy Vobiz.
    pub fn acknowledged(&self) -> bool {
        self.status == Some(StatusCode::OK)
    }
}

/// The URLs of a callback: the one it goes to, and the one it is signed for.
struct Urls {
    target: String,
    signed: String,
}

fn urls(world: &World, account_id: &str, trunk: bool) -> Result<Urls, Undelivered> {
    let state = world.lock();
    let filled = |url: &Option<String>| url.as_ref().map(|url| url.replace("{account}", account_id));
    let signed =
        filled(if trunk { &state.trunk_url } else { &state.callback_url }).ok_or(Undelivered::NoUrl)?;
    let target = filled(&state.callback_sent_to).filter(|_| !trunk).unwrap_or_else(|| signed.clone());
    Ok(Urls { target, signed })
}

/// The request that carries a callback, headers and all.
pub(super) fn request(world: &World, call: &Call, kind: CallbackKind) -> Result<Request<Bytes>, Undelivered> {
    let body = callback::body(call, kind);
    if !kind.is_trunk() {
        let nth = {
            let mut state = world.lock();
            state.entries.get_mut(&call.call_id).map_or(0, |entry| {
                entry.deliveries += 1;
                entry.deliveries
            })
        };
        return voice(world, &call.account_id, call.sequence, nth, body);
    }
    let urls = urls(world, &call.account_id, true)?;
    let event = if kind == CallbackKind::TrunkHangup { "Hangup" } else { "CallInitiated" };
    Request::builder()
        .method(Method::POST)
        .uri(&urls.target)
        .header("user-agent", "Vobiz-Vapor/1.0")
        .header("content-type", "application/json")
        .header("x-vobiz-event", event)
        .header("x-vobiz-request-id", callback::request_id(call))
        .body(Bytes::from(body))
        .map_err(|_| Undelivered::BadUrl(urls.target))
}

/// A signed form of this account; `sequence` and `nth` choose its nonces.
pub(super) fn voice(
    world: &World,
    account_id: &str,
    sequence: u64,
    nth: u32,
    body: String,
) -> Result<Request<Bytes>, Undelivered> {
    let urls = urls(world, account_id, false)?;
    let (token, parent_token) = {
        let state = world.lock();
        let login = |id: &str| state.logins.get(id);
        let token = login(account_id).map(|login| login.token.clone()).unwrap_or_default();
        let parent = login(account_id).and_then(|own| own.parent.as_deref()).and_then(login);
        // A main account is its own parent: in every capture the MA headers equal the others.
        let parent_token = parent.map_or_else(|| token.clone(), |parent| parent.token.clone());
        (token, parent_token)
    };
    let mut numbers = numbers(world.options.seed, sequence, Purpose::Delivery(nth));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&urls.target)
        .header("user-agent", "Vobiz")
        .header("accept", "*/*")
        .header("accept-encoding", "gzip")
        .header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in sign::headers(&mut numbers, &urls.signed, &token, &parent_token) {
        request = request.header(name, value);
    }
    request.body(Bytes::from(body)).map_err(|_| Undelivered::BadUrl(urls.target))
}

/// One attempt.
pub(super) async fn send(
    world: &World,
    request: Request<Bytes>,
    trunk: bool,
) -> Result<StatusCode, Undelivered> {
    let target = request.uri().to_string();
    let mut request = reqwest::Request::try_from(request).map_err(|_| Undelivered::BadUrl(target))?;
    *request.timeout_mut() = Some(if trunk { TRUNK_TIMEOUT } else { VOICE_TIMEOUT });
    world.lock().stats.callbacks_sent += 1;
    let status = world.http.execute(request).await.map_err(Undelivered::NoAnswer)?.status();
    world.lock().stats.callbacks_acknowledged += u64::from(status == StatusCode::OK);
    Ok(status)
}

/// One attempt, remembered as the call's acknowledgement if it ended the call and was answered 200.
pub(super) async fn once(world: &World, call: &Call, kind: CallbackKind) -> Result<StatusCode, Undelivered> {
    let status = send(world, request(world, call, kind)?, kind.is_trunk()).await?;
    remember(world, call, kind, status);
    Ok(status)
}

fn remember(world: &World, call: &Call, kind: CallbackKind, status: StatusCode) {
    let ends = matches!(kind, CallbackKind::Hangup | CallbackKind::TrunkHangup);
    if ends
        && status == StatusCode::OK
        && let Some(entry) = world.lock().entries.get_mut(&call.call_id)
    {
        entry.acknowledged = true;
    }
}

/// As Vobiz does it: a voice callback is sent again up to three times unless it is answered 200 in time, with the
/// same body and signatures; a trunk webhook has one attempt.
pub(super) async fn deliver(
    world: &Arc<World>,
    call: &Call,
    kind: CallbackKind,
) -> Result<Delivery, Undelivered> {
    let request = request(world, call, kind)?;
    let most = if kind.is_trunk() { 1 } else { 1 + REDELIVERIES };
    let mut wait = world.options.callback_backoff;
    let mut delivery = Delivery { attempts: 0, status: None };
    loop {
        delivery.attempts += 1;
        delivery.status = match send(world, request.clone(), kind.is_trunk()).await {
            Ok(status) => Some(status),
            Err(Undelivered::NoAnswer(_)) => None,
            Err(other) => return Err(other),
        };
        if delivery.acknowledged() || delivery.attempts == most {
            break;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
    if let Some(status) = delivery.status {
        remember(world, call, kind, status);
    }
    Ok(delivery)
}
