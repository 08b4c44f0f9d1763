//! `vobiz-cdr reparse`: the columns of the stored CDRs, rebuilt from the payloads that were kept.

use std::process::ExitCode;

use clap::Args;

use crate::cli::output::progress::Progress;
use crate::cli::output::{self, counted, table};
use crate::config::DatabaseArgs;
use crate::db::base::audit;
use crate::db::base::retry::on_conflict;
use crate::db::base::task::{self, Task};
use crate::db::base::work_lease::WorkLease;
use crate::db::cdr::reparse::{self, Reparsed};
use sqlx::{Connection, PgConnection};

use crate::cli::args::{AuthorArgs, is_account};
use crate::cli::database;

/// Name of the task, and of its lease.
const TASK: &str = "reparse";
/// Calls in one transaction: what a running service may have to wait for.
const BATCH: i64 = 500;

/// Flags of `reparse`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct ReparseArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Only calls of this account
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Only say what would change
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// Go on where one that was stopped came to
    #[arg(long)]
    resume: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    person: AuthorArgs,
}

/// Rebuilds them. Exit code 0 done, 1 if some calls could not be rebuilt, 2 if one that was stopped is to be resumed first.
pub(in crate::cli) async fn run(args: &ReparseArgs) -> anyhow::Result<ExitCode> {
    database::on_database(&args.database, "reparse", async |connection| on_database(args, connection).await)
        .await
}

async fn on_database(args: &ReparseArgs, connection: &mut PgConnection) -> anyhow::Result<ExitCode> {
    let account = args.account.as_deref();
    if let Some(account) = account
        && reparse::count(connection, Some(account), None).await? == 0
    {
        is_account(connection, account).await?;
    }
    if args.dry_run {
        return reparsed(args, connection, None).await;
    }
    let Some(lease) = WorkLease::take_soon(connection, TASK).await? else {
        output::stderr_line("another reparse is at work on this database: wait for its end");
        return Ok(ExitCode::from(2));
    };
    let done = reparsed(args, connection, Some(&lease)).await;
    // Behind a pooler the session goes on without us. After a failure the first error is the one to say.
    let given_back = lease.give_back(connection).await;
    let code = done?;
    given_back?;
    Ok(code)
}

async fn reparsed(
    args: &ReparseArgs,
    connection: &mut PgConnection,
    lease: Option<&WorkLease>,
) -> anyhow::Result<ExitCode> {
    let account = args.account.as_deref();
    let task = if lease.is_none() {
        None
    } else {
        match task::unfinished(connection, TASK, account).await? {
            Some(task) if args.resume => Some(task),
            Some(_) => {
                output::stderr_line("a reparse was begun and not finished: go on with --resume");
                return Ok(ExitCode::from(2));
            }
            None if args.resume => {
                output::stderr_line("there is no reparse to go on with: begin one without --resume");
                return Ok(ExitCode::from(2));
            }
            None => Some(task::begin(connection, TASK, account).await?),
        }
    };
    let done = work(args, connection, lease, task).await?;
    show(&done, args)?;
    Ok(if done.unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Works the calls off; without a task it changes nothing. Returns what was done since the task began.
async fn work(
    args: &ReparseArgs,
    connection: &mut PgConnection,
    lease: Option<&WorkLease>,
    mut task: Option<Task>,
) -> anyhow::Result<Reparsed> {
    let mut position = task.as_ref().and_then(|task| task.position.clone());
    let before = task.as_ref().and_then(|task| task.detail.as_deref());
    let mut done: Reparsed = before.map(serde_json::from_str).transpose()?.unwrap_or_default();
    let total = reparse::count(connection, args.account.as_deref(), position.as_deref()).await?;
    let mut progress = Progress::new(Some(total), "calls rebuilt");
    let by = args.person.name();
    loop {
        let (batch, last) =
            on_conflict!(batch(args, connection, lease.zip(task.as_ref()), position.as_deref(), &by, &done))
                .await?;
        progress.advance(batch.calls);
        done.add(batch);
        let Some(last) = last else { break };
        position = Some(last);
    }
    if let Some(task) = &mut task {
        task::finish(connection, task).await?;
    }
    progress.finish();
    Ok(done)
}

/// One batch and its checkpoint, in one transaction.
async fn batch(
    args: &ReparseArgs,
    connection: &mut PgConnection,
    task: Option<(&WorkLease, &Task)>,
    position: Option<&str>,
    by: &str,
    before: &Reparsed,
) -> Result<(Reparsed, Option<String>), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if let Some((lease, _)) = task {
        lease.fence(&mut transaction).await?;
    }
    audit::sign(&mut transaction, by).await?;
    let account = args.account.as_deref();
    let (batch, last) = reparse::reparse(&mut transaction, account, position, BATCH, task.is_none()).await?;
    if let (Some((_, task)), Some(last)) = (task, &last) {
        let mut all = before.clone();
        all.add(batch.clone());
        let detail = serde_json::to_string(&all).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let step = Task { position: Some(last.clone()), detail: Some(detail), ..task.clone() };
        task::step(&mut transaction, &step, all.calls, all.changed).await?;
    }
    transaction.commit().await?;
    Ok((batch, last))
}

fn show(done: &Reparsed, args: &ReparseArgs) -> anyhow::Result<()> {
    if args.json {
        output::json_line(&serde_json::to_string(done)?);
    } else if done.changed > 0 {
        let mut table = table::open(["column", "calls"], [1]);
        for (column, calls) in &done.columns {
            table.add_row([column.clone(), calls.to_string()]);
        }
        output::stdout_line(&table.to_string());
    }
    let (calls, changed) = (counted(done.calls, "call", "calls"), done.changed);
    output::stderr_line(&match (changed, args.dry_run) {
        (0, _) => format!("nothing to change in {calls}"),
        (_, true) => format!("{changed} of {calls} would change; nothing was written"),
        (_, false) => format!("{changed} of {calls} changed"),
    });
    if done.versions_missing > 0 {
        output::stderr_line(&format!(
            "{} left as they are: some of the versions are not in vobiz.cdr_revision any more; vobiz.audit says who deleted them, \
             unless it was past the triggers",
            counted(done.versions_missing, "call", "calls")
        ));
    }
    if done.unreadable > 0 {
        output::stderr_line(&format!(
            "{} could not be rebuilt: a version cannot be read",
            counted(done.unreadable, "call", "calls")
        ));
    }
    if done.versions_read_differently > 0 {
        output::stderr_line(&format!(
            "{} differently now than when it was kept; what is kept stays as it is, \
             and so do vobiz.cdr_as_of and vobiz.cdr_change",
            counted(
                done.versions_read_differently,
                "version in vobiz.cdr_revision is read",
                "versions in vobiz.cdr_revision are read"
            )
        ));
    }
    Ok(())
}
