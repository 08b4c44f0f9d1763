//! A small world: a database, a simulated Vobiz, and our worker between them, driven step by step.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use reqwest::Url;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::account::Account;
use vobiz_cdr::config::{AccountConfig, Part, ServeConfig};
use vobiz_cdr::db::queue::enqueue::{self, CallbackEntry, CallbackOutcome, Owed};
use vobiz_cdr::db::{self, timed};
use vobiz_cdr::fetch::{FROM_BEGINNING_EVERY, FetchSettings, Fetcher};
use vobiz_cdr::simulator::{self, Call, CallSpec, Simulator, SimulatorOptions};
use vobiz_cdr::sweep::{Sweeper, Swept};
use vobiz_cdr::vobiz::SignaturePolicy;
use vobiz_cdr::vobiz::{AccountId, CallId, Client, Credentials, HomeCountry, Http, PathStyle, Proof};
use vobiz_cdr::watch::metrics::Metrics;

use super::database::{ACCOUNT, Database};
use super::wait::{LIMIT, in_the_end};

pub(crate) const TOKEN: &str = "tok_main_7f3c1a9e5b2d4860";

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) vobiz: Simulator,
    pub(crate) accounts: Vec<Arc<Account>>,
    pub(crate) fetcher: Fetcher,
}

/// Options of a simulated Vobiz with the account of the tests.
pub(crate) fn options() -> SimulatorOptions {
    SimulatorOptions {
        accounts: vec![simulator::SimulatedAccount::new(ACCOUNT, TOKEN)],
        ..SimulatorOptions::default()
    }
}

/// Credentials of an account, with both path styles to find out.
pub(crate) fn credentials(account: &str, tokens: &[&str]) -> Credentials {
    let id = AccountId::new(account).unwrap();
    Credentials {
        account_id: id.clone(),
        auth_id: id,
        tokens: tokens.iter().map(|token| SecretString::from(*token)).collect(),
        styles: vec![PathStyle::Capital, PathStyle::Lower],
    }
}

/// An account that waits for its answers as long as a busy machine needs.
pub(crate) fn account(pool: &PgPool, api: &str, credentials: Credentials, max_rps: f64) -> Arc<Account> {
    account_that_waits(LIMIT, pool, api, credentials, max_rps)
}

/// An account whose requests time out: for answers that never come.
pub(crate) fn account_that_waits(
    timeout: Duration,
    pool: &PgPool,
    api: &str,
    credentials: Credentials,
    max_rps: f64,
) -> Arc<Account> {
    let http = Http::new(timeout, None).unwrap();
    let client = Client::new(http, Url::parse(api).unwrap(), credentials, HomeCountry::INDIA);
    Arc::new(Account::new(client, max_rps, pool.clone()))
}

pub(crate) fn fetch_settings() -> FetchSettings {
    FetchSettings {
        concurrency: 16,
        lease: Duration::from_secs(30),
        from_beginning_every: FROM_BEGINNING_EVERY,
    }
}

pub(crate) fn fetcher(pool: &PgPool, accounts: Vec<Arc<Account>>) -> Fetcher {
    Fetcher::new(pool.clone(), accounts, fetch_settings(), Metrics::new())
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: SimulatorOptions) -> Self {
        let database = Database::new().await;
        let vobiz = Simulator::start(options).await.unwrap();
        let one = account(&database.pool, &vobiz.api_url(), credentials(ACCOUNT, &[TOKEN]), 1000.0);
        let accounts = vec![one];
        let fetcher = fetcher(&database.pool, accounts.clone());
        Self { database, vobiz, accounts, fetcher }
    }

    /// A finished call at Vobiz that a proven hang-up announced.
    pub(crate) async fn owed_call(&self) -> Call {
        let call = self.vobiz.place_call(CallSpec::default());
        self.owe(&call.call_id, true).await;
        call
    }

    /// Owes a call, due at once, as a callback would.
    pub(crate) async fn owe(&self, call_id: &str, certain: bool) {
        self.owe_with(call_id, ACCOUNT, certain, None).await;
    }

    pub(crate) async fn owe_with(
        &self,
        call_id: &str,
        account: &str,
        certain: bool,
        sip_call_id: Option<&str>,
    ) {
        let call_id = CallId::new(call_id).unwrap();
        let account_id = AccountId::new(account).unwrap();
        let entry = CallbackEntry {
            id: uuid::Uuid::now_v7(),
            event: "Hangup".into(),
            call_id: Some(call_id.clone()),
            account_id: Some(account_id.clone()),
            proof: if certain { Proof::V3 } else { Proof::None },
            nonces: vec![],
            outcome: CallbackOutcome::Owed,
            note: None,
            remote_address: None,
            query: None,
            body: bytes::Bytes::new(),
        };
        let owed = Owed {
            call_id,
            account_id,
            account_proven: certain,
            other_account: None,
            certain,
            by_secret: false,
            hurries: false,
            sip_call_id: sip_call_id.map(str::to_owned),
        };
        timed!(&self.database.pool, Duration::from_secs(5), |connection| enqueue::commit(
            connection,
            &[&entry],
            &[&owed],
            Duration::ZERO
        ))
        .await
        .unwrap();
    }

    /// Works until nothing is due.
    pub(crate) async fn drain(&self) {
        in_the_end("the queue drains", self.fetcher.run_until_idle()).await;
    }

    /// Moves the clocks of Postgres and Vobiz on together.
    pub(crate) async fn advance(&self, by: TimeDelta) {
        advance(&self.database, &self.vobiz, by).await;
    }

    /// One sweep now.
    pub(crate) async fn sweep(&self) -> Swept {
        let sweeper =
            Sweeper::new(self.database.pool.clone(), self.accounts.clone(), Duration::ZERO, Metrics::new());
        let swept = sweeper.sweep_if_due(&self.accounts[0], &CancellationToken::new()).await.unwrap();
        swept.expect("a sweep is due")
    }

    /// One value as text: NULL is "∅".
    pub(crate) async fn text(&self, sql: &str) -> String {
        let sql = format!("select coalesce(({sql})::text, '∅')");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.database.pool).await.unwrap()
    }

    /// The status of a call in the queue: class, failures, dead or alive.
    pub(crate) async fn status(&self, call_id: &str) -> String {
        self.text(&format!(
            "select format('%s %s %s', coalesce(error_class, '-'), failures,
                           case when dead_at is null then 'alive' else 'dead' end)
             from vobiz.cdr_queue where call_id = '{call_id}'"
        ))
        .await
    }

    pub(crate) async fn stored(&self) -> i64 {
        self.database.count("select count(*) from vobiz.cdr").await
    }

    /// Ends all pauses, as if a probe had succeeded.
    pub(crate) async fn end_pauses(&self) {
        self.database
            .run(
                "update vobiz.account set paused_since = null, paused_until = null, pause_reason = null;
                 update vobiz.account_replica set paused_since = null, error = null, pause_reason = null",
            )
            .await;
    }

    pub(crate) async fn pause_reason(&self) -> String {
        self.text(&format!("select pause_reason from vobiz.account where account_id = '{ACCOUNT}'")).await
    }

    /// The end of every test: guarantee G2.
    pub(crate) async fn end(self) {
        self.database.every_certain_call_is_somewhere().await;
        self.vobiz.stop().await;
    }
}

