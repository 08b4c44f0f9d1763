//! `vobiz-cdr backfill`: list days again because an operator asks for it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::accounts::{CONNECTIONS, OpenAccounts};
use super::args::Usage;
use super::output::counted;
use super::range::{count, pages, print_outcome, watched};
use super::{database, output};
use crate::account::Account;
use crate::config::{DatabaseArgs, VobizArgs};
use crate::db::base::work_lease::{LeaseSession, WorkLease};
use crate::db::ledger::backfill::{self, DayRange};
use crate::db::ledger::summary;
use crate::vobiz::AccountId;
use anyhow::{Context, bail};
use chrono::NaiveDate;
use clap::Args;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// Flags of `backfill`.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct BackfillArgs {
    /// First day, YYYY-MM-DD, as Vobiz names its days
    #[arg(long, value_name = "DATE", value_parser = crate::cli::args::day, required_unless_present = "resume")]
    from: Option<NaiveDate>,
    /// Last day, included [default: the day before the ledger begins, else yesterday]
    #[arg(long, value_name = "DATE", value_parser = crate::cli::args::day)]
    to: Option<NaiveDate>,
    /// Only this account [default: all that are configured]
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Only say how many requests, hours and bytes it would take
    #[arg(long, conflicts_with_all = ["resume", "anew"])]
    dry_run: bool,
    /// Go on with an unfinished backfill
    #[arg(long, conflicts_with_all = ["from", "to"])]
    resume: bool,
    /// Drop an unfinished backfill and start this one; what it stored stays
    #[arg(long, conflicts_with = "resume")]
    anew: bool,
    /// The ledger of the range as JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    vobiz: VobizArgs,
}

/// Runs `backfill`. Exit code 1 if a day of the range is not settled in the end.
pub(super) async fn run(args: BackfillArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let config = args.vobiz.check()?;
    Box::pin(database::on_pool(&args.database, "backfill", CONNECTIONS, async |pool| {
        let open = OpenAccounts::open(pool, config.clone(), args.account.as_deref()).await?;
        let mut planned = Vec::new();
        let (mut session, mut leases) = (LeaseSession::of_command(pool).await?, Vec::new());
        for account in &open.accounts {
            let name = format!("backfill {}", account.id());
            if !args.dry_run {
                let Some(lease) = WorkLease::take_soon(session.connection(), &name).await? else {
                    bail!(Usage(format!(
                        "a backfill of {} is at work: wait for its end, or stop it",
                        account.id()
                    )));
                };
                leases.push(lease);
            }
            match plan(pool, account.id(), &args).await? {
                Some(range) => planned.push((account, range)),
                None => output::stderr_line(&format!("{}: no backfill is unfinished", account.id())),
            }
        }
        // All of them are written down before the first request: whatever stops this, --resume knows of each.
        if !args.resume && !args.dry_run {
            start(pool, &mut planned, args.anew).await?;
        }
        let work = async {
            let mut listed = Vec::new();
            for (account, range) in planned {
                let calls = count(&open, account, &range).await;
                print_cost(pool, account, &range, calls).await?;
                if args.dry_run {
                    continue;
                }
                let work = open.ledger.backfill(account, &range, &stop);
                let done =
                    Box::pin(watched(&open, &range, calls, work, "`vobiz-cdr backfill --resume`")).await?;
                listed.push((account, range, done));
            }
            let (mut settled, several) = (true, listed.len() > 1);
            for (account, range, done) in listed.iter_mut().filter(|_| several) {
                open.ledger.settle_again(account, range, &stop, done).await?;
            }
            for (account, range, done) in listed {
                let began = backfill::started_at(&mut *pool.acquire().await?, range.id).await?;
                settled &= print_outcome(pool, account.id(), (&range, began), &done, args.json).await?
                    && done.not_over == 0;
            }
            Ok::<_, anyhow::Error>(settled)
        };
        let settled = Box::pin(WorkLease::hold_all(&leases, pool, work)).await?;
        session.close(leases).await;
        Ok(if settled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }))
    .await
}

/// What is to be listed for an account; none if nothing is to be resumed. A range of a dry run has no number.
async fn plan(pool: &PgPool, account: &AccountId, args: &BackfillArgs) -> anyhow::Result<Option<DayRange>> {
    let mut connection = pool.acquire().await?;
    let unfinished = backfill::unfinished(&mut connection, account).await?;
    if args.resume {
        return Ok(unfinished);
    }
    if let Some(range) = unfinished.filter(|_| !args.anew && !args.dry_run) {
        let (first, last, next) = (range.first, range.last, range.next);
        bail!(Usage(format!(
            "a backfill of {account} from {first} to {last} stopped before {next}: go on with it by --resume, or drop it by --anew"
        )));
    }
    let (ledger, today) = summary::range_of_ledger(&mut connection, account).await?;
    let first = args.from.context("--from is missing")?;
    let last = args.to.or_else(|| if first < ledger { ledger.pred_opt() } else { today.pred_opt() });
    let last = last.context("--to is missing")?;
    if first > last {
        bail!(Usage(format!("--from {first} lies after --to {last}")));
    }
    if last > today {
        bail!(Usage(format!("--to {last} lies in the future: today is {today} at Vobiz")));
    }
    Ok(Some(DayRange { id: 0, first, last, next: last }))
}

async fn start(pool: &PgPool, ranges: &mut [(&Arc<Account>, DayRange)], anew: bool) -> anyhow::Result<()> {
    let mut transaction = pool.begin().await?;
    for (account, range) in ranges {
        if anew {
            backfill::drop_unfinished(&mut transaction, account.id()).await?;
        }
        *range = backfill::start(&mut transaction, account.id(), range.first, range.last).await?;
    }
    Ok(transaction.commit().await?)
}

/// What a range costs, in requests, time and bytes.
async fn print_cost(
    pool: &PgPool,
    account: &Account,
    range: &DayRange,
    calls: Option<i64>,
) -> anyhow::Result<()> {
    let Some(calls) = calls else {
        output::stderr_line(&format!("{}: Vobiz does not say how many calls there are", account.id()));
        return Ok(());
    };
    let requests = pages(range, Some(calls));
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = Duration::try_from_secs_f64(requests as f64 / account.max_rps).unwrap_or_default();
    let size = summary::bytes_per_call(&mut *pool.acquire().await?).await?;
    let bytes = u64::try_from(calls).unwrap_or(0).saturating_mul(size.bytes);
    output::stderr_line(&format!(
        "{}: {} from {} to {}: about {}, {} at {} a second if nobody else asks, {} in Postgres ({} bytes a call{})",
        account.id(),
        counted(calls, "call", "calls"),
        range.first,
        range.next,
        counted(requests, "request", "requests"),
        humantime::format_duration(Duration::from_secs(seconds.as_secs().max(1))),
        account.max_rps,
        indicatif::HumanBytes(bytes),
        size.bytes,
        if size.measured { ", as the calls that are here" } else { ", as is usual" },
    ));
    Ok(())
}
