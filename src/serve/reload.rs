//! Newer settings of a running service. What of them does not work is said in `/status` until it does: who sent the SIGHUP may have
//! gone, and believes that the new token counts. What waits for something else (a Postgres that is away) is tried again by itself.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::{Reload, RunningService, setup};
use crate::config::ServeConfig;
use crate::watch::condition::Condition;
use crate::watch::metrics::Metrics;

/// What could not be taken in is tried again after this.
const AGAIN: Duration = Duration::from_secs(20);

/// What of the newest settings is not in force, and the conditions that say so.
#[derive(Debug)]
pub(super) struct Reloading {
    mistakes: Arc<Condition>,
    database: Arc<Condition>,
    accounts: Arc<Condition>,
    url: Option<SecretString>,
    config: Option<Box<ServeConfig>>,
    next: Instant,
}

impl Reloading {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            mistakes: metrics.condition_until_mended(
                "SIGHUP: not reloaded, the old settings stay",
                "mend what is named and send SIGHUP again (`vobiz-cdr serve --check` says whether settings are right)",
            ),
            database: metrics.condition_until_mended(
                "the new DATABASE_URL does not work, the old one stays",
                "mend it, and send SIGHUP again; it is also tried again by itself",
            ),
            accounts: metrics.condition_until_mended(
                "reloaded for callbacks only, fetching goes on with the old settings",
                "it is tried again by itself, and goes on as soon as the accounts can be opened in Postgres",
            ),
            url: None,
            config: None,
            next: Instant::now(),
        }
    }

    /// Waits until what could not be taken in is to be tried again; for ever, where there is nothing.
    pub(super) async fn due(&self) {
        if self.url.is_some() || self.config.is_some() {
            sleep_until(self.next).await;
        } else {
            std::future::pending::<()>().await;
        }
    }
}

impl RunningService {
    pub(super) async fn take_in(&mut self, newer: Reload) {
        match newer {
            Reload::Settings(newer) => {
                self.reloading.mistakes.clear();
                // The endpoint needs no database: its new tokens and secrets count at once.
                if let Some(endpoint) = &self.endpoint {
                    endpoint.reload(setup::endpoint(&newer));
                }
                match newer.database_url.clone() {
                    Some(url) => self.move_to(url, true).await,
                    None => self.reloading.url = None,
                }
                self.reload(newer, true).await;
            }
            Reload::Database(url) => self.move_to(url, true).await,
            Reload::Mistakes(mistakes) => self.reloading.mistakes.raise(&mistakes),
        }
    }

    /// Tries again what could not be taken in.
    pub(super) async fn take_in_rest(&mut self) {
        if let Some(url) = self.reloading.url.take() {
            self.move_to(url, false).await;
        }
        if let Some(config) = self.reloading.config.take() {
            self.reload(config, false).await;
        }
    }

    /// Goes over to another database URL, if it is one and works.
    async fn move_to(&mut self, url: SecretString, asked: bool) {
        self.reloading.url = None;
        let pools = [&self.pool, &self.receive_pool, &self.poll_pool];
        match setup::database_anew(pools, &mut self.url, &url).await {
            Ok(moved) => {
                if moved {
                    info!("reloaded: DATABASE_URL");
                }
                self.reloading.database.clear();
            }
            Err(error) => {
                say(&self.reloading.database, &error, asked);
                (self.reloading.url, self.reloading.next) = (Some(url), Instant::now() + AGAIN);
            }
        }
    }

    /// Goes over to the accounts of newer settings, as soon as they are opened.
    async fn reload(&mut self, newer: Box<ServeConfig>, asked: bool) {
        self.reloading.config = None;
        let old = self.ops.accounts();
        let anew = setup::accounts_anew(&self.pool, &newer, self.home, &self.presence, &old);
        let accounts = match anew.await {
            Ok(accounts) => accounts,
            Err(error) => {
                say(&self.reloading.accounts, &error, asked);
                (self.reloading.config, self.reloading.next) = (Some(newer), Instant::now() + AGAIN);
                return;
            }
        };
        self.reloading.accounts.clear();
        self.ops.set_accounts(accounts.clone());
        // The new workers start at once: leases keep them off what the old ones still have in hand.
        self.stop_workers.cancel();
        self.workers.metrics.heartbeats.keep(|name| {
            let swept = ["sweep ", "drain ", "ledger "].iter().find_map(|flow| name.strip_prefix(flow));
            swept.is_none_or(|id| accounts.iter().any(|account| account.id().as_str() == id))
        });
        self.stop_workers = self.workers.start(&newer, accounts, &mut self.loops);
        info!(
            accounts = newer.accounts.len(),
            secrets = newer.callback_secrets.len()
                + newer.accounts.iter().map(|account| account.callback_secrets.len()).sum::<usize>(),
            "reloaded: accounts, tokens, rates and callback secrets"
        );
    }
}

/// Raises a condition for a person who asked; what is tried again by itself was said.
fn say(condition: &Condition, error: &anyhow::Error, asked: bool) {
    if asked {
        condition.raise(&format_args!("{error:#}"));
    } else {
        debug!(error = format!("{error:#}"), "what was reloaded does not work yet");
    }
}
