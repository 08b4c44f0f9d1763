//! The routes of the public port, and what they are answered, counted.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;

use super::differs::Destination;
use super::endpoint::{Endpoint, receive};
use crate::watch::arrivals::{Arrival, Refusal};

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
