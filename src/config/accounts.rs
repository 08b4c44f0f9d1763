//! Which accounts: one from the environment, or several from a TOML file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::mistakes::{Mistakes, check_path_secret, read_secret_file, secret};
use super::vobiz::rate;
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
    /// Secret last segment of the callback path of this account alone, and the previous one during a rotation.
    callback_secret: Option<SecretString>,
    callback_secret_file: Option<PathBuf>,
    callback_secret_previous: Option<SecretString>,
}

impl VobizArgs {
    /// The configured accounts. One that sets no rate limit of its own has `max_rps`.
    pub(super) fn accounts(&self, max_rps: f64, wrong: &mut Mistakes) -> Vec<AccountConfig> {
        let styles = self.styles(wrong);
        let mut seen = BTreeSet::new();
        let mut accounts = Vec::new();
        for entry in self.entries(wrong) {
            let Some(account) = entry.check(&styles, max_rps, wrong) else { continue };
            let name = account.credentials.account_id.as_str();
            if !seen.insert(name.to_owned()) {
                wrong.push(format!("account {name} is configured twice"));
            }
            // A token that the environment lacks was missed there.
            if account.credentials.tokens.is_empty() && self.auth_id.is_none() {
                wrong.push(format!("account {name} has no auth_token"));
            }
            accounts.push(account);
        }
        accounts
    }

    /// Which accounts are configured. Their tokens may be elsewhere, and are not looked at.
    ///
    /// # Errors
    /// Every mistake in the ids or the file at once.
    pub fn account_ids(&self) -> Result<Vec<AccountId>, Mistakes> {
        let mut wrong = Mistakes::default();
        let how = "write an id such as MA_XXXXXXXX";
        let names: Vec<String> = match (&self.accounts_file, &self.auth_id) {
            (None, Some(id)) => vec![id.clone()],
            _ => self.entries(&mut wrong).into_iter().map(|entry| entry.auth_id).collect(),
        };
        let ids = names.iter().filter_map(|name| wrong.read("account", how, AccountId::new(name))).collect();
        if wrong.is_empty() { Ok(ids) } else { Err(wrong) }
    }

    /// The casings of the API path that may be tried.
    fn styles(&self, wrong: &mut Mistakes) -> Vec<PathStyle> {
        match self.account_path.as_str() {
            "auto" => vec![PathStyle::Capital, PathStyle::Lower],
            "Account" => vec![PathStyle::Capital],
            "account" => vec![PathStyle::Lower],
            other => {
                wrong.push(format!(
                    "VOBIZ_ACCOUNT_PATH: {other:?} is no casing; write auto, Account or account"
                ));
                vec![]
            }
        }
    }

    /// The accounts as they are written: the one of the environment, or those of the file.
    fn entries(&self, wrong: &mut Mistakes) -> Vec<AccountEntry> {
        match (&self.accounts_file, &self.auth_id) {
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
                    callback_secret: None,
                    callback_secret_file: None,
                    callback_secret_previous: None,
                }]
            }
            (None, None) => {
                wrong.push(
                    "no account: set VOBIZ_AUTH_ID and VOBIZ_AUTH_TOKEN, or VOBIZ_ACCOUNTS_FILE for several \
                     (to try it without an account: `vobiz-cdr demo`)",
                );
                vec![]
            }
        }
    }
}

