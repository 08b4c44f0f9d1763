//! The configured accounts of a command that asks Vobiz.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use sqlx::PgPool;

use super::args::Usage;
use crate::account::{self, Account};
use crate::config::VobizConfig;
use crate::db;
use crate::db::account::Duty;
use crate::db::base::setting;
use crate::ledger::Ledger;
use crate::vobiz::{AccountId, HomeCountry};
use crate::watch::metrics::Metrics;

/// Connections: one holds the right to list a range, one the right to check days; one works, one paces.
pub(super) const CONNECTIONS: u32 = 5;

/// The accounts of a command, ready to be asked.
pub(super) struct OpenAccounts {
    pub(super) accounts: Vec<Arc<Account>>,
    pub(super) ledger: Ledger,
    pub(super) metrics: Metrics,
}

impl OpenAccounts {
    /// Opens the configured accounts, or the one that was named, and sees that Vobiz lets them read. One that it refuses and that
    /// this database has never known leaves no trace in it.
    pub(super) async fn open(
        pool: &PgPool,
        mut config: VobizConfig,
        only: Option<&str>,
    ) -> anyhow::Result<Self> {
        if let Some(only) = only {
            config.accounts.retain(|account| account.credentials.account_id.as_str() == only);
            if config.accounts.is_empty() {
                bail!(Usage(format!("--account {only}: no such account is configured")));
            }
        }
        let mut connection = pool.acquire().await?;
        let home = setting::check(&mut connection, None, None).await?;
        let ids: Vec<AccountId> =
            config.accounts.iter().map(|account| account.credentials.account_id.clone()).collect();
        let known = db::account::registered(&mut connection, &ids).await?;
        let accounts = account::open(pool, &config, HomeCountry::new(&home)?).await?;
        for account in &accounts {
            // It reads lists: who waits for owed calls must not take it for one that fetches.
            db::account::present(&mut connection, account.id(), &account.replica, Duty::List).await?;
            if !account.ensure_access().await {
                if !known.iter().any(|id| id == account.id().as_str()) {
                    db::account::unregister(&mut connection, account.id()).await?;
                }
                bail!("Vobiz does not let us read the CDRs of {}: the line above says why", account.id());
            }
        }
        drop(connection);
        let metrics = Metrics::new();
        let ledger = Ledger::new(pool.clone(), accounts.clone(), Duration::ZERO, metrics.clone());
        Ok(Self { accounts, ledger, metrics })
    }
}
