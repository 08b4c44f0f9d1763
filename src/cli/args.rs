//! What several subcommands take: a day, who does it, the address of a service; and what is wrong with what was asked for.

use std::net::SocketAddr;

use chrono::NaiveDate;
use clap::Args;
use sqlx::PgConnection;

use crate::db::account;
use crate::db::bill::billing;
use crate::vobiz::AccountId;

/// What was asked for cannot be meant so; the words say what to write instead. Exit code 2.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

#[derive(Debug, Clone, Copy, Args)]
/// Where a service on this machine answers.
pub(super) struct OpsAddress {
    /// Address of the service's ops port
    #[arg(long, env = "CDR_OPS_LISTEN", default_value = "127.0.0.1:9090", value_name = "ADDRESS", value_parser = crate::config::address)]
    pub(super) ops_listen: SocketAddr,
}

/// Who works here.
#[derive(Debug, Clone, Args)]
pub(super) struct AuthorArgs {
    /// Who does it, for the audit log [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl AuthorArgs {
    /// The name for the audit log; never empty.
    pub(super) fn name(&self) -> String {
        let given =
            |name: Option<String>| name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        if let Some(name) = given(self.by.clone()) {
            return name;
        }
        let uid = rustix::process::getuid();
        // Whoever became root is a person with a name; what the environment says of others could be anybody's.
        let before = given(std::env::var("SUDO_USER").ok()).filter(|_| uid.is_root());
        let name = || given(name_of_user()).unwrap_or_else(|| format!("user {}", uid.as_raw()));
        before.map_or_else(name, |before| format!("{before} by sudo"))
    }
}

/// Name of the user of this process, from wherever this machine has its users.
fn name_of_user() -> Option<String> {
    let said =
        std::process::Command::new("id").arg("-un").stderr(std::process::Stdio::null()).output().ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

/// Words that say something.
pub(super) fn some_words(text: &str) -> Result<String, &'static str> {
    let words = text.trim();
    if words.is_empty() { Err("say why, in a few words") } else { Ok(words.to_owned()) }
}

/// Reads a day; what cannot be meant so says how to write one.
pub(super) fn day(text: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .ok()
        .filter(|day| day.to_string() == text)
        .ok_or_else(|| "write a day of the calendar as YYYY-MM-DD, such as 2026-03-31".into())
}

/// Fails where what was asked for is not among those that have calls.
pub(super) fn is_among(what: &str, asked: &str, all: &[String]) -> Result<(), Usage> {
    if all.iter().any(|one| one == asked) {
        return Ok(());
    }
    let all = if all.is_empty() { "nobody has".into() } else { all.join(", ") };
    Err(Usage(format!("no call of the {what} {asked:?} is stored; who has any: {all}")))
}

/// Fails where an account has neither a stored call nor ever been configured: a slip of the pen, not an account where nothing is.
pub(super) async fn is_account(connection: &mut PgConnection, asked: &str) -> anyhow::Result<()> {
    let owners = billing::accounts(&mut *connection).await?;
    let Err(slip) = is_among("account", asked, &owners) else { return Ok(()) };
    let asked = AccountId::new(asked).map_err(|_| slip.clone())?;
    if account::registered(connection, &[asked]).await?.is_empty() { Err(slip.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_written_out_and_nothing_else_is_one() {
        assert_eq!(day("2026-03-31"), Ok(NaiveDate::from_ymd_opt(2026, 3, 31).unwrap()));
        for text in
            ["", "2026-03", "2026-13-01", "2026-02-30", "26-03-01", "2026-3-01", "yesterday", "+2026-03-1"]
        {
            assert!(day(text).unwrap_err().contains("YYYY-MM-DD"), "{text}");
        }
    }
}
