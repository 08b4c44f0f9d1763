//! `reconcile --day`: one day, listed and compared now, by the check that the service makes of every day.

use std::process::ExitCode;

use crate::cli::output;
use crate::db::cdr::Origin;
use crate::db::ledger::record::DayState;
use crate::db::ledger::summary;
use crate::db::ledger::{CheckCause, Due};
use crate::list::ListError;
use crate::vobiz::AccountId;
use anyhow::bail;
use chrono::NaiveDate;
use tokio_util::sync::CancellationToken;

use super::ReconcileArgs;
use crate::cli::accounts::{CONNECTIONS, OpenAccounts};
use crate::cli::args::Usage;
use crate::cli::database;
use crate::cli::range::print_lines;

/// Checks the day of each account. Exit code 1 if one of them differs, or is over and not settled.
pub(super) async fn run(
    args: &ReconcileArgs,
    day: NaiveDate,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let config = args.vobiz.check()?;
    let only = args.account.as_ref().map(AccountId::as_str);
    let work = database::on_pool(&args.database, "reconcile", CONNECTIONS, async |pool| {
        let open = OpenAccounts::open(pool, config.clone(), only).await?;
        let mut settled = true;
        let mut lines = Vec::new();
        for account in &open.accounts {
            let (_, today) = summary::range_of_ledger(&mut *pool.acquire().await?, account.id()).await?;
            if day > today {
                bail!(Usage(format!("--day {day} lies in the future: today is {today} at Vobiz")));
            }
            let due = Due { day, cause: CheckCause::Manual };
            let checked = open.ledger.check_day(account, due, Origin::Manual, &stop).await;
            let checked = match checked {
                Err(ListError::Stopped) => bail!("stopped before the day was compared"),
                checked => checked?,
            };
            settled &=
                checked.state == DayState::Settled || (checked.state == DayState::Unproven && !checked.over);
            let ours = summary::lines(&mut *pool.acquire().await?, account.id(), day, day, None).await?;
            if checked.state == DayState::Differs {
                output::stderr_line(&format!(
                    "{}: call by call: select * from vobiz.ledger_difference where check_id = {}",
                    account.id(),
                    checked.id
                ));
            }
            lines.extend(ours);
        }
        print_lines(&lines, args.json)?;
        Ok(if settled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    });
    Box::pin(work).await
}