impl AccountEntry {
    fn check(self, styles: &[PathStyle], max_rps: f64, wrong: &mut Mistakes) -> Option<AccountConfig> {
        let name = self.auth_id;
        let account_id = wrong.read("account", "write an id such as MA_XXXXXXXX", AccountId::new(&name))?;
        let partner = self
            .partner
            .as_ref()
            .and_then(|id| wrong.read("partner", "write the partner's PA_… id", AccountId::new(id)));
        let from_file = self
            .auth_token_file
            .as_ref()
            .and_then(|path| read_secret_file(wrong, &format!("auth_token_file of {name}"), path));
        let tokens: Vec<SecretString> =
            self.auth_token.or(from_file).into_iter().chain(self.auth_token_previous).collect();
        for token in &tokens {
            if !token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
                wrong.push(format!(
                    "the token of {name} holds a space, a line end or another odd character: copy it again"
                ));
            }
        }
        let secret_file = self
            .callback_secret_file
            .as_ref()
            .and_then(|path| read_secret_file(wrong, &format!("callback_secret_file of {name}"), path));
        let callback_secrets: Vec<SecretString> =
            self.callback_secret.or(secret_file).into_iter().chain(self.callback_secret_previous).collect();
        for secret in &callback_secrets {
            check_path_secret(wrong, &format!("callback_secret of {name}"), secret);
        }
        let own_rps = self.max_rps.and_then(|own| rate(wrong, &format!("max_rps of {name}"), own));
        Some(AccountConfig {
            credentials: Credentials {
                auth_id: partner.clone().unwrap_or_else(|| account_id.clone()),
                styles: if partner.is_some() { vec![PathStyle::Partner] } else { styles.to_vec() },
                account_id,
                tokens,
            },
            max_rps: own_rps.unwrap_or(max_rps),
            callback_secrets,
        })
    }
}

/// A secret that two accounts have, or an account and all of them, would prove nothing of either.
pub(super) fn check_secrets(accounts: &[AccountConfig], of_all: &[SecretString], wrong: &mut Mistakes) {
    let mut seen: BTreeMap<&str, &str> =
        of_all.iter().map(|secret| (secret.expose_secret(), "CDR_CALLBACK_SECRET")).collect();
    for account in accounts {
        let name = account.credentials.account_id.as_str();
        for secret in &account.callback_secrets {
            match seen.insert(secret.expose_secret(), name) {
                Some(other) if other != name => wrong.push(format!(
                    "callback_secret of {name} is that of {other} as well: give each its own (`openssl rand -hex 24`)"
                )),
                _ => {}
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_secret_is_of_one_account_alone_and_cannot_be_guessed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "a-secret-in-a-file-0123\n").unwrap();
        let in_file = format!("callback_secret_file = {:?}", secret.path());
        let own = |text: &str| format!("callback_secret = \"{text}\"");
        for (one, two, said) in [
            (own("0123456789abcdef-1"), own("0123456789abcdef-2"), None),
            (own("0123456789abcdef-1"), String::new(), None),
            (own("0123456789abcdef-1"), in_file.clone(), None),
            (
                own("0123456789abcdef-1"),
                own("0123456789abcdef-1"),
                Some("callback_secret of MA_TWO is that of MA_ONE"),
            ),
            (
                own("a-secret-of-all-0123"),
                String::new(),
                Some("callback_secret of MA_ONE is that of CDR_CALLBACK_SECRET"),
            ),
            (own("short"), String::new(), Some("callback_secret of MA_ONE: at least 16 characters")),
            (
                own("0123456789abcdef/1"),
                String::new(),
                Some("callback_secret of MA_ONE: at least 16 characters"),
            ),
            (own("a-secret-in-a-file-0123"), in_file, Some("callback_secret of MA_TWO is that of MA_ONE")),
        ] {
            let account = |id, own: &str| {
                format!("[[account]]\nauth_id = \"{id}\"\nauth_token = \"tok_1234\"\n{own}\n")
            };
            std::fs::write(file.path(), [account("MA_ONE", &one), account("MA_TWO", &two)].concat()).unwrap();
            let mut wrong = Mistakes::default();
            let entries = accounts_of(&mut wrong, &file.path().to_owned());
            let accounts: Vec<_> =
                entries.into_iter().filter_map(|entry| entry.check(&[], 10.0, &mut wrong)).collect();
            check_secrets(&accounts, &["a-secret-of-all-0123".into()], &mut wrong);
            match said {
                None => assert!(wrong.is_empty(), "{wrong}"),
                Some(said) => assert!(wrong.to_string().contains(said), "{wrong}"),
            }
        }
    }
}
