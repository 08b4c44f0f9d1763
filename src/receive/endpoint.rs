//! The endpoint: proof and policy. A handler cannot be given a callback that the policy refuses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tracing::debug;
use uuid::Uuid;

use super::body::{BODY_LIMIT, Bodies, UnreadBody, stated_length};
use super::differs::Destination;
use super::group_commit::{COMMIT_WITHIN, GroupCommit};
use super::refusal::Refusals;
use super::search::Search;
use super::unproven::{Unproven, cut};
use crate::db::queue::enqueue::{CallbackEntry, CallbackOutcome, Owed};
use crate::vobiz::SignaturePolicy;
use crate::vobiz::signature::{BodySignature, LONGEST_SIGNED_BODY, Proven};
use crate::vobiz::{AccountId, CallId, Callback, Nonces, Proof, Verifier, callback};
use crate::watch::arrivals::{Arrival, Refusal};
use crate::watch::metrics::Metrics;

/// Of a refused callback, bytes of the query and of the body that are kept.
const REFUSED_BYTES: usize = 4 * 1024;
/// Vobiz gives up after 3 s (documented): better to say 503 in time.
const ANSWER_WITHIN: Duration = Duration::from_millis(2500);
const _: () = assert!(
    COMMIT_WITHIN.as_millis() < ANSWER_WITHIN.as_millis() && ANSWER_WITHIN.as_millis() <= 2500,
    "Vobiz gives up after 3 s; the answer takes its way back, and the failed commit its words, within them"
);

/// What the endpoint checks callbacks by; replaced as a whole by a reload.
#[derive(Debug)]
pub struct EndpointSettings {
    /// What a callback must prove.
    pub policy: SignaturePolicy,
    /// The configured accounts.
    pub accounts: Vec<AccountId>,
    /// The callback URLs as configured at Vobiz.
    pub urls: Vec<String>,
    /// Tokens, URLs and secrets.
    pub verifier: Verifier,
}

/// The endpoint: the state behind the routes.
#[derive(Debug)]
pub struct Endpoint {
    settings: RwLock<Arc<EndpointSettings>>,
    group_commit: GroupCommit,
    nonces: Mutex<Nonces>,
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
            nonces: Mutex::new(Nonces::default()),
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
    let VerifiedCallback { id, entry, owed } = callback;
    if entry.is_none() && owed.is_none() {
        // One of many that prove nothing: it is counted.
        return StatusCode::OK.into_response();
    }
    match tokio::time::timeout(ANSWER_WITHIN, endpoint.group_commit.submit(entry, owed)).await {
        Ok(Ok(())) => StatusCode::OK.into_response(),
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
}

impl FromRequest<Arc<Endpoint>> for VerifiedCallback {
    type Rejection = Response;

    async fn from_request(request: Request, endpoint: &Arc<Endpoint>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        if stated_length(&parts.headers).is_some_and(|length| length > BODY_LIMIT) {
            return Err(UnreadBody::TooLong(Vec::new()).into_response());
        }
        let settings = endpoint.settings();
        let path = CallbackPath::of(&mut parts, endpoint, &settings).await;
        let came = Destination::of(&parts.headers, &parts.uri);
        // Whoever knows neither a token nor the secret has nothing read that need not be.
        let by_url = settings.verifier.signed_url(&parts.headers);
        let by_head = by_url.is_some() || path.secret_is_ours;
        let by_body = BodySignature::of(&parts.headers).filter(|_| !by_head);
        let limit = match (&by_body, settings.policy) {
            _ if by_head => BODY_LIMIT,
            (_, SignaturePolicy::Optional | SignaturePolicy::Off) => BODY_LIMIT,
            (Some(_), _)
                if stated_length(&parts.headers).is_none_or(|length| length <= LONGEST_SIGNED_BODY) =>
            {
                LONGEST_SIGNED_BODY
            }
            _ => return endpoint.refuse(&settings, &parts, body, path.refusal(&parts.headers), &came).await,
        };
        let read = match endpoint.bodies.read(body, limit, by_head).await {
            Ok(read) => read,
            // Too long to be hashed: it proves nothing.
            Err(UnreadBody::TooLong(beginning)) if limit < BODY_LIMIT => {
                let refusal = path.refusal(&parts.headers);
                return endpoint.refuse(&settings, &parts, beginning.into(), refusal, &came).await;
            }
            Err(error) => return Err(error.into_response()),
        };
        let received = ReceivedCallback::of(&parts, read.bytes);
        let proven = match by_body {
            _ if by_url.is_some() => by_url,
            Some(signature) => {
                let named = received.callback.accounts.iter().chain(&path.account).cloned().collect();
                endpoint.search.run(&settings.verifier, &signature, &received.body, named).await?
            }
            None => None,
        };
        match endpoint.verify(&settings, &parts.headers, &path, &received, proven) {
            Ok(proof) => {
                let announces = received.callback.ended.is_some();
                let is_proven = proof.proof != Proof::None;
                let mut callback = attribute(&settings, &path, received, proof);
                if announces && callback.owed.is_none() {
                    endpoint.count(Refusal::NoAccount, &came, &settings.urls);
                }
                if !is_proven {
                    let kept = |entry| endpoint.unproven.keep(entry, &endpoint.metrics, Instant::now());
                    callback.entry = callback.entry.and_then(kept);
                }
                Ok(callback)
            }
            Err(refusal) => endpoint.refuse(&settings, &parts, received.body.into(), refusal, &came).await,
        }
    }
}

/// The account and the secret that the path of a request names.
#[derive(Default)]
struct CallbackPath {
    account: Option<AccountId>,
    has_secret: bool,
    secret_is_ours: bool,
}

impl CallbackPath {
    async fn of(parts: &mut Parts, endpoint: &Arc<Endpoint>, settings: &EndpointSettings) -> Self {
        let segments: Vec<(String, String)> = Path::from_request_parts(parts, endpoint)
            .await
            .map(|Path(segments)| segments)
            .unwrap_or_default();
        let mut path = Self::default();
        for (name, value) in segments {
            match name.as_str() {
                "secret" => {
                    path.has_secret = true;
                    path.secret_is_ours = settings.verifier.is_secret(&value);
                }
                _ => path.account = settings.configured(AccountId::new(&value).ok().as_ref()),
            }
        }
        path
    }

