//! An endpoint to send callbacks to: the real router, the real group commit, and what they wrote down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::BodyExt;
use secrecy::SecretString;
use sha2::Sha256;
use sqlx::{PgPool, Postgres, Transaction};
use tower::ServiceExt;
use vobiz_cdr::receive::{
    COMMIT_WITHIN, Endpoint, EndpointSettings, GroupCommit, GroupCommitSettings, router,
};
use vobiz_cdr::simulator::{Call, CallbackKind, Simulator};
use vobiz_cdr::vobiz::SignaturePolicy;
use vobiz_cdr::vobiz::{AccountId, Verifier};
use vobiz_cdr::watch::metrics::Metrics;

use super::database::{ACCOUNT, Database};
use super::wait::{LIMIT, until_is};

/// Where callbacks are sent.
pub(crate) const PATH: &str = "/callbacks/vobiz";
/// The URL that Vobiz signs: not the path above, as behind a proxy that rewrites it.
pub(crate) const URL: &str = "https://calls.example.com/vobiz/hangup";
/// Token of [`ACCOUNT`]; the samples are signed with it.
pub(crate) const TOKEN: &str = "tok_main_7f3c1a9e5b2d4860";
/// The secret path segment.
pub(crate) const SECRET: &str = "a-secret-path-segment";

/// What an endpoint is made of. By default: signatures or the secret are required, and there is one account.
pub(crate) struct Setup<'a> {
    pub(crate) policy: SignaturePolicy,
    pub(crate) accounts: Vec<&'a str>,
    pub(crate) tokens: Vec<(&'a str, &'a str)>,
    pub(crate) urls: Vec<&'a str>,
    pub(crate) secrets: Vec<&'a str>,
    pub(crate) account_secrets: Vec<(&'a str, &'a str)>,
    pub(crate) max_speculative_per_minute: u32,
    pub(crate) max_by_secret_per_minute: u32,
    pub(crate) commit_timeout: Duration,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            policy: SignaturePolicy::Required,
            accounts: vec![ACCOUNT],
            tokens: vec![(ACCOUNT, TOKEN)],
            urls: vec![URL],
            secrets: vec![SECRET],
            account_secrets: vec![],
            max_speculative_per_minute: 600,
            max_by_secret_per_minute: 600,
            commit_timeout: COMMIT_WITHIN,
        }
    }
}

impl Setup<'_> {
    /// Opens the endpoint in front of a database, with a writer of its own behind it.
    pub(crate) fn open(self, pool: &PgPool) -> OpenEndpoint {
        let metrics = Metrics::new();
        let (group_commit, writer) = GroupCommit::new(
            pool.clone(),
            GroupCommitSettings {
                first_fetch_delay: Duration::from_secs(4),
                max_speculative_per_minute: self.max_speculative_per_minute,
                max_by_secret_per_minute: self.max_by_secret_per_minute,
                commit_timeout: self.commit_timeout,
            },
            &metrics,
        );
        tokio::spawn(writer);
        let urls: Vec<String> = self.urls.iter().map(ToString::to_string).collect();
        let of_accounts = |pairs: &[(&str, &str)]| -> Vec<(AccountId, SecretString)> {
            pairs.iter().map(|(id, secret)| (AccountId::new(id).unwrap(), (*secret).into())).collect()
        };
        let tokens = of_accounts(&self.tokens);
        let secrets: Vec<SecretString> = self.secrets.iter().map(|secret| (*secret).into()).collect();
        let settings = EndpointSettings {
            policy: self.policy,
            accounts: self.accounts.iter().map(|id| AccountId::new(id).unwrap()).collect(),
            urls: urls.clone(),
            verifier: Verifier::new(&urls, &tokens, &secrets)
                .with_account_secrets(&of_accounts(&self.account_secrets)),
        };
        OpenEndpoint { router: router(Endpoint::new(settings, group_commit, metrics.clone())), metrics }
    }
}

/// An endpoint that is open.
#[derive(Clone)]
pub(crate) struct OpenEndpoint {
    pub(crate) router: Router,
    pub(crate) metrics: Metrics,
}

impl OpenEndpoint {
    /// Sends a callback and waits for the answer.
    pub(crate) async fn answer(&self, callback: Callback) -> Answer {
        let began = Instant::now();
        let response = self.router.clone().oneshot(callback.into_request()).await.unwrap();
        let took = began.elapsed();
        let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, has_retry_after: retry_after.is_some(), body, took }
    }

    /// The status of the answer.
    pub(crate) async fn status(&self, callback: Callback) -> u16 {
        self.answer(callback).await.status
    }

    /// Sends callbacks, all at once; the answers come in the same order.
    pub(crate) async fn answers(&self, callbacks: impl IntoIterator<Item = Callback>) -> Vec<Answer> {
        futures_util::future::join_all(self.send_all(callbacks))
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect()
    }

    /// Sends callbacks at once, and leaves the waiting to the caller.
    pub(crate) fn send_all(
        &self,
        callbacks: impl IntoIterator<Item = Callback>,
    ) -> Vec<tokio::task::JoinHandle<Answer>> {
        let send = |callback| {
            let endpoint = self.clone();
            tokio::spawn(async move { endpoint.answer(callback).await })
        };
        callbacks.into_iter().map(send).collect()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) has_retry_after: bool,
    pub(crate) body: Bytes,
    pub(crate) took: Duration,
}

