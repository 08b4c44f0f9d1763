//! Every setting, from flags and environment, checked all at once; secrets that cannot print themselves.
//!
//! Read in `main` and handed down as plain values. A setting that is wrong is said with what to do about it, and all wrong
//! ones are said together.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::postgres;
use crate::vobiz::{Credentials, HomeCountry, SignaturePolicy};

mod accounts;
mod mistakes;
mod shown;
mod vobiz;
mod warnings;

pub use mistakes::Mistakes;
use mistakes::{check_path_secret, duration, secret};
pub use shown::effective;
pub use vobiz::{VobizArgs, VobizConfig};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where the database is.
#[derive(Debug, Clone, Args)]
pub struct DatabaseArgs {
    /// Postgres to work on (version 15 or newer), or DATABASE_URL_FILE; without it, a Postgres of our own is started
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL", global = true)]
    pub database_url: Option<SecretString>,
    /// Folder of our own Postgres [default: /var/lib/vobiz-cdr as root, else ~/.local/share/vobiz-cdr]
    #[arg(long, env = "CDR_DATA_DIR", value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Folder with the Postgres server programs [default: the newest found on this machine]
    #[arg(long, env = "PG_BIN_DIR", value_name = "DIR", global = true)]
    pub pg_bin_dir: Option<PathBuf>,
}

/// A part of the service; by default a process runs all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Takes callbacks
    Receive,
    /// Fetches the CDRs that are owed
    Fetch,
    /// Sweeps the CDR list
    Sweep,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Receive, Self::Fetch, Self::Sweep];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Fetch => "fetch",
            Self::Sweep => "sweep",
        }
    }
}

/// The settings of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Run only receive, fetch or sweep, or two of them with a comma between; the rest runs in other processes on the same
    /// database
    #[arg(long, value_delimiter = ',', value_name = "PART", hide_possible_values = true)]
    pub only: Vec<Part>,
    /// Check the settings, print them with secrets masked, and exit
    #[arg(long = "check")]
    pub check_only: bool,
    /// Database settings.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Apply pending migrations at start: true or false [default: true for our own Postgres, else false]
    #[arg(long, env = "CDR_MIGRATE", value_name = "BOOL")]
    pub migrate: Option<String>,
    /// Address of the public port, for callbacks
    #[arg(long, env = "CDR_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: String,
    /// Address of the ops port: /healthz, /readyz, /status and /metrics, without a token, so not for the public
    #[arg(long, env = "CDR_OPS_LISTEN", default_value = "127.0.0.1:9090", value_name = "ADDRESS")]
    pub ops_listen: String,
    /// The Vobiz API and the accounts.
    #[command(flatten)]
    pub vobiz: VobizArgs,
    /// The callback URL as configured at Vobiz, for checking signatures; several are separated by commas
    #[arg(long, env = "CDR_CALLBACK_URL", value_name = "URL")]
    pub callback_url: Option<String>,
    /// Secret last segment of the callback path, for callbacks that Vobiz does not sign; or CDR_CALLBACK_SECRET_FILE
    #[arg(long, env = "CDR_CALLBACK_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub callback_secret: Option<SecretString>,
    /// The previous secret, during a rotation; or CDR_CALLBACK_SECRET_PREVIOUS_FILE
    #[arg(long, env = "CDR_CALLBACK_SECRET_PREVIOUS", hide_env_values = true, value_name = "SECRET")]
    pub callback_secret_previous: Option<SecretString>,
    /// What a callback must prove: required, optional or off
    #[arg(long, env = "CDR_SIGNATURES", default_value = "required", value_name = "POLICY")]
    pub signatures: String,
    /// A new call is fetched this long after its callback
    #[arg(long, env = "CDR_FIRST_FETCH_DELAY", default_value = "4s", value_name = "DURATION")]
    pub first_fetch_delay: String,
    /// Pause between two sweeps over the CDR list
    #[arg(long, env = "CDR_SWEEP_INTERVAL", default_value = "5m", value_name = "DURATION")]
    pub sweep_interval: String,
    /// Requests under way at once
    #[arg(long, env = "CDR_CONCURRENCY", default_value = "32", value_name = "N")]
    pub concurrency: String,
    /// New calls a minute and account that unproven callbacks may owe
    #[arg(long, env = "CDR_MAX_SPECULATIVE_PER_MINUTE", default_value = "600", value_name = "N")]
    pub max_speculative_per_minute: String,
    /// New calls a minute and account that are certain although only a secret in the path proves them; what is beyond it is speculative
    #[arg(long, env = "CDR_MAX_BY_SECRET_PER_MINUTE", default_value = "600", value_name = "N")]
    pub max_by_secret_per_minute: String,
    /// Connections to the public port that one address may hold; 0 for no limit, as behind a proxy that has limits of its own
    #[arg(long, env = "CDR_CONNECTIONS_PER_ADDRESS", default_value = "256", value_name = "N")]
    pub connections_per_address: String,
    /// Time zone of billing days; must equal the one in the database [default: the one in the database]
    #[arg(long, env = "CDR_BILLING_ZONE", value_name = "ZONE")]
    pub billing_zone: Option<String>,
    /// Calling code of national numbers; must equal the one in the database [default: the one in the database]
    #[arg(long, env = "CDR_HOME_COUNTRY", value_name = "CODE")]
    pub home_country: Option<String>,
}

