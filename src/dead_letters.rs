//! `vobiz-cdr dead-letters …`: calls that were given up, and the way back.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use sqlx::PgConnection;
use vobiz_cdr::config::DatabaseArgs;
use vobiz_cdr::db::dead_letter::{self, DeadLetter, Which};
use vobiz_cdr::db::queue;
use vobiz_cdr::vobiz::CallId;

use crate::reach;

/// Flags of `dead-letters`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeadLettersArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// List them, the newest first
    List {
        #[command(flatten)]
        which: WhichArgs,
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
        call_id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring them back: due now, with a clean record
    #[command(group = clap::ArgGroup::new("those").required(true).multiple(true))]
    Revive {
        /// These calls
        #[arg(group = "those", conflicts_with_all = ["all", "account", "class"])]
        call_id: Vec<String>,
        /// All of them
        #[arg(long, group = "those")]
        all: bool,
        /// Only those of this account
        #[arg(long, group = "those", value_name = "ID")]
        account: Option<String>,
        /// Only those that died of this: never_appeared, refused, unreadable or unstorable
        #[arg(long, group = "those", value_name = "CLASS", hide_possible_values = true)]
        class: Option<Class>,
    },
}

#[derive(Debug, Clone, Args)]
struct WhichArgs {
    /// Only those of this account
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Only those that died of this: never_appeared, refused, unreadable or unstorable
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
            Self::Unreadable => "unreadable",
            Self::Unstorable => "unstorable",
        }
    }
}

/// Runs one of them, also beside a service that has our own Postgres running. Exit code 1 where a call that was named is no
/// dead letter.
pub(crate) async fn run(args: &DeadLettersArgs) -> anyhow::Result<ExitCode> {
    reach::on_database(&args.database, "dead-letters", async |connection| {
        on_database(&args.verb, connection).await
    })
    .await
}

async fn on_database(verb: &Verb, connection: &mut PgConnection) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::List { which, limit, json } => {
            let which = Which { account_id: which.account.as_deref(), class: which.class.map(Class::as_str) };
            let letters = dead_letter::list(connection, which, i64::from(*limit)).await?;
            if *json {
                for letter in &letters {
                    crate::print_line(&serde_json::to_string(letter)?);
                }
            } else {
                list(&letters);
                if letters.len() == *limit as usize {
                    crate::say("only the newest are shown: see --limit");
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Show { call_id, json } => {
            let Some(letter) = dead_letter::get(connection, &CallId::new(call_id)?).await? else {
                anyhow::bail!("{call_id} is no dead letter; `vobiz-cdr dead-letters list` shows them");
            };
            crate::print_line(&if *json { serde_json::to_string(&letter)? } else { in_words(&letter) });
            Ok(ExitCode::SUCCESS)
        }
        Verb::Revive { call_id, all: _, account, class } if call_id.is_empty() => {
            let which = Which { account_id: account.as_deref(), class: class.map(Class::as_str) };
            let revived = dead_letter::revive_all(connection, which).await?;
            crate::say(&format!("{revived} revived: due now"));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Revive { call_id, .. } => {
            let call_ids: Vec<&str> = call_id.iter().map(String::as_str).collect();
            let revived = queue::revive(connection, &call_ids).await?;
            crate::say(&format!("{revived} of {} revived: due now", call_ids.len()));
            let all = usize::try_from(revived).is_ok_and(|revived| revived == call_ids.len());
            Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".into(), |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// As Vobiz's words may hold anything, a line of them is cut and made plain.
fn short(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(70).collect();
    if plain.chars().count() < text.chars().count() { plain + "…" } else { plain }
}

fn list(letters: &[DeadLetter]) {
    if letters.is_empty() {
        crate::say("no dead letters");
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "call",
        "account",
        "class",
        "died",
        "tries",
        "last error",
    ]);
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
    crate::print_line(&table.to_string());
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
        ("last answer", letter.last_body.clone().unwrap_or_else(|| "none was kept".into())),
    ];
    lines.map(|(name, value)| format!("{name:<14} {value}")).join("\n")
}
