//! The secrets of this process, and the other users of the machine.

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use reqwest::Url;
use tracing::warn;

/// Tokens are in our memory: no core dump holds it, and no other process of this user reads it.
pub(super) fn hide_memory() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            warn!(%error, "this process could not be made to leave no core dump: tokens would be in one");
        }
    }
}

/// Warns of secrets among the arguments, which every user of the machine can read.
pub(super) fn warn_of_arguments(command: &Command, matches: &ArgMatches) {
    for (flag, variable) in among_arguments(command, matches) {
        warn!(
            "--{flag} stands on the command line, where every user of this machine can read it (ps): put it into a file and name that in \
             {variable}_FILE, or into the variable {variable}"
        );
    }
}

/// The flags with a secret that were given, and the variables in place of which they were.
fn among_arguments(command: &Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (mut command, mut matches) = (command, matches);
    loop {
        for argument in command.get_arguments().filter(|argument| argument.is_hide_env_values_set()) {
            let id = argument.get_id().as_str();
            let given = matches.try_contains_id(id).unwrap_or(false)
                && matches.value_source(id) == Some(ValueSource::CommandLine);
            let mut values = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
            let names = argument.get_long().zip(argument.get_env());
            if let Some((flag, variable)) = names
                && given
                && values.any(|value| is_secret(&value.to_string_lossy()))
            {
                found.insert(flag.to_owned(), variable.to_string_lossy().into_owned());
            }
        }
        let Some((name, below)) = matches.subcommand() else { return found };
        let Some(subcommand) = command.find_subcommand(name) else { return found };
        (command, matches) = (subcommand, below);
    }
}

/// A URL is one where a password is in it.
fn is_secret(value: &str) -> bool {
    match Url::parse(value) {
        Ok(url) if value.contains("://") => url.password().is_some() || value.contains("password="),
        _ => true,
    }
}
