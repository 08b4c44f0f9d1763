//! What every job does, whichever queue brought it: fetch the CDR, upsert it in a transaction of its own. The client and
//! the upsert are those of the service; only the queue around them differs.

use std::time::Duration;

use anyhow::Context;
use sqlx::{Connection, PgPool};
use tokio::sync::Notify;
use vobiz_cdr::db::cdr::{self, Incoming, Origin};
use vobiz_cdr::vobiz::{AccountId, CallId, Client, Credentials, HomeCountry, PathStyle, Http};

/// The `call_id` of a job that only shows that the queue works.
pub(crate) const GREETING: &str = "";

/// Everything a job needs.
#[derive(Debug)]
pub(crate) struct Drain {
    client: Client,
    pool: PgPool,
    account: AccountId,
    greeted: Notify,
}

impl Drain {
    /// A drain from `api_url` into `pool`.
    pub(crate) fn new(api_url: &str, auth_id: &str, auth_token: &str, pool: PgPool) -> anyhow::Result<Self> {
        let account = AccountId::new(auth_id)?;
        let credentials = Credentials {
            account_id: account.clone(),
            auth_id: account.clone(),
            tokens: vec![auth_token.to_owned().into()],
            styles: vec![PathStyle::Capital],
        };
        let http = Http::new(Duration::from_secs(15), None)?;
        let base = reqwest::Url::parse(api_url).context("--api-url is no URL")?;
        let client = Client::new(http, base, credentials, HomeCountry::INDIA);
        Ok(Self { client, pool, account, greeted: Notify::new() })
    }

    /// One job. An error means: not stored, try again by the rules of the queue.
    pub(crate) async fn attend(&self, call_id: &str) -> anyhow::Result<()> {
        if call_id == GREETING {
            self.greeted.notify_one();
            return Ok(());
        }
        let call_id = CallId::new(call_id)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the peers have no clock of Postgres at hand; none of it is measured"
        )]
        let requested_at = chrono::Utc::now();
        let cdr = self.client.fetch_cdr(&call_id).await?;
        let incoming = Incoming::new(cdr, &self.account, Origin::Callback, true, requested_at);
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        cdr::upsert(&mut transaction, &[&incoming]).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Waits until a greeting comes through, but not for long.
    pub(crate) async fn greeted(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.greeted.notified()).await.is_ok()
    }
}
