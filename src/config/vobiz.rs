//! What it takes to ask Vobiz: the accounts, the address of the API, and how long to wait for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Url;
use secrecy::SecretString;

use super::AccountConfig;
use super::mistakes::{Mistakes, duration};

/// The Vobiz API and the accounts.
#[derive(Debug, Clone, Args)]
pub struct VobizArgs {
    /// Vobiz account whose calls these are (MA_… or SA_…)
    #[arg(long, env = "VOBIZ_AUTH_ID", value_name = "ID")]
    pub auth_id: Option<String>,
    /// Its token
    #[arg(long, env = "VOBIZ_AUTH_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub auth_token: Option<SecretString>,
    /// Its previous token, during a rotation
    #[arg(long, env = "VOBIZ_AUTH_TOKEN_PREVIOUS", hide_env_values = true, value_name = "TOKEN")]
    pub auth_token_previous: Option<SecretString>,
    /// TOML file with several accounts, instead of the three settings above
    #[arg(long, env = "VOBIZ_ACCOUNTS_FILE", value_name = "FILE")]
    pub accounts_file: Option<PathBuf>,
    /// Base of the Vobiz API
    #[arg(long, env = "VOBIZ_API_URL", default_value = "https://api.vobiz.ai", value_name = "URL")]
    pub api_url: String,
    /// Casing of the API path: auto, Account or account
    #[arg(long, env = "VOBIZ_ACCOUNT_PATH", default_value = "auto", value_name = "CASING")]
    pub account_path: String,
    /// Requests a second to the Vobiz API, per account, over all replicas
    #[arg(long, env = "VOBIZ_MAX_RPS", default_value = "10", value_name = "RATE")]
    pub max_rps: String,
    /// Longest wait for one answer of the Vobiz API
    #[arg(long, env = "CDR_REQUEST_TIMEOUT", default_value = "15s", value_name = "DURATION")]
    pub request_timeout: String,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct VobizConfig {
    /// Accounts, at least one.
    pub accounts: Vec<AccountConfig>,
    /// Base of the Vobiz API.
    pub api_url: Url,
    /// Longest wait for one answer.
    pub request_timeout: Duration,
}

impl VobizArgs {
    /// Checks them. Fails with every mistake at once.
    pub fn check(&self) -> Result<VobizConfig, Mistakes> {
        let mut wrong = Mistakes::default();
        match self.checked(&mut wrong) {
            Some(config) if wrong.is_empty() => Ok(config),
            _ => Err(wrong),
        }
    }

    pub(super) fn checked(&self, wrong: &mut Mistakes) -> Option<VobizConfig> {
        let request_timeout = duration(wrong, "CDR_REQUEST_TIMEOUT", &self.request_timeout);
        if request_timeout.is_some_and(|t| t < Duration::from_millis(100) || t > Duration::from_secs(30)) {
            wrong.push("CDR_REQUEST_TIMEOUT: between 100ms and 30s, so that it ends before the lease of the call does");
        }
        let api_url = self.api_url(wrong);
        let accounts = self.accounts(wrong);
        Some(VobizConfig { accounts, api_url: api_url?, request_timeout: request_timeout? })
    }

    fn api_url(&self, wrong: &mut Mistakes) -> Option<Url> {
        let how = "write a URL such as https://api.vobiz.ai";
        let url = wrong.read("VOBIZ_API_URL", how, Url::parse(&self.api_url))?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || !url.username().is_empty() {
            wrong.push(format!("VOBIZ_API_URL: http or https, without user or query; {how}"));
            return None;
        }
        if url.path().contains("/api") {
            wrong.push(format!("VOBIZ_API_URL: without /api/v1, which is added; {how}"));
            return None;
        }
        Some(url)
    }
}