/// The settings of `serve`, checked.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Database; `None` starts a Postgres of our own.
    pub database_url: Option<SecretString>,
    /// Whether to migrate at start; `None` leaves it to whose Postgres it is.
    pub migrate: Option<bool>,
    /// Public port.
    pub listen: SocketAddr,
    /// Ops port.
    pub ops_listen: SocketAddr,
    /// What this process runs; never empty.
    pub parts: Vec<Part>,
    /// Accounts, at least one.
    pub accounts: Vec<AccountConfig>,
    /// Base of the Vobiz API.
    pub api_url: Url,
    /// Proxy on the way to the Vobiz API.
    pub proxy: Option<Url>,
    /// Callback URLs as configured at Vobiz.
    pub callback_urls: Vec<String>,
    /// Secret path segments, the current one first.
    pub callback_secrets: Vec<SecretString>,
    /// What a callback must prove.
    pub policy: SignaturePolicy,
    /// Delay of the first fetch.
    pub first_fetch_delay: Duration,
    /// Pause between two sweeps.
    pub sweep_interval: Duration,
    /// Requests under way at once.
    pub concurrency: u32,
    /// Cap on speculative calls.
    pub max_speculative_per_minute: u32,
    /// Cap on certain calls that a secret alone proves.
    pub max_by_secret_per_minute: u32,
    /// Connections that one address may hold at the public port; `None` sets no limit.
    pub connections_per_address: Option<usize>,
    /// Longest wait for one answer.
    pub request_timeout: Duration,
    /// Billing zone that the database must have.
    pub billing_zone: Option<String>,
    /// Home country that the database must have.
    pub home_country: Option<HomeCountry>,
}

impl ServeConfig {
    /// What of it concerns asking Vobiz.
    pub fn vobiz(&self) -> VobizConfig {
        VobizConfig {
            accounts: self.accounts.clone(),
            api_url: self.api_url.clone(),
            proxy: self.proxy.clone(),
            request_timeout: self.request_timeout,
        }
    }
}

/// One account, checked.
#[derive(Debug, Clone)]
pub struct AccountConfig {
    /// How to ask for its CDRs.
    pub credentials: Credentials,
    /// Its rate limit, requests a second.
    pub max_rps: f64,
    /// Secrets of callback paths that prove this account alone.
    pub callback_secrets: Vec<SecretString>,
}

