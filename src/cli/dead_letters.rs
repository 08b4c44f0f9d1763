//! `vobiz-cdr dead-letters …`: calls that were given up, and the ways back and out.

use std::collections::BTreeSet;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};

use crate::cli::output::{self, table};
use crate::config::DatabaseArgs;
use crate::db::queue::dead_letter::{self, Closing, DeadLetter, StillOwed, Which};
use crate::vobiz::{CallId, plain, written};
use sqlx::PgConnection;

use crate::cli::args::{AuthorArgs, is_account, some_words};
use crate::cli::database;

/// Flags of `dead-letters`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct DeadLettersArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(subcommand)]
    verb: DeadLettersVerb,
}

#[derive(Debug, Clone, Subcommand)]
enum DeadLettersVerb {
    /// List them, the newest first
    List {
        #[command(flatten)]
        which: WhichArgs,
        /// Instead those that are owed and not dead, the longest owed first
        #[arg(long)]
        owed: bool,
        /// At most so many
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// All that is known of one, with the answer that could not be read
    Show {
        /// The call
        #[arg(value_parser = written::call_id)]
        call_id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring them back: due now, with a clean record
    #[command(group = clap::ArgGroup::new("those").required(true).multiple(true))]
    Revive {
        /// These calls
        #[arg(group = "those", conflicts_with_all = ["all", "account", "class"], value_parser = written::call_id)]
        call_id: Vec<String>,
        /// All of them
        #[arg(long, group = "those")]
        all: bool,
        /// Only those of this account
        #[arg(long, group = "those", value_name = "ID")]
        account: Option<String>,
        /// Only those that died of this: never_appeared, refused, unavailable, unreadable or unstorable
        #[arg(long, group = "those", value_name = "CLASS", hide_possible_values = true)]
        class: Option<Class>,
    },
    /// Give them up for good, with a reason: they are neither owed nor in the way of the bill any more
    #[command(group = clap::ArgGroup::new("these").required(true).multiple(true))]
    Close {
        /// These calls
        #[arg(group = "these", conflicts_with_all = ["all", "account", "class"], value_parser = written::call_id)]
        call_id: Vec<String>,
        /// All of them
        #[arg(long, group = "these")]
        all: bool,
        /// Only those of this account
        #[arg(long, group = "these", value_name = "ID")]
        account: Option<String>,
        /// Only those that died of this: never_appeared, refused, unavailable, unreadable or unstorable
        #[arg(long, group = "these", value_name = "CLASS", hide_possible_values = true)]
        class: Option<Class>,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT", value_parser = some_words)]
        reason: String,
        #[command(flatten)]
        person: AuthorArgs,
    },
}

#[derive(Debug, Clone, Args)]
struct WhichArgs {
    /// Only those of this account
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Only those that died of this: never_appeared, refused, unavailable, unreadable or unstorable
    #[arg(long, value_name = "CLASS", hide_possible_values = true)]
    class: Option<Class>,
}

/// Why a call died.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Class {
    /// 24 hours of 404
    #[value(name = "never_appeared")]
    NeverAppeared,
    /// The API refused this call, five times in an hour
    #[value(name = "refused")]
    Refused,
    /// The API failed on this call alone, for three days
    #[value(name = "unavailable")]
    Unavailable,
    /// The answer was not a CDR, five times in an hour
    #[value(name = "unreadable")]
    Unreadable,
    /// Postgres refuses the CDR
    #[value(name = "unstorable")]
    Unstorable,
}

impl Class {
    fn as_str(self) -> &'static str {
        match self {
            Self::NeverAppeared => "never_appeared",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Unreadable => "unreadable",
            Self::Unstorable => "unstorable",
        }
    }
}

/// Runs one of them, also beside a service that has our own Postgres running. Exit code 1 where a call that was named is no
/// dead letter.
pub(in crate::cli) async fn run(args: &DeadLettersArgs) -> anyhow::Result<ExitCode> {
    database::on_database(&args.database, "dead-letters", async |connection| {
        on_database(&args.verb, connection).await
    })
    .await
}

