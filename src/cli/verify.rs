//! `vobiz-cdr verify`: the sums that the bill is read from, proved against the calls, and the calls of settled days against what Vobiz
//! listed.

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::cli::output::{self, counted, table};
use crate::config::DatabaseArgs;
use crate::db::base::audit;
use crate::db::base::retry::on_conflict;
use crate::db::base::work_lease::WorkLease;
use crate::db::bill::billing;
use crate::db::bill::proof;
use crate::db::bill::rollup::{self, Sums, Verified, VerifyScope};
use crate::db::bill::rollup_day;
use crate::db::ledger::reopen::{self, WrongSpan};
use crate::db::ledger::settled::{self, SettledDays};
use crate::db::ledger::summary;
use crate::db::reconcile;
use chrono::NaiveDate;
use clap::Args;
use comfy_table::Table;
use sqlx::{Connection, PgConnection};

use crate::cli::args::{AuthorArgs, Usage, is_among};
use crate::cli::database;

/// Name of the lease of those who repair.
const TASK: &str = "verify";
/// Keys that a person is shown.
const SHOWN: usize = 50;

/// Flags of `verify`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Only calls of this account
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// First day, YYYY-MM-DD, in the billing zone [default: from the first call on]
    #[arg(long, value_name = "DATE", value_parser = crate::cli::args::day)]
    from: Option<NaiveDate>,
    /// Last day, included [default: up to the last call]
    #[arg(long, value_name = "DATE", value_parser = crate::cli::args::day)]
    to: Option<NaiveDate>,
    /// Make right what differs, and write into the audit log what it was
    #[arg(long)]
    repair: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    person: AuthorArgs,
}

/// Compares, and repairs where it is to. Exit code 0 where all is right in the end, 1 where it is not, 2 if it cannot be done now.
pub(in crate::cli) async fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    if args.from.zip(args.to).is_some_and(|(from, to)| from > to) {
        return Err(Usage("--from lies after --to: swap them".into()).into());
    }
    database::on_database(&args.database, "verify", async |connection| {
        database::say_place(&args.database)?;
        on_database(args, connection).await
    })
    .await
}

async fn look_and_repair(
    args: &VerifyArgs,
    connection: &mut PgConnection,
    scope: VerifyScope<'_>,
    lease: Option<&WorkLease>,
    reopened: &mut VerifyReopened,
) -> anyhow::Result<VerifyFound> {
    let found = loop {
        if let Some(found) = look(args, connection, scope, lease, reopened).await? {
            break found;
        }
    };
    if args.repair {
        // By themselves: all checks wait for the lock of the proofs, and these may wait for the rows of days.
        on_conflict!(reopen::reopen(&mut *connection, &found.settled.differences)).await?;
        let right: Vec<WrongSpan> = reopened.spans.iter().cloned().collect();
        on_conflict!(reopen::hurry_days_of_sums(&mut *connection, &right)).await?;
    }
    Ok(found)
}

