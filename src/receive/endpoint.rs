//! The endpoint: routes, and what becomes of what comes by them. A handler cannot be given a callback that the policy refuses.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tracing::debug;
use uuid::Uuid;

use super::differs::Destination;
use super::group_commit::{COMMIT_WITHIN, GroupCommit, NotCommitted};
use super::proof::{CallbackPath, EndpointSettings, Proved};
use super::refusal::Refusals;
use crate::db::queue::enqueue::{CallbackEntry, CallbackOutcome, Owed};
use crate::vobiz::{AccountId, Callback, Proof, callback};
use crate::watch::arrivals::{Arrival, Refusal};
use crate::watch::metrics::Metrics;

/// Longest body, in bytes. A captured hang-up has 674.
const BODY_LIMIT: usize = 256 * 1024;
/// What is kept of a body that is proved; of others less.
const BODY_KEPT: usize = 16 * 1024;
/// A body that takes longer is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
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
    metrics: Metrics,
}

impl Endpoint {
    /// An endpoint in front of a group commit.
    pub fn new(settings: EndpointSettings, group_commit: GroupCommit, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            settings: RwLock::new(Arc::new(settings)),
            group_commit,
            refusals: Refusals::default(),
            metrics,
        })
    }

    /// Callbacks that come from now on are checked by these settings; those under way by the ones that were in force when they came.
    pub fn reload(&self, settings: EndpointSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Counts a refusal, keeps how it differs from what is configured, and says whether to keep it in the sample.
    fn count(&self, refusal: Refusal, came: &Destination, configured: &[String]) -> bool {
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

/// The public port: the callback path and `/healthz`, nothing else.
pub fn router(endpoint: Arc<Endpoint>) -> Router {
    let callback = get(receive).post(receive);
    Router::new()
        .route("/callbacks/vobiz", callback.clone())
        .route("/callbacks/vobiz/", callback.clone())
        .route("/callbacks/vobiz/{secret}", callback.clone())
        .route("/callbacks/vobiz/{secret}/", callback.clone())
        .route("/callbacks/vobiz/{account}/{secret}", callback.clone())
        .route("/callbacks/vobiz/{account}/{secret}/", callback)
        .route_layer(middleware::from_fn_with_state(Arc::clone(&endpoint), count))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(no_such_path)
        .with_state(endpoint)
}

/// Counts what callbacks are answered, and how long it takes.
async fn count(State(endpoint): State<Arc<Endpoint>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let response = next.run(request).await;
    let result = match response.status() {
        StatusCode::OK => "committed",
        StatusCode::FORBIDDEN => "refused",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        _ => "bad_request",
    };
    endpoint.metrics.callbacks.with_label_values(&[result]).inc();
    match result {
        "committed" => endpoint.metrics.arrivals.count(Arrival::Accepted),
        "unavailable" => endpoint.metrics.arrivals.count(Arrival::Unavailable),
        // Counted by its reason.
        "refused" => {}
        _ => endpoint.metrics.arrivals.count(Arrival::BadRequest),
    }
    endpoint.metrics.callback_seconds.observe(began.elapsed().as_secs_f64());
    response
}

/// A slip in a URL at Vobiz loses callbacks, so it is counted and logged. Any other path that strangers ask for is not.
async fn no_such_path(State(endpoint): State<Arc<Endpoint>>, uri: Uri, headers: HeaderMap) -> StatusCode {
    if uri.path().starts_with("/callback") {
        endpoint.metrics.callbacks.with_label_values(&["no_such_path"]).inc();
        endpoint.count(Refusal::WrongPath, &Destination::of(&headers, &uri), &[]);
    }
    StatusCode::NOT_FOUND
}

/// The handler: 200 once the callback is committed, 503 if that cannot be or takes too long.
async fn receive(State(endpoint): State<Arc<Endpoint>>, callback: VerifiedCallback) -> Response {
    let VerifiedCallback { entry, owed, without_signature } = callback;
    let id = entry.id;
    let committed = async {
        match (endpoint.group_commit.submit(entry, owed).await, without_signature) {
            (Err(NotCommitted::Replayed), Some(callback)) => {
                endpoint.commit_without_signature(*callback).await
            }
            (result, _) => result,
        }
    };
    match tokio::time::timeout(ANSWER_WITHIN, committed).await {
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

fn unavailable() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response()
}

/// A callback that is let in: its proof was checked by the policy, and it was read as far as it can be.
struct VerifiedCallback {
    entry: CallbackEntry,
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
        let settings = endpoint.settings();
        let path = CallbackPath::of(&mut parts, &settings).await;
        let body = read(body).await?;
        let received = ReceivedCallback {
            id: Uuid::now_v7(),
            callback: callback::parse(parts.uri.query(), &body),
            remote_address: parts
                .extensions
                .get::<ConnectInfo<SocketAddr>>()
                .map(|ConnectInfo(address)| address.ip().to_string()),
            query: parts.uri.query().map(|query| query.replace('\0', "")),
            body,
        };
        match settings.verify(&parts.headers, &path, &received.callback, &received.body) {
            Ok(proved) => {
                let announces = received.callback.ended.is_some();
                let without_signature = (!proved.nonces.is_empty()).then(|| {
                    let came = Destination::of(&parts.headers, &parts.uri);
                    let (settings, received) = (Arc::clone(&settings), received.clone());
                    Box::new(WithoutSignature { settings, path: path.clone(), received, came })
                });
                let callback = attribute(&settings, &path, received, proved);
                let callback = VerifiedCallback { without_signature, ..callback };
                if announces && callback.owed.is_none() {
                    endpoint.count(
                        Refusal::NoAccount,
                        &Destination::of(&parts.headers, &parts.uri),
                        &settings.urls,
                    );
                }
                Ok(callback)
            }
            Err(refusal) => {
                endpoint.refuse(refusal, &Destination::of(&parts.headers, &parts.uri), &settings, received);
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
    fn into_entry(
        self,
        account: Option<AccountId>,
        proof: Proof,
        outcome: CallbackOutcome,
        note: Option<String>,
    ) -> CallbackEntry {
        // Nothing may fill the disk, proved or not: of what is long, the beginning is kept.
        let keep = match (outcome, proof) {
            (CallbackOutcome::Refused, _) => 4 * 1024,
            (_, Proof::None) => 8 * 1024,
            _ => BODY_KEPT,
        };
        let cut = self.body.len() > keep;
        let note = if cut {
            let said = note.map(|note| note + "; ").unwrap_or_default();
            Some(format!("{said}the first {keep} of {} bytes are kept", self.body.len()))
        } else {
            note
        };
        CallbackEntry {
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
            body: if cut { Bytes::copy_from_slice(&self.body[..keep]) } else { self.body },
        }
    }
}

impl Endpoint {
    /// Commits a callback whose nonce is another call's, as what it is without its signature.
    async fn commit_without_signature(&self, callback: WithoutSignature) -> Result<(), NotCommitted> {
        let WithoutSignature { settings, path, received, came } = callback;
        match settings.without_signature(&path, &received.callback, Refusal::Replayed) {
            Ok(proved) => {
                let VerifiedCallback { entry, owed, .. } = attribute(&settings, &path, received, proved);
                self.group_commit.submit(entry, owed).await
            }
            Err(refusal) => {
                self.refuse(refusal, &came, &settings, received);
                Err(NotCommitted::Replayed)
            }
        }
    }

    /// Counts a refused callback, and keeps some.
    fn refuse(
        &self,
        refusal: Refusal,
        came: &Destination,
        settings: &EndpointSettings,
        received: ReceivedCallback,
    ) {
        if self.count(refusal, came, &settings.urls) {
            let note = Some(refusal.in_words().to_owned());
            self.group_commit.log(received.into_entry(None, Proof::None, CallbackOutcome::Refused, note));
        }
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
    let mut entry = received.into_entry(account, proved.proof, outcome, note);
    entry.nonces = proved.nonces;
    VerifiedCallback { entry, owed, without_signature: None }
}

async fn read(body: Body) -> Result<Bytes, Response> {
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(StatusCode::PAYLOAD_TOO_LARGE.into_response())
        }
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST.into_response()),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT.into_response()),
    }
}