    /// Why a callback to this path is refused, if nothing proves it.
    fn refusal(&self, headers: &HeaderMap) -> Refusal {
        if self.has_secret && !self.secret_is_ours {
            Refusal::WrongSecret
        } else if headers.keys().any(|name| name.as_str().starts_with("x-vobiz-signature")) {
            Refusal::WrongSignature
        } else {
            Refusal::NoProof
        }
    }
}

/// A callback as it was received, before any of it is proven.
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
        // What is not proved may not fill the disk either: of its query and its body, the beginnings are kept.
        let keep = match (outcome, proof) {
            (CallbackOutcome::Refused, _) => REFUSED_BYTES,
            (_, Proof::None) => 8 * 1024,
            _ => BODY_LIMIT,
        };
        let entry = CallbackEntry {
            id: self.id,
            event: self.callback.event,
            call_id: self.callback.ended.map(|ended| ended.call_id).or(self.callback.call_id),
            account_id: account,
            proof,
            outcome,
            note,
            remote_address: self.remote_address,
            query: self.query,
            body: self.body,
        };
        cut(entry, keep)
    }
}

/// The proof of a callback, and the account whose token made it.
struct Proved {
    proof: Proof,
    account: Option<AccountId>,
}

impl EndpointSettings {
    fn configured(&self, account: Option<&AccountId>) -> Option<AccountId> {
        account.filter(|account| self.accounts.contains(*account)).cloned()
    }
}

impl Endpoint {
    /// Refuses a callback, and keeps it if the sample of this minute has room: only then is its beginning read.
    async fn refuse<T>(
        &self,
        settings: &EndpointSettings,
        parts: &Parts,
        body: Body,
        refusal: Refusal,
        came: &Destination,
    ) -> Result<T, Response> {
        if self.count(refusal, came, &settings.urls) {
            let beginning = self.bodies.beginning(body, REFUSED_BYTES).await;
            let received = ReceivedCallback::of(parts, beginning);
            let note = Some(refusal.in_words().to_owned());
            let entry = received.into_entry(None, Proof::None, CallbackOutcome::Refused, note);
            self.group_commit.log(entry);
        }
        Err(StatusCode::FORBIDDEN.into_response())
    }

    /// Checks the proof by the policy. A signature does not cover the body, so one nonce proves one call only.
    fn verify(
        &self,
        settings: &EndpointSettings,
        headers: &HeaderMap,
        path: &CallbackPath,
        received: &ReceivedCallback,
        proven: Option<Proven>,
    ) -> Result<Proved, Refusal> {
        let unproven = Proved { proof: Proof::None, account: None };
        let mut refusal = path.refusal(headers);
        if let Some(proven) = proven {
            let call_id = received
                .callback
                .ended
                .as_ref()
                .map(|ended| &ended.call_id)
                .or(received.callback.call_id.as_ref());
            // A body without a call counts as one more call: else the headers of one request would prove any number of them.
            let call_id = call_id.map_or("", CallId::as_str);
            let replayed = {
                let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
                nonces.seen_with_another_call(&proven.nonces, call_id)
            };
            if !replayed {
                return Ok(Proved { proof: proven.proof, account: proven.account });
            }
            refusal = Refusal::Replayed;
        }
        if path.secret_is_ours {
            return Ok(Proved { proof: Proof::Secret, account: None });
        }
        if settings.policy == SignaturePolicy::Required { Err(refusal) } else { Ok(unproven) }
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
        .or_else(|| match settings.accounts.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        });
    let owed = received.callback.ended.as_ref().zip(account.as_ref()).map(|(ended, account)| Owed {
        call_id: ended.call_id.clone(),
        account_id: account.clone(),
        account_proven,
        certain: proved.proof != Proof::None && !ended.leg.is_speculative(),
        sip_call_id: ended.sip_call_id.clone(),
    });
    let mut note = received.callback.note.clone();
    if received.callback.ended.is_some() && account.is_none() {
        note = Some(Refusal::NoAccount.in_words().to_owned());
    }
    let outcome = if owed.is_some() { CallbackOutcome::Owed } else { CallbackOutcome::Logged };
    let id = received.id;
    let entry = Some(received.into_entry(account, proved.proof, outcome, note));
    VerifiedCallback { id, entry, owed }
}
