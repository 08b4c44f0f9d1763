//! Processes: the built service, roles of this very program, the peers. Each says one line when it is ready, takes orders
//! line by line, and is killed when it goes out of scope.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A process that talks by lines.
pub(crate) struct Talking {
    child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Talking {
    /// A role of this program.
    pub(crate) async fn role(arguments: &[&str]) -> anyhow::Result<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("role").args(arguments);
        Self::start(command).await
    }

    /// Any program that says `ready`, with or without further words; returns them.
    pub(crate) async fn start(mut command: Command) -> anyhow::Result<(Self, String)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let orders = child.stdin.take().context("its standard input")?;
        let words = BufReader::new(child.stdout.take().context("its standard output")?).lines();
        let mut talking = Self { child, orders, words };
        let ready = talking.listen(Duration::from_secs(300)).await?;
        let Some(rest) = ready.strip_prefix("ready") else { bail!("it said {ready:?} instead of ready") };
        Ok((talking, rest.trim().to_owned()))
    }

    /// Gives an order and waits for the one line that answers it.
    pub(crate) async fn order(&mut self, order: &str) -> anyhow::Result<String> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await?;
        self.listen(Duration::from_secs(4 * 3600)).await
    }

    async fn listen(&mut self, limit: Duration) -> anyhow::Result<String> {
        let line = timeout(limit, self.words.next_line()).await.context("it says nothing")??;
        line.with_context(|| format!("it ended: {:?}", self.child.try_wait()))
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.orders);
        if timeout(Duration::from_secs(5), self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

/// The built service.
pub(crate) struct Serve {
    child: Child,
    /// Its public port.
    pub(crate) address: String,
    /// Its ops port.
    pub(crate) ops: String,
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

impl Serve {
    /// Starts `serve` and waits until it says that it can do its work. Its log goes into a file in `folder`.
    pub(crate) async fn start(
        folder: &Path,
        database_url: &str,
        api_url: &str,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let (address, ops) = (free_address()?, free_address()?);
        let log = folder.join(format!("serve-{}.log", ops.replace(':', "-")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_vobiz-cdr"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CDR_") || name.starts_with("VOBIZ_") {
                command.env_remove(&*name);
            }
        }
        command
            .arg("serve")
            .args(arguments)
            .env("DATABASE_URL", database_url)
            .env("VOBIZ_API_URL", api_url)
            .env("VOBIZ_ACCOUNT_PATH", "Account")
            .env("CDR_CALLBACK_URL", super::PUBLIC_URL)
            .env("CDR_LISTEN", &address)
            .env("CDR_OPS_LISTEN", &ops)
            .env("RUST_LOG", "info")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true);
        if settings.iter().all(|(name, _)| *name != "VOBIZ_ACCOUNTS_FILE") {
            command.env("VOBIZ_AUTH_ID", super::ACCOUNT).env("VOBIZ_AUTH_TOKEN", super::TOKEN);
        }
        let child = command.spawn()?;
        let mut serve = Self { child, address, ops };
        serve.wait_until_ready().await.with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(serve)
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        for _ in 0..400 {
            ensure!(self.child.try_wait()?.is_none(), "the service ended at its start");
            let answer = http.get(format!("http://{}/readyz", self.ops)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the service is not ready after 20 s")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Ends it at once.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}
