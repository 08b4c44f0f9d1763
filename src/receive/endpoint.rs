//! The endpoint: proof and policy. A handler cannot be given a callback that the policy refuses.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequest, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tracing::debug;
use uuid::Uuid;

use super::body::{BODY_LIMIT, Bodies, UnreadBody, stated_length};
use super::differs::Destination;
use super::group_commit::{COMMIT_WITHIN, GroupCommit, NotCommitted};
use super::proof::{CallbackPath, EndpointSettings, Proved};
use super::refusal::Refusals;
use super::search::Search;
use super::unproven::{Unproven, cut};
use crate::db::queue::enqueue::{CallbackEntry, CallbackOutcome, Owed};
use crate::vobiz::SignaturePolicy;
use crate::vobiz::signature::{BodySignature, LONGEST_SIGNED_BODY};
use crate::vobiz::{AccountId, Callback, Proof, callback};
use crate::watch::arrivals::{Arrival, Refusal};
use crate::watch::metrics::Metrics;

/// Of a refused callback, bytes of the query and of the body that are kept.
const REFUSED_BYTES: usize = 4 * 1024;
/// The same of one that is proved; of unproven ones that are let in half as much.
const PROVEN_BYTES: usize = 16 * 1024;
/// Vobiz gives up after 3 s (documented): better to say 503 in time.
const ANSWER_WITHIN: Duration = Duration::from_millis(2500);
const _: () = assert!(
    COMMIT_WITHIN.as_millis() < ANSWER_WITHIN.as_millis() && ANSWER_WITHIN.as_millis() <= 2500,
    "Vobiz gives up after 3 s; the answer takes its way back, and the failed commit its words, within them"
);

/// The endpoint: the state behind the routes.
#[derive(Debug)]
pub struct Endpoint {
    settings: RwLock<Arc<EndpointSettings>>,
    group_commit: GroupCommit,
    refusals: Refusals,
    unproven: Unproven,
    bodies: Bodies,
    search: Search,
    pub(super) metrics: Metrics,
}

impl Endpoint {
    /// An endpoint in front of a group commit.
    pub fn new(settings: EndpointSettings, group_commit: GroupCommit, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            settings: RwLock::new(Arc::new(settings)),
            group_commit,
            refusals: Refusals::default(),
            unproven: Unproven::default(),
            bodies: Bodies::default(),
            search: Search::default(),
            metrics,
        })
    }

    /// Callbacks that come from now on are checked by these settings; those under way by the ones that were in force when they came.
    pub fn reload(&self, settings: EndpointSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Counts a refusal, keeps how it differs from what is configured, and says whether to keep it in the sample.
    pub(super) fn count(&self, refusal: Refusal, came: &Destination, configured: &[String]) -> bool {
        self.metrics.arrivals.count(Arrival::Refused(refusal));
        self.metrics.arrivals.differs(refusal, came.differs(refusal, configured));
        if Refusal::TURNED_AWAY.contains(&refusal) {
            self.metrics.refused.with_label_values(&[refusal.as_str()]).inc();
        }
        self.refusals.count(refusal, Instant::now())
    }

    fn settings(&self) -> Arc<EndpointSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The handler: 200 once the callback is committed, 503 if that cannot be or takes too long.
pub(super) async fn receive(State(endpoint): State<Arc<Endpoint>>, callback: VerifiedCallback) -> Response {
    let id = callback.id;
    match tokio::time::timeout(ANSWER_WITHIN, endpoint.commit(callback)).await {
        Ok(Ok(())) => StatusCode::OK.into_response(),
        Ok(Err(NotCommitted::Replayed)) => StatusCode::FORBIDDEN.into_response(),
        Ok(Err(error)) => {
            debug!(%id, %error, "callback answered 503");
            unavailable()
        }
        // It may still be committed; Vobiz will call again, and a repeat is harmless.
        Err(_) => {
            debug!(%id, "callback not committed in time: answered 503");
            unavailable()
        }
    }
}

pub(super) fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response()
}

/// A callback that is let in: its proof was checked by the policy, and it was read as far as it can be.
pub(super) struct VerifiedCallback {
    id: Uuid,
    /// What goes into the log: of an unproven one not always something.
    entry: Option<CallbackEntry>,
    owed: Option<Owed>,
    /// For one that a nonce proves: what it is where that turns out to be another call's.
    without_signature: Option<Box<WithoutSignature>>,
}

/// A callback whose signature may be worth nothing.
struct WithoutSignature {
    settings: Arc<EndpointSettings>,
    path: CallbackPath,
    received: ReceivedCallback,
    came: Destination,
}

