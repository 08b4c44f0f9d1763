//! `vobiz-cdr recover`: list every day since a restore again.

use std::process::ExitCode;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::accounts::{CONNECTIONS, OpenAccounts};
use super::args::Usage;
use super::database;
use super::range::{count, print_outcome, watched};
use crate::config::{DatabaseArgs, VobizArgs};
use crate::db::base::clock::Clock;
use crate::db::ledger::backfill::DayRange;
use crate::db::ledger::summary;

/// Flags of `recover`.
#[derive(Debug, Clone, Args)]
pub(super) struct RecoverArgs {
    /// What was stored since then may be gone: the time of the dump, or of the last transaction that was restored
    #[arg(long, value_name = "TIME")]
    since: DateTime<Utc>,
    /// Only this account [default: all that are configured]
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// The ledger of the range as JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    vobiz: VobizArgs,
}

/// Runs `recover`. Exit code 1 if a day that is over is not settled in the end.
pub(super) async fn run(args: RecoverArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let config = args.vobiz.check()?;
    Box::pin(database::on_pool(&args.database, "recover", CONNECTIONS, async |pool| {
        if args.since > Clock::read(&mut *pool.acquire().await?).await?.now() {
            bail!(Usage("--since lies in the future".into()));
        }
        let open = OpenAccounts::open(pool, config.clone(), args.account.as_deref()).await?;
        let mut settled = true;
        for account in &open.accounts {
            let days = summary::range(&mut *pool.acquire().await?, account.id(), args.since).await?;
            let range = DayRange { id: 0, first: days.0, last: days.1, next: days.1 };
            let calls = count(&open, account, &range).await;
            let began = Clock::read(&mut *pool.acquire().await?).await?.now();
            let work = open.ledger.recover(account, args.since, &stop);
            let again = "`serve`, or the same command,";
            let done = Box::pin(watched(&open, &range, calls, work, again)).await?;
            settled &= print_outcome(pool, account.id(), (&range, Some(began)), &done, args.json).await?;
        }
        Ok(if settled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }))
    .await
}
