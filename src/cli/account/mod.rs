//! `vobiz-cdr account …`: which accounts there are, whether Vobiz lets them read, and the end of one that leaves.

mod check;
mod list;
mod retire;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use crate::cli::args::{AuthorArgs, some_words};
use crate::config::{DatabaseArgs, Mistakes, VobizArgs};
use crate::vobiz::AccountId;

/// Flags of `account`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct AccountArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    vobiz: VobizArgs,
    #[command(subcommand)]
    verb: AccountVerb,
}

#[derive(Debug, Clone, Subcommand)]
enum AccountVerb {
    /// Those of the database and those of the settings, side by side
    List {
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Ask Vobiz with the configured credentials whether each works; exit 1 when one does not. Needs no database
    Check {
        /// Only these [default: all that are configured]
        #[arg(value_name = "ID")]
        account: Vec<String>,
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// End the promise for an account that leaves: nobody waits for it any more, and its calls stay
    Retire(RetireArgs),
}

#[derive(Debug, Clone, Args)]
struct RetireArgs {
    /// The account
    #[arg(value_name = "ID")]
    account: String,
    /// The promise ends at this instant, which is settled [default: up to where everything is settled, if no later call is stored]
    #[arg(long, value_name = "TIME")]
    at: Option<DateTime<Utc>>,
    /// Close what is owed of it for good, dead letters as well; else it is refused while anything is owed
    #[arg(long)]
    give_up: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", value_parser = some_words)]
    reason: String,
    #[command(flatten)]
    person: AuthorArgs,
}

/// Runs one of them.
pub(in crate::cli) async fn run(args: &AccountArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        AccountVerb::List { json } => list::run(args, *json).await,
        AccountVerb::Check { account, json } => check::run(&args.vobiz.check()?, account, *json).await,
        AccountVerb::Retire(retire) => retire::run(args, retire).await,
    }
}

impl AccountArgs {
    /// The accounts of the settings, without their tokens; none where this shell has none.
    fn configured(&self) -> Result<Option<Vec<AccountId>>, Mistakes> {
        self.vobiz.name_an_account().then(|| self.vobiz.account_ids()).transpose()
    }
}