/// A request on its way to the endpoint: mostly a callback.
#[derive(Debug, Clone)]
pub(crate) struct Callback {
    method: Method,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Callback {
    /// A POST with this body.
    pub(crate) fn post(body: impl Into<Bytes>) -> Self {
        let (method, path) = (Method::POST, PATH.to_owned());
        Self { method, path, query: None, headers: Vec::new(), body: body.into() }
    }

    /// The callback of Vobiz that says that this call ended. (Sent by [`Callback::send`] it waits as long as a busy machine needs; Vobiz
    /// itself would after three seconds.)
    pub(crate) fn of(vobiz: &Simulator, call: &Call) -> Self {
        let (parts, body) = vobiz.callback_request(call, CallbackKind::Hangup).unwrap().into_parts();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Self { headers, ..Self::post(body) }
    }

    /// A GET with this query.
    pub(crate) fn get(query: &str) -> Self {
        Self { method: Method::GET, query: Some(query.to_owned()), ..Self::post("") }
    }

    /// A form that says that this call ended.
    pub(crate) fn hangup(call_id: &str) -> Self {
        Self::post(format!("Event=Hangup&CallUUID={call_id}"))
    }

    /// Sends it to another path.
    pub(crate) fn at(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    /// Sends it to the path with the secret.
    pub(crate) fn by_secret(self) -> Self {
        self.at(format!("{PATH}/{SECRET}"))
    }

    /// Adds a query.
    pub(crate) fn query(self, query: &str) -> Self {
        Self { query: Some(query.to_owned()), ..self }
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Signs a URL as Vobiz does: `version` is `v3`, `ma-v3`, `v2` or `ma-v2`.
    pub(crate) fn signed(self, version: &str, token: &str, url: &str, nonce: &str) -> Self {
        let short = &version[version.len() - 2..];
        let text = format!("{url}{}{nonce}", if short == "v3" { "." } else { "" });
        self.header(&format!("X-Vobiz-Signature-{version}"), &STANDARD.encode(hmac(token, text.as_bytes())))
            .header(&format!("X-Vobiz-Signature-{short}-Nonce"), nonce)
    }

    /// Signs [`URL`] by V3 with a nonce of its own.
    pub(crate) fn by_v3(self, token: &str) -> Self {
        self.signed("v3", token, URL, &fresh_nonce())
    }

    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Sends it to a real port; the status of the answer.
    pub(crate) async fn send(self, address: std::net::SocketAddr) -> u16 {
        self.try_send(address).await.unwrap()
    }

    /// The same; an error where nobody answers.
    pub(crate) async fn try_send(self, address: std::net::SocketAddr) -> reqwest::Result<u16> {
        let body = self.body.clone();
        let (parts, _) = self.into_request().into_parts();
        let client = vobiz_cdr::vobiz::http_client(LIMIT).unwrap();
        let url = format!("http://{address}{}", parts.uri);
        let request = client.request(parts.method, url).headers(parts.headers).body(body);
        Ok(request.send().await?.status().as_u16())
    }

    fn into_request(self) -> Request<Body> {
        let uri = match self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path,
        };
        let mut request =
            Request::builder().method(self.method).uri(uri).body(Body::from(self.body)).unwrap();
        for (name, value) in self.headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, HeaderValue::from_str(&value).unwrap());
        }
        request
    }
}

/// A nonce that no other test uses, 20 digits.
pub(crate) fn fresh_nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:020}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// HMAC-SHA256.
pub(crate) fn hmac(key: &str, text: &[u8]) -> Vec<u8> {
    let hmac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    hmac.chain_update(text).finalize().into_bytes().to_vec()
}

/// A file of tests/data/vobiz.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/data/vobiz/{name}")).unwrap()
}

impl Database {
    /// The callback log in the order of arrival, as `event call_id account proof outcome`.
    pub(crate) async fn log(&self) -> Vec<String> {
        let sql = "select concat_ws(' ', coalesce(nullif(event, ''), '-'), coalesce(call_id, '-'),
                                    coalesce(account_id, '-'), proof, outcome)
                   from vobiz.callback order by id";
        sqlx::query_scalar(sql).fetch_all(&self.pool).await.unwrap()
    }

    /// The queue by `call_id`, as `call_id account certain|speculative`, and `proven` where the account is.
    pub(crate) async fn queue(&self) -> Vec<String> {
        let sql = "select concat_ws(' ', call_id, account_id, case when certain then 'certain' else 'speculative' end,
                                    case when account_proven then 'proven' end)
                   from vobiz.cdr_queue order by call_id";
        sqlx::query_scalar(sql).fetch_all(&self.pool).await.unwrap()
    }

    /// Waits until a count is what it should be; for what happens after the answer.
    pub(crate) async fn comes_to(&self, expected: i64, sql: &'static str) {
        until_is(sql, expected, async || self.count(sql).await).await;
    }

    /// From now on nobody writes to the callback log, until the transaction ends.
    pub(crate) async fn lock_log(&self) -> Transaction<'static, Postgres> {
        let mut lock = self.pool.begin().await.unwrap();
        sqlx::query("lock table vobiz.callback in access exclusive mode").execute(&mut *lock).await.unwrap();
        lock
    }

    /// Waits until the writer stands before the lock.
    pub(crate) async fn writer_waits(&self) {
        self.comes_to(
            1,
            "select least(count(*), 1) from pg_catalog.pg_locks
             where not granted and relation = 'vobiz.callback'::regclass
               and database = (select oid from pg_catalog.pg_database where datname = current_database())",
        )
        .await;
    }
}