async fn on_database(args: &VerifyArgs, connection: &mut PgConnection) -> anyhow::Result<ExitCode> {
    // Two who repair at once would add what is missing twice.
    let lease = if args.repair { WorkLease::take_soon(connection, TASK).await? } else { None };
    if args.repair && lease.is_none() {
        output::stderr_line("another verify --repair is at work on this database: wait for its end");
        return Ok(ExitCode::from(2));
    }
    let accounts = args.account.clone().map(|account| vec![account]);
    let scope = VerifyScope { accounts: accounts.as_deref(), from: args.from, to: args.to };
    let mut reopened = VerifyReopened::default();
    let found = look_and_repair(args, connection, scope, lease.as_ref(), &mut reopened).await;
    if let Some(lease) = lease {
        // Behind a pooler the session goes on without us. After a failure the first error is the one to say.
        let given_back = lease.give_back(connection).await;
        if found.is_ok() {
            given_back?;
        }
    }
    let found = found?;
    let differ = !(found.verified.differences.is_empty() && found.days.is_empty());
    if differ && !found.repaired && proof::may_note(connection).await? {
        // As the service would: the bill goes no further than that.
        let mut transaction = connection.begin().await?;
        reconcile::read_at_length(&mut transaction).await?;
        proof::prove(&mut transaction, scope).await?;
        transaction.commit().await?;
    }
    let VerifyFound { verified, days, settled, repaired, money } = found;
    let equal = verified.differences.is_empty() && days.is_empty();
    show(args, &verified, &days, &settled, (repaired, money, reopened.days));
    if money > 0 {
        output::stderr_line(&format!(
            "Vobiz's summary proves not all of the money, or counts a call more than once, on {money} settled {}: see money in vobiz.ledger_day",
            if money == 1 { "day" } else { "days" }
        ));
    }
    Ok(if (equal || repaired) && settled.differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What was found, and done about it.
struct VerifyFound {
    verified: Verified,
    days: Vec<rollup_day::RollupDayDifference>,
    settled: SettledDays,
    repaired: bool,
    money: i64,
}

/// What was reopened so far.
#[derive(Default)]
struct VerifyReopened {
    /// Wrong sums whose days are open now.
    spans: BTreeSet<WrongSpan>,
    /// Settled days that were reopened.
    days: u64,
    /// What settled days looked like before the first was.
    settled: Option<SettledDays>,
}

/// Looks once, and repairs if it is to. None if days had to be reopened first: it is to look again. A sum that is made right says what its
/// calls say, whatever they were changed to, so no instant may come at which it is right and its day counts as settled by the comparison
/// of before.
async fn look(
    args: &VerifyArgs,
    connection: &mut PgConnection,
    scope: VerifyScope<'_>,
    lease: Option<&WorkLease>,
    reopened: &mut VerifyReopened,
) -> anyhow::Result<Option<VerifyFound>> {
    let mut transaction = connection.begin().await?;
    if let Some(lease) = lease {
        // Its row stays locked until the repair is committed, so nobody takes it, however long that lasts.
        lease.fence(&mut transaction).await?;
    }
    reconcile::read_at_length(&mut transaction).await?;
    let settled = match reopened.settled.clone() {
        Some(settled) => settled,
        None => settled::compare(&mut transaction, scope.accounts, scope.from, scope.to).await?,
    };
    if args.repair {
        proof::lock(&mut transaction).await?;
    }
    let verified = rollup::verify(&mut transaction, scope).await?;
    let days = rollup_day::verify(&mut transaction, scope).await?;
    if let (0, Some(account)) = (verified.keys, &args.account) {
        // Nothing equals nothing: a wrong name must not look like a proof.
        is_among("account", account, &billing::accounts(&mut transaction).await?)?;
    }
    let repaired = args.repair && !(verified.differences.is_empty() && days.is_empty());
    if repaired {
        let wrong: BTreeSet<WrongSpan> = wrong_spans(&verified, &days).collect();
        if !wrong.is_subset(&reopened.spans) {
            transaction.rollback().await?;
            let wrong: Vec<WrongSpan> = wrong.into_iter().collect();
            let mut transaction = connection.begin().await?;
            audit::sign(&mut transaction, &args.person.name()).await?;
            reopened.days += reopen::of_sums(&mut transaction, &wrong).await?;
            transaction.commit().await?;
            reopened.spans.extend(wrong);
            reopened.settled = Some(settled);
            return Ok(None);
        }
        let by = args.person.name();
        rollup::repair(&mut transaction, &verified.differences, &by).await?;
        rollup_day::repair(&mut transaction, &days, &by).await?;
    }
    if args.repair {
        proof::note(&mut transaction, scope, &[]).await?;
    }
    let money = summary::money_not_compared(&mut transaction, scope.accounts, scope.from, scope.to).await?;
    transaction.commit().await?;
    Ok(Some(VerifyFound { verified, days, settled, repaired, money }))
}

/// Where the calls of wrong sums lie.
fn wrong_spans<'a>(
    verified: &'a Verified,
    days: &'a [rollup_day::RollupDayDifference],
) -> impl Iterator<Item = WrongSpan> + use<'a> {
    let quarters = verified.differences.iter().map(|sum| WrongSpan {
        account_id: sum.key.account_id.clone(),
        day: sum.day,
        quarter: Some(sum.key.bucket),
    });
    quarters.chain(days.iter().map(|sum| WrongSpan {
        account_id: sum.account_id.clone(),
        day: sum.day,
        quarter: None,
    }))
}

