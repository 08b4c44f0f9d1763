//! What it takes to ask Vobiz: the accounts, the address of the API, and how long to wait for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::AccountConfig;
use super::mistakes::{Mistakes, duration, secret};

/// What a rate limit must be.
const RATE: &str = "write requests a second from 0.1 to 100000, such as 10";

/// The Vobiz API and the accounts.
#[derive(Debug, Clone, Args)]
pub struct VobizArgs {
    /// Vobiz account whose calls these are (MA_… or SA_…)
    #[arg(long, env = "VOBIZ_AUTH_ID", global = true, value_name = "ID")]
    pub auth_id: Option<String>,
    /// Its token; or VOBIZ_AUTH_TOKEN_FILE names the file that has it
    #[arg(long, env = "VOBIZ_AUTH_TOKEN", global = true, hide_env_values = true, value_name = "TOKEN")]
    pub auth_token: Option<SecretString>,
    /// Its previous token, during a rotation; or VOBIZ_AUTH_TOKEN_PREVIOUS_FILE
    #[arg(
        long,
        env = "VOBIZ_AUTH_TOKEN_PREVIOUS",
        global = true,
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub auth_token_previous: Option<SecretString>,
    /// TOML file with several accounts, instead of the three settings above
    #[arg(long, env = "VOBIZ_ACCOUNTS_FILE", global = true, value_name = "FILE")]
    pub accounts_file: Option<PathBuf>,
    /// Base of the Vobiz API
    #[arg(
        long,
        env = "VOBIZ_API_URL",
        global = true,
        default_value = "https://api.vobiz.ai",
        value_name = "URL"
    )]
    pub api_url: String,
    /// HTTP proxy for requests to the Vobiz API, such as http://proxy:3128, or VOBIZ_PROXY_FILE [default: none; HTTPS_PROXY is not heeded]
    #[arg(long, env = "VOBIZ_PROXY", hide_env_values = true, global = true, value_name = "URL")]
    pub proxy: Option<SecretString>,
    /// Casing of the API path: auto, Account or account
    #[arg(long, env = "VOBIZ_ACCOUNT_PATH", global = true, default_value = "auto", value_name = "CASING")]
    pub account_path: String,
    /// Requests a second to the Vobiz API, per account, over all replicas
    #[arg(long, env = "VOBIZ_MAX_RPS", global = true, default_value = "10", value_name = "RATE")]
    pub max_rps: String,
    /// Longest wait for one answer of the Vobiz API
    #[arg(long, env = "CDR_REQUEST_TIMEOUT", global = true, default_value = "15s", value_name = "DURATION")]
    pub request_timeout: String,
}

/// The same, checked.
#[derive(Debug, Clone)]
pub struct VobizConfig {
    /// Accounts, at least one.
    pub accounts: Vec<AccountConfig>,
    /// Base of the Vobiz API.
    pub api_url: Url,
    /// Proxy on the way there.
    pub proxy: Option<Url>,
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

    /// Whether they name any account at all.
    pub fn name_an_account(&self) -> bool {
        self.auth_id.is_some() || self.accounts_file.is_some()
    }

    pub(super) fn checked(&self, wrong: &mut Mistakes) -> Option<VobizConfig> {
        let request_timeout = duration(wrong, "CDR_REQUEST_TIMEOUT", &self.request_timeout);
        if request_timeout.is_some_and(|t| t < Duration::from_millis(100) || t > Duration::from_secs(30)) {
            wrong.push("CDR_REQUEST_TIMEOUT: between 100ms and 30s, so that it ends before the lease of the call does");
        }
        let api_url = self.api_url(wrong);
        let proxy = self.proxy(wrong);
        // Where it cannot be read, the accounts are checked as if it were right, so that it is said once.
        let max_rps = wrong.read("VOBIZ_MAX_RPS", RATE, self.max_rps.parse());
        let max_rps = max_rps.and_then(|rps| rate(wrong, "VOBIZ_MAX_RPS", rps)).unwrap_or(1.0);
        let accounts = self.accounts(max_rps, wrong);
        Some(VobizConfig { accounts, api_url: api_url?, proxy, request_timeout: request_timeout? })
    }

    fn proxy(&self, wrong: &mut Mistakes) -> Option<Url> {
        let how = "write a URL such as http://proxy:3128";
        let set = self.proxy.as_ref().filter(|text| !text.expose_secret().trim().is_empty());
        let text = secret(wrong, "VOBIZ_PROXY", set)?;
        let url = wrong.read("VOBIZ_PROXY", how, Url::parse(text.expose_secret()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            wrong.push(format!("VOBIZ_PROXY: http or https, with a host; {how}"));
            return None;
        }
        Some(url)
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

/// Checks a rate limit that was set at this place.
pub(super) fn rate(wrong: &mut Mistakes, place: &str, max_rps: f64) -> Option<f64> {
    if !(0.1..=100_000.0).contains(&max_rps) {
        wrong.push(format!("{place}: {RATE}"));
        return None;
    }
    Some(max_rps)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn args(max_rps: &str, file: &Path) -> VobizArgs {
        VobizArgs {
            auth_id: None,
            auth_token: None,
            auth_token_previous: None,
            accounts_file: Some(file.to_owned()),
            api_url: "https://api.vobiz.ai".into(),
            proxy: None,
            account_path: "auto".into(),
            max_rps: max_rps.into(),
            request_timeout: "15s".into(),
        }
    }

    #[test]
    fn a_wrong_rate_is_said_once_and_where_it_stands() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let account =
            |id, own| format!("[[account]]\nauth_id = \"{id}\"\nauth_token = \"tok_1234\"\n{own}\n");
        for (max_rps, own, said) in [
            ("10", "max_rps = 0", Some("max_rps of MA_TWO")),
            ("0", "max_rps = 5", Some("VOBIZ_MAX_RPS")),
            ("fast", "", Some("VOBIZ_MAX_RPS")),
            ("10", "max_rps = 5", None),
        ] {
            let accounts = [account("MA_ONE", ""), account("MA_TWO", own), account("MA_THREE", "")].concat();
            std::fs::write(file.path(), accounts).unwrap();
            let checked = args(max_rps, file.path()).check().map_err(|wrong| wrong.to_string());
            if let Some(place) = said {
                let wrong = checked.unwrap_err();
                assert!(wrong.starts_with("one thing is wrong") && wrong.contains(place), "{wrong}");
                continue;
            }
            let rates: Vec<f64> = checked.unwrap().accounts.iter().map(|account| account.max_rps).collect();
            assert_eq!(rates, [10.0, 5.0, 10.0]);
        }
    }
}
