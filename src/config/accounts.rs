//! Which accounts: one from the environment, or several from a TOML file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::mistakes::{Mistakes, read_secret_file, secret};
use super::{AccountConfig, VobizArgs};
use crate::vobiz::{AccountId, Credentials, PathStyle};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountsFile {
    account: Vec<AccountEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountEntry {
    auth_id: String,
    auth_token: Option<SecretString>,
    auth_token_file: Option<PathBuf>,
    auth_token_previous: Option<SecretString>,
    /// For a customer of a partner: the partner's `PA_…` id; the token is then the partner's.
    partner: Option<String>,
    max_rps: Option<f64>,
}

impl VobizArgs {
    pub(super) fn accounts(&self, wrong: &mut Mistakes) -> Vec<AccountConfig> {
        let styles = match self.account_path.as_str() {
            "auto" => vec![PathStyle::Capital, PathStyle::Lower],
            "Account" => vec![PathStyle::Capital],
            "account" => vec![PathStyle::Lower],
            other => {
                wrong.push(format!(
                    "VOBIZ_ACCOUNT_PATH: {other:?} is no casing; write auto, Account or account"
                ));
                vec![]
            }
        };
        let rate = "write requests a second from 0.1 to 100000, such as 10";
        let max_rps = wrong.read("VOBIZ_MAX_RPS", rate, self.max_rps.parse::<f64>()).unwrap_or(1.0);
        let entries = match (&self.accounts_file, &self.auth_id) {
            (Some(_), Some(_)) => {
                wrong.push("VOBIZ_ACCOUNTS_FILE and VOBIZ_AUTH_ID are both set: put all accounts into the file, or use none");
                vec![]
            }
            (Some(path), None) => accounts_of(wrong, path),
            (None, Some(auth_id)) => {
                let token = secret(wrong, "VOBIZ_AUTH_TOKEN", self.auth_token.as_ref());
                if token.is_none() {
                    wrong.push(
                        "VOBIZ_AUTH_TOKEN is missing: copy the token of this account from the Vobiz console",
                    );
                }
                vec![AccountEntry {
                    auth_id: auth_id.clone(),
                    auth_token: token,
                    auth_token_file: None,
                    auth_token_previous: secret(
                        wrong,
                        "VOBIZ_AUTH_TOKEN_PREVIOUS",
                        self.auth_token_previous.as_ref(),
                    ),
                    partner: None,
                    max_rps: None,
                }]
            }
            (None, None) => {
                wrong.push(
                    "no account: set VOBIZ_AUTH_ID and VOBIZ_AUTH_TOKEN, or VOBIZ_ACCOUNTS_FILE for several \
                     (to try it without an account: `vobiz-cdr demo`)",
                );
                vec![]
            }
        };
        let mut seen = BTreeSet::new();
        let mut accounts = Vec::new();
        for entry in entries {
            let name = entry.auth_id.clone();
            let Some(account_id) =
                wrong.read("account", "write an id such as MA_XXXXXXXX", AccountId::new(&name))
            else {
                continue;
            };
            if !seen.insert(name.clone()) {
                wrong.push(format!("account {name} is configured twice"));
            }
            let partner = entry
                .partner
                .as_ref()
                .and_then(|id| wrong.read("partner", "write the partner's PA_… id", AccountId::new(id)));
            let from_file = entry
                .auth_token_file
                .as_ref()
                .and_then(|path| read_secret_file(wrong, &format!("auth_token_file of {name}"), path));
            let tokens: Vec<SecretString> =
                entry.auth_token.or(from_file).into_iter().chain(entry.auth_token_previous).collect();
            for token in &tokens {
                if !token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
                    wrong.push(format!("the token of {name} holds a space, a line end or another odd character: copy it again"));
                }
            }
            if tokens.is_empty() && self.auth_id.is_none() {
                wrong.push(format!("account {name} has no auth_token"));
            }
            let max_rps = entry.max_rps.unwrap_or(max_rps);
            if !(0.1..=100_000.0).contains(&max_rps) {
                wrong.push(format!("VOBIZ_MAX_RPS: {rate}"));
            }
            accounts.push(AccountConfig {
                credentials: Credentials {
                    auth_id: partner.clone().unwrap_or_else(|| account_id.clone()),
                    styles: if partner.is_some() { vec![PathStyle::Partner] } else { styles.clone() },
                    account_id,
                    tokens,
                },
                max_rps,
            });
        }
        accounts
    }
}

fn accounts_of(wrong: &mut Mistakes, path: &PathBuf) -> Vec<AccountEntry> {
    let name = format!("VOBIZ_ACCOUNTS_FILE {}", path.display());
    let Some(text) = wrong.read(&name, "make it readable for this user", std::fs::read_to_string(path))
    else {
        return vec![];
    };
    let how = "write [[account]] tables with auth_id and auth_token";
    // The message of a TOML error quotes the line, which may hold a token.
    let parsed = toml::from_str::<AccountsFile>(&text).map_err(|error| error.message().to_owned());
    let accounts = wrong.read(&name, how, parsed).map(|file| file.account).unwrap_or_default();
    if accounts.is_empty() {
        wrong.push(format!("{name}: no account in it; {how}"));
    }
    accounts
}
