//! From settings to accounts: what `serve` and the commands that ask Vobiz begin with.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;

use super::Account;
use crate::config::{AccountConfig, VobizConfig};
use crate::db::{self, timed};
use crate::vobiz::{AccountId, ApiClock, Client, HomeCountry, Http, PathStyle};

/// Every short piece of work on Postgres.
const DB_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the configured accounts and registers them in the database; the path that worked for one last is tried first.
pub async fn open(
    pool: &PgPool,
    config: &VobizConfig,
    home: HomeCountry,
) -> anyhow::Result<Vec<Arc<Account>>> {
    let ids: Vec<AccountId> =
        config.accounts.iter().map(|account| account.credentials.account_id.clone()).collect();
    let casings = timed!(pool, DB_TIMEOUT, |connection| async {
        db::account::register(&mut *connection, &ids).await?;
        let mut casings = Vec::with_capacity(ids.len());
        for id in &ids {
            casings.push(db::account::api_path(&mut *connection, id).await?);
        }
        Ok(casings)
    })
    .await?;
    let http = Http::new(config.request_timeout, config.proxy.as_ref())?;
    let clock = Arc::new(ApiClock::default());
    let mut accounts = Vec::with_capacity(ids.len());
    for (account, casing) in config.accounts.iter().zip(casings) {
        let AccountConfig { mut credentials, max_rps, .. } = account.clone();
        credentials.styles.sort_by_key(|style| PathStyle::as_casing(*style) != casing.as_deref());
        let client = Client::new(http.clone(), config.api_url.clone(), credentials, home).by_clock(&clock);
        accounts.push(Arc::new(Account::new(client, max_rps, pool.clone())));
    }
    Ok(accounts)
}