/// Settings of a whole service for these accounts; the port is free, the waits are short.
pub(crate) fn serve_config(api: &str, accounts: &[(&str, &str)], max_rps: f64) -> ServeConfig {
    ServeConfig {
        database_url: None,
        migrate: Some(true),
        listen: ([127, 0, 0, 1], 0).into(),
        ops_listen: ([127, 0, 0, 1], 0).into(),
        parts: Part::ALL.to_vec(),
        accounts: accounts
            .iter()
            .map(|(id, token)| AccountConfig {
                credentials: credentials(id, &[token]),
                max_rps,
                callback_secrets: vec![],
            })
            .collect(),
        api_url: Url::parse(api).unwrap(),
        proxy: None,
        callback_urls: vec!["https://calls.example.com/vobiz/hangup".into()],
        callback_secrets: vec!["test-secret-path-0123".into()],
        policy: SignaturePolicy::Required,
        first_fetch_delay: Duration::from_millis(100),
        sweep_interval: Duration::from_secs(3600),
        concurrency: 16,
        max_speculative_per_minute: 600,
        max_by_secret_per_minute: 600,
        connections_per_address: Some(256),
        // As long as a busy machine needs; not longer, because what a test cuts off falls due again 15 s after it.
        request_timeout: Duration::from_secs(30),
        billing_zone: None,
        home_country: None,
    }
}

/// Moves the clocks of Postgres and Vobiz on together. Vobiz goes first: what falls due in the hour that is skipped must find its
/// CDR there.
pub(crate) async fn advance(database: &Database, vobiz: &Simulator, by: TimeDelta) {
    assert!(by > TimeDelta::zero(), "a clock never goes back: {by}");
    vobiz.advance(by);
    database.advance_clock(by).await;
}

/// Moves the clocks of Postgres and Vobiz on to the next noon in a zone (minutes east of UTC), so that a test says the same at any
/// time of the day; returns the beginning of that day.
pub(crate) async fn noon(database: &Database, vobiz: &Simulator, zone: i32) -> DateTime<Utc> {
    let zone = TimeDelta::minutes(zone.into());
    let now = database.now().await;
    let today = (now + zone).date_naive().and_time(NaiveTime::MIN).and_utc() - zone;
    let noon = today + TimeDelta::hours(if now < today + TimeDelta::hours(12) { 12 } else { 36 });
    advance(database, vobiz, noon - now).await;
    noon - TimeDelta::hours(12)
}

/// Asserts that requests were sent at their slots in the rate limit, whatever the machine did meanwhile: in any stretch of time as many
/// as there are slots in it, and those that had their slot before and came late, which are no more than may be under way at once.
pub(crate) fn rate_was_held(sent: &[Instant], per_second: f64, under_way: u32) {
    for (n, from) in sent.iter().enumerate() {
        for (more, to) in sent[n..].iter().enumerate() {
            let (requests, seconds) = (u32::try_from(more + 1).unwrap(), (*to - *from).as_secs_f64());
            let most = seconds * per_second + 1.0 + f64::from(under_way);
            assert!(f64::from(requests) <= most, "{requests} requests in {seconds} s");
        }
    }
}

/// A pool on any URL.
pub(crate) fn pool(url: &str) -> PgPool {
    db::connect(url, "test", 5).unwrap()
}