impl ServeArgs {
    /// Checks all settings. Fails with every mistake at once.
    pub fn check(&self) -> Result<ServeConfig, Mistakes> {
        let mut wrong = Mistakes::default();
        let (first_fetch_delay, sweep_interval) = self.intervals(&mut wrong);
        let addresses = self.addresses(&mut wrong);
        let concurrency = self.concurrency(&mut wrong);
        let mut number = |name: &str, text: &str| wrong.read(name, "write a number", text.parse::<u32>());
        let caps = number("CDR_MAX_SPECULATIVE_PER_MINUTE", &self.max_speculative_per_minute)
            .zip(number("CDR_MAX_BY_SECRET_PER_MINUTE", &self.max_by_secret_per_minute));
        let connections_per_address = number("CDR_CONNECTIONS_PER_ADDRESS", &self.connections_per_address);
        let migrate = self
            .migrate
            .as_ref()
            .and_then(|text| wrong.read("CDR_MIGRATE", "write true or false", text.trim().parse::<bool>()));
        let policy = self.policy(&mut wrong);
        let vobiz = self.vobiz.checked(&mut wrong);
        let callback_urls = self.callback_urls(&mut wrong);
        let callback_secrets = self.callback_secrets(&mut wrong);
        if let Some(vobiz) = &vobiz {
            accounts::check_secrets(&vobiz.accounts, &callback_secrets, &mut wrong);
        }
        let home_country = self.home_country.as_ref().and_then(|code| {
            wrong.read("CDR_HOME_COUNTRY", "write a calling code such as 91", HomeCountry::new(code))
        });
        let database_url = self.database.checked(&mut wrong);
        let runs = |part: &Part| self.only.is_empty() || self.only.contains(part);
        let parts: Vec<Part> = Part::ALL.into_iter().filter(runs).collect();
        // What must fit together.
        if parts.contains(&Part::Receive)
            && policy == Some(SignaturePolicy::Required)
            && callback_urls.is_empty()
            && callback_secrets.is_empty()
            && !vobiz
                .iter()
                .flat_map(|vobiz| &vobiz.accounts)
                .any(|account| !account.callback_secrets.is_empty())
        {
            wrong.push(
                "CDR_SIGNATURES=required needs something to check callbacks by: set CDR_CALLBACK_URL (the URL as configured \
                 at Vobiz) or CDR_CALLBACK_SECRET (a secret path segment), or choose optional or off",
            );
        }
        if parts.len() < Part::ALL.len() && database_url.is_none() {
            wrong.push(
                "--only needs DATABASE_URL: the processes of the other parts must work on the same Postgres",
            );
        }
        let complete = (first_fetch_delay, sweep_interval, addresses, concurrency);
        let complete = (complete, caps, connections_per_address, policy, vobiz);
        let (
            (Some(first_fetch_delay), Some(sweep_interval), Some((listen, ops_listen)), Some(concurrency)),
            Some((max_speculative_per_minute, max_by_secret_per_minute)),
            Some(connections_per_address),
            Some(policy),
            Some(VobizConfig { accounts, api_url, proxy, request_timeout }),
        ) = complete
        else {
            return Err(wrong);
        };
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(ServeConfig {
            database_url,
            migrate,
            listen,
            ops_listen,
            parts,
            accounts,
            api_url,
            proxy,
            callback_urls,
            callback_secrets,
            policy,
            first_fetch_delay,
            sweep_interval,
            concurrency,
            max_speculative_per_minute,
            max_by_secret_per_minute,
            connections_per_address: usize::try_from(connections_per_address).ok().filter(|most| *most > 0),
            request_timeout,
            billing_zone: self.billing_zone.clone(),
            home_country,
        })
    }

    /// The delay before the first fetch, and the pause between two sweeps.
    fn intervals(&self, wrong: &mut Mistakes) -> (Option<Duration>, Option<Duration>) {
        let first_fetch_delay = duration(wrong, "CDR_FIRST_FETCH_DELAY", &self.first_fetch_delay);
        let sweep_interval = duration(wrong, "CDR_SWEEP_INTERVAL", &self.sweep_interval);
        if sweep_interval.is_some_and(|every| !(Duration::from_secs(1)..=DAY).contains(&every)) {
            wrong.push("CDR_SWEEP_INTERVAL: between 1s and 24h");
        }
        if first_fetch_delay.is_some_and(|delay| delay > Duration::from_secs(3600)) {
            wrong.push("CDR_FIRST_FETCH_DELAY: at most 1h");
        }
        (first_fetch_delay, sweep_interval)
    }

    fn concurrency(&self, wrong: &mut Mistakes) -> Option<u32> {
        let how = "write a number from 1 to 1000";
        let concurrency = wrong.read("CDR_CONCURRENCY", how, self.concurrency.parse());
        if concurrency.is_some_and(|n| n == 0 || n > 1000) {
            wrong.push(format!("CDR_CONCURRENCY: {how}"));
        }
        concurrency
    }

    /// The public and the ops port.
    fn addresses(&self, wrong: &mut Mistakes) -> Option<(SocketAddr, SocketAddr)> {
        let public =
            wrong.read("CDR_LISTEN", "write address and port such as 0.0.0.0:8080", address(&self.listen));
        let how = "write address and port such as 127.0.0.1:9090";
        let ops = wrong.read("CDR_OPS_LISTEN", how, address(&self.ops_listen));
        let (public, ops): (SocketAddr, SocketAddr) = public.zip(ops)?;
        if public == ops && ops.port() != 0 {
            wrong.push("CDR_OPS_LISTEN: the ops port must not be the public one (CDR_LISTEN): give it a port of its own");
        }
        Some((public, ops))
    }

