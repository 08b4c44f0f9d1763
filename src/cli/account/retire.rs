//! `account retire`: the end of the promise for an account that leaves.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::bail;

use super::{AccountArgs, RetireArgs};
use crate::cli::args::Usage;
use crate::cli::database;
use crate::cli::output;
use crate::db::base::clock::Clock;
use crate::db::queue::dead_letter::Closing;
use crate::db::retirement::{self, Retirement};
use crate::vobiz::AccountId;

/// Retires it, or says why not: exit code 1, and nothing was changed.
pub(super) async fn run(args: &AccountArgs, retire: &RetireArgs) -> anyhow::Result<ExitCode> {
    let account = AccountId::new(&retire.account)
        .map_err(|error| Usage(format!("{}: {error}; write an id such as MA_XXXXXXXX", retire.account)))?;
    if args.configured()?.is_some_and(|accounts| accounts.contains(&account)) {
        bail!(
            "{account} is configured here: take it out of the settings of every service first, for whoever starts with it takes it up again"
        );
    }
    let by = retire.person.name();
    let retirement = Retirement {
        account: &account,
        at: retire.at,
        give_up: retire.give_up,
        closing: Closing { by: &by, reason: &retire.reason },
    };
    let done = database::on_database(&args.database, "account", async |connection| {
        if retire.at.is_some_and(|at| at.timestamp_nanos_opt().is_none()) {
            bail!(Usage("--at is no instant that can be stored".into()));
        }
        if let Some(at) = retire.at
            && at > Clock::read(&mut *connection).await?.now()
        {
            bail!(Usage("--at lies in the future".into()));
        }
        Ok(retirement::retire(connection, retirement).await?)
    })
    .await?;
    let mut words = format!(
        "{account} is retired by {by}: nothing is promised from {} on, and nothing is waited for; its calls stay",
        done.retired_at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
    );
    if done.given_up > 0 {
        let calls = output::counted(done.given_up, "owed call", "owed calls");
        let _ = write!(words, "; {calls} given up (vobiz.closed_call, vobiz.audit)");
    }
    if done.calls_after > 0 {
        let calls = output::counted(done.calls_after, "stored call lies", "stored calls lie");
        let _ = write!(words, "; {calls} after that: bills of those days say that they are not proven");
    }
    output::stderr_line(&words);
    Ok(ExitCode::SUCCESS)
}