impl FromRequest<Arc<Endpoint>> for VerifiedCallback {
    type Rejection = Response;

    async fn from_request(request: Request, endpoint: &Arc<Endpoint>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let length = stated_length(&parts.headers);
        if length.is_some_and(|length| length > BODY_LIMIT) {
            return Err(UnreadBody::TooLong(Vec::new()).into_response());
        }
        let settings = endpoint.settings();
        let path = CallbackPath::of(&mut parts, &settings).await;
        let came = Destination::of(&parts.headers, &parts.uri);
        // Whoever knows neither a token nor a secret has nothing read that need not be.
        let by_url = settings.verifier.signed_url(&parts.headers);
        let by_head = by_url.is_some() || path.secret_is_ours();
        let by_body = BodySignature::of(&parts.headers).filter(|_| by_url.is_none());
        let refusal = path.refusal(&parts.headers);
        let limit = match (&by_body, settings.policy) {
            _ if by_head => BODY_LIMIT,
            (_, SignaturePolicy::Optional | SignaturePolicy::Off) => BODY_LIMIT,
            (Some(_), _) if length.is_none_or(|length| length <= LONGEST_SIGNED_BODY) => LONGEST_SIGNED_BODY,
            _ => return Err(endpoint.refuse(refusal, &came, &settings, &parts, body).await),
        };
        let read = match endpoint.bodies.read(body, limit, by_head).await {
            Ok(read) => read,
            // Too long to be hashed: it proves nothing.
            Err(UnreadBody::TooLong(beginning)) if limit < BODY_LIMIT => {
                return Err(endpoint.refuse(refusal, &came, &settings, &parts, beginning.into()).await);
            }
            Err(error) => return Err(error.into_response()),
        };
        let received = ReceivedCallback::of(&parts, read.bytes);
        let signed = match by_body {
            None => by_url,
            Some(signature) => {
                let named = received.callback.accounts.iter().chain(&path.account).cloned().collect();
                match endpoint.search.run(&settings.verifier, &signature, &received.body, named).await {
                    Ok(found) => found,
                    // The secret in its path proves it all the same.
                    Err(_) if by_head => None,
                    Err(answer) => return Err(answer),
                }
            }
        };
        match settings.judge(&path, &received.callback, signed.as_ref(), refusal) {
            Ok(proved) => {
                let without_signature = (!proved.nonces.is_empty()).then(|| {
                    let (settings, received) = (Arc::clone(&settings), received.clone());
                    Box::new(WithoutSignature { settings, path: path.clone(), received, came: came.clone() })
                });
                let callback = endpoint.let_in(&settings, &path, &came, received, proved);
                Ok(Self { without_signature, ..callback })
            }
            Err(refusal) => {
                endpoint.refuse_received(refusal, &came, &settings, received);
                Err(StatusCode::FORBIDDEN.into_response())
            }
        }
    }
}

/// A callback as it was received, before any of it is proven.
#[derive(Clone)]
struct ReceivedCallback {
    id: Uuid,
    callback: Callback,
    remote_address: Option<String>,
    query: Option<String>,
    body: Bytes,
}

impl ReceivedCallback {
    fn of(parts: &Parts, body: Bytes) -> Self {
        let query = parts.uri.query();
        Self {
            id: Uuid::now_v7(),
            callback: callback::parse(query, &body),
            remote_address: parts
                .extensions
                .get::<ConnectInfo<SocketAddr>>()
                .map(|ConnectInfo(address)| address.ip().to_string()),
            query: query.map(|query| query.replace('\0', "")),
            body,
        }
    }

    fn into_entry(
        self,
        account: Option<AccountId>,
        proof: Proof,
        outcome: CallbackOutcome,
        note: Option<String>,
    ) -> CallbackEntry {
        // Nothing may fill the disk, proved or not: of a long query and a long body, the beginnings are kept.
        let keep = match (outcome, proof) {
            (CallbackOutcome::Refused, _) => REFUSED_BYTES,
            (_, Proof::None) => 8 * 1024,
            _ => PROVEN_BYTES,
        };
        let entry = CallbackEntry {
            id: self.id,
            event: self.callback.event,
            call_id: self.callback.ended.map(|ended| ended.call_id).or(self.callback.call_id),
            account_id: account,
            proof,
            nonces: Vec::new(),
            outcome,
            note,
            remote_address: self.remote_address,
            query: self.query,
            body: self.body,
        };
        cut(entry, keep)
    }
}