fn show(
    args: &VerifyArgs,
    verified: &Verified,
    days: &[rollup_day::RollupDayDifference],
    settled: &SettledDays,
    (repaired, money, reopened): (bool, i64, u64),
) {
    let Verified { keys, calls, differences } = verified;
    if args.json {
        let all = serde_json::json!({
            "equal": differences.is_empty() && days.is_empty(), "repaired": repaired, "reopened_days": reopened, "keys": keys, "calls": calls,
            "differences": differences, "days": days,
            "settled": {"days": settled.days, "calls": settled.calls, "differences": settled.differences,
                        "money_not_compared": money},
        });
        output::json_line(&all.to_string());
    } else {
        let mut table = headed(["quarter (UTC)", "rollup", "calls"]);
        for difference in differences.iter().take(SHOWN) {
            let key = &difference.key;
            let place = [
                key.account_id.clone(),
                key.customer.clone(),
                key.bucket.format("%Y-%m-%d %H:%M").to_string(),
            ];
            add(
                &mut table,
                place,
                (&key.currency, &key.call_direction, key.answered),
                [&difference.rollup, &difference.calls],
            );
        }
        print(&table);
        let mut table = headed(["day", "rollup_day", "rollup"]);
        for difference in days.iter().take(SHOWN) {
            let place =
                [difference.account_id.clone(), difference.customer.clone(), difference.day.to_string()];
            add(
                &mut table,
                place,
                (&difference.currency, &difference.call_direction, difference.answered),
                [&difference.rollup_day, &difference.rollup],
            );
        }
        print(&table);
        print(&settled_table(settled));
    }
    let wrong = differences.len();
    let (sums, calls) = (counted(*keys, "sum", "sums"), counted(*calls, "call", "calls"));
    output::stderr_line(&match (wrong, repaired) {
        (0, _) => format!("the rollup equals the calls: {sums} over {calls}"),
        (_, true) => format!("{wrong} of {sums} over {calls} differed and were repaired"),
        (_, false) => format!(
            "{wrong} of {sums} over {calls} {}: --repair makes them right, and has their days compared again",
            if wrong == 1 { "differs" } else { "differ" }
        ),
    });
    if !days.is_empty() {
        output::stderr_line(&if repaired {
            let sums = counted(days.len(), "sum by day", "sums by day");
            format!("{sums} differed from the quarters of the day and were repaired")
        } else {
            let sums = counted(days.len(), "sum by day differs", "sums by day differ");
            format!("{sums} from the quarters of the day: --repair makes them right")
        });
    }
    if reopened > 0 {
        output::stderr_line(&format!(
            "{} reopened: what changed there went past the triggers, and is not billed before Vobiz's list was compared \
             with it again, call by call; `serve` does that at once, and `vobiz.safe_to_bill` says how far it is",
            counted(reopened, "settled day was", "settled days were")
        ));
    }
    output::stderr_line(&match settled.differences.first() {
        None => format!(
            "the settled days hold what Vobiz listed of them: {} in {} of Vobiz's",
            counted(settled.calls, "call", "calls"),
            counted(settled.days, "day", "days")
        ),
        Some(first) => format!(
            "{} not what Vobiz listed: something changed calls past the triggers; `vobiz-cdr reconcile \
             --account {} --day {}` lists and compares such a day again, and with --repair `serve` does",
            counted(settled.differences.len(), "sum of settled days is", "sums of settled days are"),
            first.account_id,
            first.day
        ),
    });
    if wrong.max(days.len()).max(settled.differences.len()) > SHOWN && !args.json {
        output::stderr_line(&format!("the first {SHOWN} are shown; --json shows all"));
    }
}

/// What is left of the settled days, a line for each owner and currency of a day.
fn settled_table(settled: &SettledDays) -> Table {
    let heads = [
        "account",
        "day at Vobiz",
        "calls of",
        "currency",
        "calls",
        "listed",
        "billsec",
        "listed",
        "total_cost",
        "listed",
    ];
    let mut table = table::open(heads, 4..10);
    for day in settled.differences.iter().take(SHOWN) {
        let currency = if day.currency.is_empty() { "-" } else { &day.currency };
        table.add_row([
            day.account_id.clone(),
            day.day.to_string(),
            day.owner.clone(),
            currency.to_owned(),
            day.calls_here.to_string(),
            day.calls_there.to_string(),
            day.billsec_here.to_string(),
            day.billsec_there.to_string(),
            day.total_here.clone(),
            day.total_there.clone(),
        ]);
    }
    table
}

/// An empty table: the time, and the names of the two sides.
fn headed([time, kept, real]: [&str; 3]) -> Table {
    table::open(["account", "customer", time, "currency", "direction", "answered", "sum", kept, real], 7..9)
}

/// Adds a line for each sum of a key that differs.
fn add(
    table: &mut Table,
    place: [String; 3],
    (currency, direction, answered): (&Option<String>, &Option<String>, Option<bool>),
    [kept, real]: [&Sums; 2],
) {
    let [account, customer, time] = place;
    let or_dash = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".into());
    for ((name, kept), (_, real)) in kept.iter().zip(real.iter()).filter(|(kept, real)| kept != real) {
        table.add_row([
            account.clone(),
            customer.clone(),
            time.clone(),
            or_dash(currency),
            or_dash(direction),
            answered.map_or_else(|| "-".into(), |answered| answered.to_string()),
            name.into(),
            kept,
            real,
        ]);
    }
}

fn print(table: &Table) {
    if !table.is_empty() {
        output::stdout_line(&table.to_string());
    }
}
