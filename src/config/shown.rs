//! The effective settings, for `serve --check`: what is in force, where it comes from, and no secret.

use std::fmt::Write;

use clap::ArgMatches;
use clap::parser::ValueSource;
use reqwest::Url;
use secrecy::ExposeSecret;

use super::{Part, ServeConfig};

const MASK: &str = "********";

/// Every setting of a command that has a variable, its value with secrets masked, and its source; then what follows from them
/// all together. `matches` are those of the command itself.
pub fn effective(command: &clap::Command, matches: &ArgMatches, config: &ServeConfig) -> String {
    let mut rows = Vec::new();
    for argument in command.get_arguments() {
        let Some(name) = argument.get_env().map(|name| name.to_string_lossy().into_owned()) else { continue };
        let id = argument.get_id().as_str();
        let value = matches
            .get_raw(id)
            .map(|values| values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","));
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => "flag",
            Some(ValueSource::EnvVariable) => "environment",
            Some(_) => "default",
            None => "not set",
        };
        let secret = argument.is_hide_env_values_set();
        let file = std::env::var(format!("{name}_FILE")).ok().filter(|_| secret && value.is_none());
        let (value, source) = match (value, file) {
            (_, Some(path)) => (MASK.to_owned(), format!("file {path}")),
            (Some(value), _) if matches!(&*name, "DATABASE_URL" | "VOBIZ_PROXY") => {
                (without_password(&value), source.to_owned())
            }
            (Some(_), _) if secret => (MASK.to_owned(), source.to_owned()),
            (Some(value), _) => (without_secrets(value, config), source.to_owned()),
            (None, _) => (String::new(), source.to_owned()),
        };
        rows.push((name, value, source));
    }
    let width = |of: fn(&(String, String, String)) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let (names, values) = (width(|row| row.0.len()), width(|row| row.1.len()));
    let mut text = String::new();
    for (name, value, source) in &rows {
        let _ = writeln!(text, "{name:names$}  {value:values$}  {source}");
    }
    let _ = writeln!(
        text,
        "\nruns: {}",
        config.parts.iter().map(|part| part.as_str()).collect::<Vec<_>>().join(", ")
    );
    if config.database_url.is_none() {
        let _ = writeln!(text, "database: a Postgres of our own");
    }
    for account in &config.accounts {
        let credentials = &account.credentials;
        let by = if credentials.auth_id == credentials.account_id {
            String::new()
        } else {
            format!(", read as {}", credentials.auth_id)
        };
        let tokens = credentials.tokens.len();
        let _ = writeln!(
            text,
            "account {}: {tokens} token{}, {} requests a second{by}{}",
            credentials.account_id,
            if tokens == 1 { "" } else { "s" },
            account.max_rps,
            if account.callback_secrets.is_empty() { "" } else { ", a callback secret of its own" }
        );
    }
    if config.parts.contains(&Part::Receive) {
        let _ = writeln!(
            text,
            "callbacks: checked against {} URL{} and {} secret{}",
            config.callback_urls.len(),
            if config.callback_urls.len() == 1 { "" } else { "s" },
            config.callback_secrets.len(),
            if config.callback_secrets.len() == 1 { "" } else { "s" },
        );
    }
    text
}

/// A database URL whose password is masked. Its query may hold one too, so of that only the names are shown.
pub(super) fn without_password(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return MASK.to_owned() };
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    let query: Vec<String> = url
        .query_pairs()
        .map(|(name, value)| {
            let shown = if ["host", "port", "dbname", "sslmode"].contains(&&*name) { &*value } else { MASK };
            format!("{name}={shown}")
        })
        .collect();
    url.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
    url.to_string()
}

/// A value in which a secret may stand, such as a callback URL with the secret path.
fn without_secrets(value: String, config: &ServeConfig) -> String {
    config
        .callback_secrets
        .iter()
        .chain(
            config
                .accounts
                .iter()
                .flat_map(|account| account.credentials.tokens.iter().chain(&account.callback_secrets)),
        )
        // What is shorter than this is no secret but part of many words.
        .filter(|secret| secret.expose_secret().len() >= 8)
        .fold(value, |value, secret| value.replace(secret.expose_secret(), MASK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://u:p@h/d", "postgres://u:********@h/d"),
            ("postgres://u@h/d?host=/run/pg&password=x", "postgres://u@h/d?host=/run/pg&password=********"),
            ("postgres://h/d?options=-c%20x", "postgres://h/d?options=********"),
            ("not a url", "********"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