impl Endpoint {
    /// What a callback that the policy lets in makes owed, and what of it the log keeps.
    fn let_in(
        &self,
        settings: &EndpointSettings,
        path: &CallbackPath,
        came: &Destination,
        received: ReceivedCallback,
        proved: Proved,
    ) -> VerifiedCallback {
        let announces = received.callback.ended.is_some();
        let is_proven = proved.proof != Proof::None;
        let mut callback = attribute(settings, path, received, proved);
        if announces && callback.owed.is_none() {
            self.count(Refusal::NoAccount, came, &settings.urls);
        }
        if !is_proven {
            let kept = |entry| self.unproven.keep(entry, &self.metrics, Instant::now());
            callback.entry = callback.entry.and_then(kept);
        }
        callback
    }

    /// Commits a callback. One whose nonce is another call's is worth what it is without its signature.
    async fn commit(&self, callback: VerifiedCallback) -> Result<(), NotCommitted> {
        let VerifiedCallback { entry, owed, without_signature, .. } = callback;
        if entry.is_none() && owed.is_none() {
            // One of many that prove nothing: it is counted.
            return Ok(());
        }
        match (self.group_commit.submit(entry, owed).await, without_signature) {
            (Err(NotCommitted::Replayed), Some(callback)) => self.commit_without_signature(*callback).await,
            (result, _) => result,
        }
    }

    async fn commit_without_signature(&self, callback: WithoutSignature) -> Result<(), NotCommitted> {
        let WithoutSignature { settings, path, received, came } = callback;
        match settings.without_signature(&path, &received.callback, Refusal::Replayed) {
            Ok(proved) => {
                let VerifiedCallback { entry, owed, .. } =
                    self.let_in(&settings, &path, &came, received, proved);
                if entry.is_none() && owed.is_none() {
                    return Ok(());
                }
                self.group_commit.submit(entry, owed).await
            }
            Err(refusal) => {
                self.refuse_received(refusal, &came, &settings, received);
                Err(NotCommitted::Replayed)
            }
        }
    }

    /// Refuses a callback that is not read. It is kept if the sample of this minute has room: only then is its beginning read.
    async fn refuse(
        &self,
        refusal: Refusal,
        came: &Destination,
        settings: &EndpointSettings,
        parts: &Parts,
        body: Body,
    ) -> Response {
        if self.count(refusal, came, &settings.urls) {
            let beginning = self.bodies.beginning(body, REFUSED_BYTES).await;
            self.log_refused(refusal, ReceivedCallback::of(parts, beginning));
        }
        StatusCode::FORBIDDEN.into_response()
    }

    /// Counts the refusal of a callback that was read, and keeps some.
    fn refuse_received(
        &self,
        refusal: Refusal,
        came: &Destination,
        settings: &EndpointSettings,
        received: ReceivedCallback,
    ) {
        if self.count(refusal, came, &settings.urls) {
            self.log_refused(refusal, received);
        }
    }

    fn log_refused(&self, refusal: Refusal, received: ReceivedCallback) {
        let note = Some(refusal.in_words().to_owned());
        self.group_commit.log(received.into_entry(None, Proof::None, CallbackOutcome::Refused, note));
    }
}

/// Attributes a callback to an account, and says which call it makes owed.
fn attribute(
    settings: &EndpointSettings,
    path: &CallbackPath,
    received: ReceivedCallback,
    proved: Proved,
) -> VerifiedCallback {
    let account_proven = proved.account.is_some();
    let account = proved
        .account
        .or_else(|| received.callback.accounts.iter().find_map(|hint| settings.configured(Some(hint))))
        .or_else(|| path.account.clone())
        .or(proved.fallback)
        .or_else(|| match settings.accounts.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        });
    let owed = received.callback.ended.as_ref().zip(account.as_ref()).map(|(ended, account)| Owed {
        call_id: ended.call_id.clone(),
        account_id: account.clone(),
        account_proven,
        other_account: None,
        by_secret: proved.by_secret && !ended.leg.is_speculative(),
        hurries: proved.proof != Proof::None && !ended.leg.is_speculative(),
        certain: proved.proof != Proof::None && !ended.leg.is_speculative(),
        sip_call_id: ended.sip_call_id.clone(),
    });
    let mut note = received.callback.note.clone();
    if received.callback.ended.is_some() && account.is_none() {
        note = Some(Refusal::NoAccount.in_words().to_owned());
    }
    let outcome = if owed.is_some() { CallbackOutcome::Owed } else { CallbackOutcome::Logged };
    let id = received.id;
    let mut entry = received.into_entry(account, proved.proof, outcome, note);
    entry.nonces = proved.nonces;
    VerifiedCallback { id, entry: Some(entry), owed, without_signature: None }
}
