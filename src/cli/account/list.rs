//! `account list`: the accounts of the database beside those of the settings.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::AccountArgs;
use crate::cli::database;
use crate::cli::output::{self, table};
use crate::db::retirement::{self, AccountStanding};

/// One account, as either side knows it.
#[derive(Debug, Serialize)]
struct Line {
    account_id: String,
    /// Whether the settings of this shell name it; none where they name no account at all.
    configured: Option<bool>,
    /// What the database knows; none before the first start with it.
    #[serde(flatten)]
    standing: Option<AccountStanding>,
}

/// Lists them. What is configured is what this shell and its `--env-file` say; a service may run with other settings.
pub(super) async fn run(args: &AccountArgs, json: bool) -> anyhow::Result<ExitCode> {
    let configured = args
        .configured()?
        .map(|accounts| accounts.iter().map(|account| account.as_str().to_owned()).collect::<Vec<_>>());
    let standings = database::on_database(&args.database, "account", async |connection| {
        Ok(retirement::standings(connection, None).await?)
    })
    .await?;
    let lines = side_by_side(configured.as_deref(), standings);
    if json {
        for line in &lines {
            output::json_line(&serde_json::to_string(line)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    database::say_place(&args.database)?;
    if configured.is_none() {
        output::stderr_line(
            "this shell has no settings of an account (VOBIZ_AUTH_ID, VOBIZ_ACCOUNTS_FILE, --env-file): who is configured is unknown",
        );
    }
    output::stdout_line(&as_table(&lines));
    for line in &lines {
        if let Some(words) = advice(line) {
            output::stderr_line(&format!("{}: {words}", line.account_id));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn side_by_side(configured: Option<&[String]>, standings: Vec<AccountStanding>) -> Vec<Line> {
    let is_configured = |id: &str| configured.map(|ids| ids.iter().any(|known| known == id));
    let unknown = configured.unwrap_or_default().iter();
    let unknown = unknown.filter(|id| !standings.iter().any(|standing| standing.account_id == **id));
    let mut lines: Vec<Line> =
        unknown.map(|id| Line { account_id: id.clone(), configured: Some(true), standing: None }).collect();
    lines.extend(standings.into_iter().map(|standing| Line {
        account_id: standing.account_id.clone(),
        configured: is_configured(&standing.account_id),
        standing: Some(standing),
    }));
    lines.sort_by(|a, b| a.account_id.cmp(&b.account_id));
    lines
}

fn as_table(lines: &[Line]) -> String {
    let mut table = table::open(
        ["account", "configured", "state", "owed", "dead", "last answer", "safe to bill up to"],
        3..5,
    );
    for line in lines {
        let standing = line.standing.as_ref();
        let of = |number: fn(&AccountStanding) -> i64| {
            standing.map_or_else(|| "-".to_owned(), |standing| number(standing).to_string())
        };
        table.add_row([
            line.account_id.clone(),
            match line.configured {
                Some(true) => "yes",
                Some(false) => "no",
                None => "?",
            }
            .to_owned(),
            state(standing),
            of(|standing| standing.owed),
            of(|standing| standing.dead_letters),
            time(standing.and_then(|standing| standing.last_answer_at), "never"),
            time(standing.and_then(|standing| standing.safe_to), "-"),
        ]);
    }
    table.to_string()
}

fn state(standing: Option<&AccountStanding>) -> String {
    let Some(standing) = standing else { return "not started yet".into() };
    match (&standing.retired_at, &standing.pause_reason) {
        (Some(at), _) => format!("retired at {}", time(Some(*at), "-")),
        (None, Some(reason)) => format!("paused: {reason}"),
        (None, None) if standing.asked_by.is_empty() => "nobody asks".into(),
        (None, None) => "at work".into(),
    }
}

/// What a person should know of one.
fn advice(line: &Line) -> Option<String> {
    let standing = line.standing.as_ref()?;
    match (line.configured, standing.retired_at) {
        (Some(true), Some(_)) => Some(
            "retired, and configured here: the next start of a service with these settings takes it up again"
                .into(),
        ),
        (Some(false), None) if standing.asked_by.is_empty() => Some(format!(
            "not configured and not retired, so nobody fetches its calls or settles its days ({}): configure it again, or `vobiz-cdr account \
             retire {} --reason …`",
            standing.held_by.as_deref().unwrap_or("-"),
            line.account_id
        )),
        (Some(false), None) => {
            Some(format!("not configured here, and asked for by {}", standing.asked_by.join(", ")))
        }
        _ => None,
    }
}

fn time(at: Option<DateTime<Utc>>, never: &str) -> String {
    at.map_or_else(|| never.into(), |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(id: &str) -> AccountStanding {
        AccountStanding {
            account_id: id.into(),
            retired_at: None,
            pause_reason: None,
            owed: 0,
            dead_letters: 0,
            last_answer_at: None,
            ledger_since: DateTime::UNIX_EPOCH,
            safe_to: None,
            held_by: Some("day 2026-03-01 is compared".into()),
            asked_by: Vec::new(),
        }
    }

    #[test]
    fn both_sides_are_there_and_what_only_one_knows_is_said() {
        let configured = ["MA_C".to_owned(), "MA_A".to_owned(), "MA_R".to_owned()];
        let retired = AccountStanding { retired_at: Some(DateTime::UNIX_EPOCH), ..standing("MA_R") };
        let lines = side_by_side(Some(&configured), vec![standing("MA_A"), standing("MA_B"), retired]);
        let ids: Vec<&str> = lines.iter().map(|line| line.account_id.as_str()).collect();
        assert_eq!(ids, ["MA_A", "MA_B", "MA_C", "MA_R"]);
        let said: Vec<bool> = lines.iter().map(|line| advice(line).is_some()).collect();
        assert_eq!(said, [false, true, false, true]);
        assert!(advice(&lines[1]).unwrap().contains("account retire MA_B"));
        assert!(advice(&lines[3]).unwrap().contains("takes it up again"));
        let states: Vec<String> = lines.iter().map(|line| state(line.standing.as_ref())).collect();
        assert_eq!(
            states,
            ["nobody asks", "nobody asks", "not started yet", "retired at 1970-01-01 00:00:00Z"]
        );
        // A shell without settings says nothing of who is configured.
        assert!(side_by_side(None, vec![standing("MA_A")]).iter().all(|line| advice(line).is_none()));
    }
}