    fn policy(&self, wrong: &mut Mistakes) -> Option<SignaturePolicy> {
        match self.signatures.as_str() {
            "required" => Some(SignaturePolicy::Required),
            "optional" => Some(SignaturePolicy::Optional),
            "off" => Some(SignaturePolicy::Off),
            other => {
                wrong
                    .push(format!("CDR_SIGNATURES: {other:?} is no policy; write required, optional or off"));
                None
            }
        }
    }

    fn callback_urls(&self, wrong: &mut Mistakes) -> Vec<String> {
        let urls = self
            .callback_url
            .iter()
            .flat_map(|urls| urls.split(','))
            .map(str::trim)
            .filter(|url| !url.is_empty());
        let urls: Vec<String> = urls.map(str::to_owned).collect();
        for url in &urls {
            let parsed = Url::parse(url);
            if !parsed.is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
                wrong.push(format!(
                    "CDR_CALLBACK_URL: {url:?} is no http(s) URL; write it exactly as it is configured at Vobiz"
                ));
            }
        }
        urls
    }

    fn callback_secrets(&self, wrong: &mut Mistakes) -> Vec<SecretString> {
        let mut secrets = Vec::new();
        for (name, value) in [
            ("CDR_CALLBACK_SECRET", &self.callback_secret),
            ("CDR_CALLBACK_SECRET_PREVIOUS", &self.callback_secret_previous),
        ] {
            let Some(secret) = secret(wrong, name, value.as_ref()) else { continue };
            check_path_secret(wrong, name, &secret);
            secrets.push(secret);
        }
        secrets
    }
}

/// The database alone, for commands that need nothing else.
impl DatabaseArgs {
    fn checked(&self, wrong: &mut Mistakes) -> Option<SecretString> {
        let url = secret(wrong, "DATABASE_URL", self.database_url.as_ref())?;
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose_secret().starts_with(scheme)) {
            wrong.push("DATABASE_URL: write postgres://user:password@host/database");
        } else if hosts(url.expose_secret()) > 1 {
            wrong.push(
                "DATABASE_URL: one host, not several: put a name or an address before them that follows the primary (a proxy, a virtual \
                 address, the endpoint of the provider)",
            );
        }
        Some(url)
    }

    /// The database in words, without a password: whose report it is.
    pub fn place(&self) -> Result<String, Mistakes> {
        Ok(match self.url()? {
            Some(url) => shown::without_password(url.expose_secret()),
            None => format!("our own Postgres in {}", self.own().data_dir.display()),
        })
    }

    /// How a Postgres of our own is started, where there is no URL.
    pub fn own(&self) -> postgres::PostgresOptions {
        postgres::PostgresOptions {
            data_dir: self.data_dir.clone().unwrap_or_else(postgres::default_data_dir),
            bin_dir: self.pg_bin_dir.clone(),
            settings: Vec::new(),
        }
    }

    /// The URL, from its flag, its variable or its file.
    pub fn url(&self) -> Result<Option<SecretString>, Mistakes> {
        let mut wrong = Mistakes::default();
        let url = self.checked(&mut wrong);
        if wrong.is_empty() { Ok(url) } else { Err(wrong) }
    }
}

/// How many hosts a URL names (libpq takes several, separated by commas).
fn hosts(url: &str) -> usize {
    let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
    let authority = behind.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let by_parameter = url.split(['?', '&']).find_map(|pair| pair.strip_prefix("host=")).unwrap_or_default();
    host.split(',').count().max(by_parameter.split(',').count())
}

/// Reads an address and port to listen on; a name such as localhost stands for its first address.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    use std::net::ToSocketAddrs;
    let mut addresses = text.trim().to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "this name has no address".to_owned())
}

/// Variables of our prefixes that no setting reads: most likely a slip of the pen. Of those that end in `_FILE` only secrets
/// are read.
pub fn unknown_variables(command: &clap::Command) -> Vec<String> {
    fn collect(command: &clap::Command, known: &mut BTreeSet<String>) {
        for argument in command.get_arguments() {
            let Some(name) = argument.get_env().map(|name| name.to_string_lossy().into_owned()) else {
                continue;
            };
            if argument.is_hide_env_values_set() {
                known.insert(format!("{name}_FILE"));
            }
            known.insert(name);
        }
        command.get_subcommands().for_each(|subcommand| collect(subcommand, known));
    }
    let mut known = BTreeSet::new();
    collect(command, &mut known);
    let ours = |name: &str| name.starts_with("CDR_") || name.starts_with("VOBIZ_");
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| ours(name) && !known.contains(name))
        .collect()
}
