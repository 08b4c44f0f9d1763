//! The name under which the audit log writes down what a person does by a command.

use clap::Args;

/// Who works here.
#[derive(Debug, Clone, Args)]
pub(crate) struct PersonArgs {
    /// Who does it, for the audit log [default: the user of this machine]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl PersonArgs {
    /// The name for the audit log; never empty.
    pub(crate) fn name(&self) -> String {
        let named =
            self.by.clone().or_else(|| std::env::var("USER").ok()).or_else(|| std::env::var("LOGNAME").ok());
        let named = named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        named.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
    }
}
