//! Callbacks: `handler` checks and reads them and keeps nothing; `insert` writes each in a statement of its own, log and queue
//! together, on a pool of 40 connections with the settings of sqlx, which asks a connection whether it lives before each use;
//! `insert-our-pool` does the same on our pool, which does not.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use secrecy::SecretString;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vobiz_cdr::db;
use vobiz_cdr::serve::port::{self, listen};
use vobiz_cdr::vobiz::{AccountId, Callback, Proof, Verifier, callback};
use vobiz_cdr::watch::metrics::Metrics;

use crate::harness::role::{RoleArgs, orders, say};
use crate::harness::{ACCOUNT, PUBLIC_URL, TOKEN};

const CONNECTIONS: u32 = 40;

struct Shared {
    verifier: Verifier,
    /// None: nothing is kept.
    pool: Option<PgPool>,
}

/// The role.
pub(crate) async fn run(args: &RoleArgs) -> anyhow::Result<()> {
    let token = (AccountId::new(ACCOUNT)?, SecretString::from(TOKEN));
    let pool = match args.name.as_str() {
        "insert" => {
            let options = db::connect(&args.database_url, "insert", 1)?.connect_options();
            Some(PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with((*options).clone()))
        }
        "insert-our-pool" => Some(db::connect(&args.database_url, "insert", CONNECTIONS)?),
        _ => None,
    };
    if let Some(pool) = &pool {
        // Not one of them is to connect while the clock runs.
        let mut warm = Vec::new();
        for _ in 0..CONNECTIONS {
            warm.push(pool.acquire().await?);
        }
    }
    let shared = Shared { verifier: Verifier::new(&[PUBLIC_URL.to_owned()], &[token], &[]), pool };
    let router = Router::new().route("/callbacks/vobiz", post(receive)).with_state(Arc::new(shared));
    let listener = TcpListener::bind(args.listen).await?;
    say(&format!("ready {}", listener.local_addr()?));
    let metrics = Metrics::new();
    let heartbeat = metrics.heartbeats.start("port", Duration::from_secs(60));
    let stop = CancellationToken::new();
    let serving = tokio::spawn(listen(listener, router, port::PUBLIC, metrics, heartbeat, stop.clone()));
    while orders().next_line().await?.is_some() {}
    stop.cancel();
    Ok(serving.await?)
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(proven) = shared.verifier.verify(&headers, &body) else { return StatusCode::FORBIDDEN };
    let callback = callback::parse(None, &body);
    let Some(pool) = &shared.pool else { return StatusCode::OK };
    match keep(pool, &callback, proven.proof, &body).await {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            tracing::warn!(%error, "not kept");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

async fn keep(pool: &PgPool, callback: &Callback, proof: Proof, body: &[u8]) -> Result<(), sqlx::Error> {
    let ended = callback.ended.as_ref().map(|ended| ended.call_id.as_str());
    sqlx::query(
        "with logged as (
           insert into vobiz.callback (id, received_at, event, call_id, account_id, proof, outcome, body)
           values ($1, vobiz.now(), $2, $3, $4, $5, 'owed', $6)
         )
         insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, announced_at, due_at)
         select $3, $4, true, true, vobiz.now(), vobiz.now() + interval '4 seconds'
         where not exists (select from vobiz.cdr where call_id = $3)
         on conflict (call_id) do nothing",
    )
    .bind(Uuid::now_v7())
    .bind(&callback.event)
    .bind(ended)
    .bind(ACCOUNT)
    .bind(proof.as_str())
    .bind(body)
    .execute(pool)
    .await?;
    Ok(())
}