async fn on_database(verb: &DeadLettersVerb, connection: &mut PgConnection) -> anyhow::Result<ExitCode> {
    match verb {
        DeadLettersVerb::List { which, owed: true, limit, json } => {
            let which = Which { account_id: which.account.as_deref(), class: which.class.map(Class::as_str) };
            let owed = dead_letter::list_owed(connection, which, i64::from(*limit)).await?;
            if owed.is_empty() {
                is_of_somebody(connection, which).await?;
            }
            list_lines(&owed, *json, *limit, "only those that are owed for longest are shown", list_owed)
        }
        DeadLettersVerb::List { which, owed: false, limit, json } => {
            let which = Which { account_id: which.account.as_deref(), class: which.class.map(Class::as_str) };
            let letters = dead_letter::list(connection, which, i64::from(*limit)).await?;
            if letters.is_empty() {
                is_of_somebody(connection, which).await?;
            }
            list_lines(&letters, *json, *limit, "only the newest are shown", list)
        }
        DeadLettersVerb::Show { call_id, json } => {
            let Some(letter) = dead_letter::get(connection, &CallId::new(call_id)?).await? else {
                anyhow::bail!("{call_id} is no dead letter; `vobiz-cdr dead-letters list` shows them");
            };
            if *json {
                output::json_line(&serde_json::to_string(&letter)?);
            } else {
                output::stdout_line(&in_words(&letter));
            }
            Ok(ExitCode::SUCCESS)
        }
        DeadLettersVerb::Revive { call_id, all: _, account, class } if call_id.is_empty() => {
            let which = Which { account_id: account.as_deref(), class: class.map(Class::as_str) };
            let revived = dead_letter::revive_all(connection, which).await?;
            if revived == 0 {
                is_of_somebody(connection, which).await?;
            }
            output::stderr_line(&format!("{revived} revived: due now"));
            Ok(ExitCode::SUCCESS)
        }
        DeadLettersVerb::Revive { call_id, .. } => {
            let call_ids: Vec<&str> = call_id.iter().map(String::as_str).collect();
            let revived = dead_letter::revive(connection, &call_ids).await?;
            output::stderr_line(&format!("{revived} of {} revived: due now", call_ids.len()));
            let all = usize::try_from(revived).is_ok_and(|revived| revived == call_ids.len());
            Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        DeadLettersVerb::Close { call_id, all: _, account, class, reason, person } => {
            let by = person.name();
            let closing = Closing { by: &by, reason };
            if call_id.is_empty() {
                let which = Which { account_id: account.as_deref(), class: class.map(Class::as_str) };
                let closed = dead_letter::close_all(connection, which, closing).await?;
                if closed == 0 {
                    is_of_somebody(connection, which).await?;
                }
                output::stderr_line(&format!("{closed} closed by {by}"));
                return Ok(ExitCode::SUCCESS);
            }
            close(connection, call_id, closing).await
        }
    }
}

/// Fails where there is no dead letter because there is no such account.
async fn is_of_somebody(connection: &mut PgConnection, which: Which<'_>) -> anyhow::Result<()> {
    match which.account_id {
        Some(account) => is_account(connection, account).await,
        None => Ok(()),
    }
}

/// Closes the calls that were named, and says of each that is not closed why.
async fn close(
    connection: &mut PgConnection,
    named: &[String],
    closing: Closing<'_>,
) -> anyhow::Result<ExitCode> {
    let call_ids: BTreeSet<&str> = named.iter().map(String::as_str).collect();
    let call_ids: Vec<&str> = call_ids.into_iter().collect();
    let closed = dead_letter::close(connection, &call_ids, closing).await?;
    let owed = dead_letter::owed(connection, &call_ids).await?;
    for call_id in &call_ids {
        if owed.iter().any(|owed| owed == call_id) {
            output::stderr_line(&format!(
                "{call_id} is owed and not dead: it is still being asked for, so it stays"
            ));
        } else if !closed.iter().any(|closed| closed == call_id) {
            output::stderr_line(&format!(
                "{call_id} is no dead letter; `vobiz-cdr dead-letters list` shows them"
            ));
        }
    }
    output::stderr_line(&format!("{} of {} closed by {}", closed.len(), call_ids.len(), closing.by));
    Ok(if closed.len() == call_ids.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".into(), |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// As Vobiz's words may hold anything, a line of them is cut and made plain.
fn short(text: &str) -> String {
    let plain = plain(text);
    match plain.char_indices().nth(70) {
        Some((at, _)) => format!("{}…", &plain[..at]),
        None => plain.into_owned(),
    }
}

/// Prints rows, as JSON or as a table, and says where there may be more.
fn list_lines<T: serde::Serialize>(
    rows: &[T],
    json: bool,
    limit: u32,
    cut: &str,
    as_table: fn(&[T]),
) -> anyhow::Result<ExitCode> {
    if json {
        for row in rows {
            output::json_line(&serde_json::to_string(row)?);
        }
    } else {
        as_table(rows);
        if rows.len() == limit as usize {
            output::stderr_line(&format!("{cut}: see --limit"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list_owed(owed: &[StillOwed]) {
    if owed.is_empty() {
        output::stderr_line("no call is owed");
        return;
    }
    let mut table =
        table::open(["call", "account", "class", "owed since", "next try", "tries", "last error"], [5]);
    for owed in owed {
        table.add_row([
            owed.call_id.clone(),
            owed.account_id.clone(),
            owed.class.clone().unwrap_or_else(|| "-".into()),
            time(Some(owed.enqueued_at)),
            time(Some(owed.due_at)),
            owed.attempts.to_string(),
            short(owed.last_error.as_deref().unwrap_or("-")),
        ]);
    }
    output::stdout_line(&table.to_string());
}

fn list(letters: &[DeadLetter]) {
    if letters.is_empty() {
        output::stderr_line("no dead letters");
        return;
    }
    let mut table = table::open(["call", "account", "class", "died", "tries", "last error"], [4]);
    for letter in letters {
        table.add_row([
            letter.call_id.clone(),
            letter.account_id.clone(),
            letter.class.clone(),
            time(Some(letter.dead_at)),
            letter.attempts.to_string(),
            short(&letter.last_error),
        ]);
    }
    output::stdout_line(&table.to_string());
}

/// Its lines below each other: none of them looks like one of ours.
fn indented(body: &str) -> String {
    body.lines().map(plain).collect::<Vec<_>>().join(&format!("\n{:15}", ""))
}

fn in_words(letter: &DeadLetter) -> String {
    let lines = [
        ("call", letter.call_id.clone()),
        ("account", letter.account_id.clone()),
        ("class", letter.class.clone()),
        ("announced", time(letter.announced_at)),
        ("first failure", time(letter.first_failed_at)),
        ("died", time(Some(letter.dead_at))),
        ("tries", letter.attempts.to_string()),
        ("last error", short(&letter.last_error)),
        ("last answer", letter.last_body.as_deref().map_or_else(|| "none was kept".into(), indented)),
    ];
    lines.map(|(name, value)| format!("{name:<14} {value}")).join("\n")
}
