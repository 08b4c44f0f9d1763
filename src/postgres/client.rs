//! The client programs (psql, pg_dump, pg_restore): which ones, how they are run, and which server they are for.
//!
//! What works for us runs as the server's account and without our environment. psql for a person is that person's own:
//! their account, their settings, their terminal.

use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::account::SystemUser;
use super::error::{StartError, StopError, TaskError};
use super::folder::{self, Cluster};
use super::programs::{self, Programs};
use super::socket::Socket;
use super::{Postgres, PostgresOptions, socket_of_running};

/// One of us that holds the folder has its server up by then, or has let go.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(10);

/// The programs of one version, and the account to run them as.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) account: SystemUser,
    pub(super) programs: Programs,
}

impl Tools {
    /// The tools for a cluster, or those a new one would be made with.
    pub(super) async fn find(
        options: &PostgresOptions,
        cluster: Option<&Cluster>,
    ) -> Result<Tools, StartError> {
        let account = SystemUser::choose(cluster.map(|cluster| cluster.path.as_path())).await?;
        let programs = match &options.bin_dir {
            Some(bin_dir) => programs::find_in(&account, bin_dir, cluster).await?,
            None => programs::find(&account, &programs::here(), cluster).await?,
        };
        Ok(Tools { account, programs })
    }

    /// A client program that works for us. It ends with us, or a moment later when its server does.
    pub(super) fn command(&self, name: &'static str) -> Command {
        let mut command = self.account.command(&self.programs.client(name));
        command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end; anything but success is an error with the last it said.
    pub(super) async fn run(&self, name: &'static str, mut command: Command) -> Result<Output, TaskError> {
        let child = command.spawn().map_err(|error| self.not_run(name, error))?;
        // It may hold one end of a pipe, of which the other side waits for the end.
        drop(command);
        let output = child.wait_with_output().await.map_err(|error| self.not_run(name, error))?;
        succeeded(name, output)
    }

    /// Runs statements with psql, and gives the lines of the answer; columns are separated by a tab.
    pub(super) async fn ask(&self, url: &str, script: &str) -> Result<Vec<String>, TaskError> {
        let mut command = self.command("psql");
        command.args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-F",
            "\t",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            "-",
            "--dbname",
            url,
        ]);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.not_run("psql", error))?;
        let stdin = child.stdin.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // One that stopped at an error does not read on; its status says so.
                let _ = stdin.write_all(script.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        let output = succeeded("psql", output.map_err(|error| self.not_run("psql", error))?)?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    pub(super) fn not_run(&self, name: &'static str, error: io::Error) -> TaskError {
        if error.kind() == io::ErrorKind::NotFound {
            let (bin_dir, major) = (self.programs.bin_dir.clone(), self.programs.major);
            return TaskError::NoClient { name, bin_dir, major };
        }
        StartError::program(&self.programs.client(name))(error).into()
    }
}

fn succeeded(name: &'static str, output: Output) -> Result<Output, TaskError> {
    if output.status.success() {
        return Ok(output);
    }
    let lines = folder::last_lines(&String::from_utf8_lossy(&output.stderr));
    Err(TaskError::Client { name, status: output.status, lines })
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The cluster in force in a folder, which is not made if it is not there.
pub(super) fn existing(data_dir: &Path) -> Result<Cluster, TaskError> {
    let nothing = || TaskError::NothingThere { data_dir: data_dir.to_owned() };
    if !data_dir.is_dir() {
        return Err(nothing());
    }
    folder::newest_cluster(data_dir)?.ok_or_else(nothing)
}

/// A server with data: the one that another of us is running on the folder, or one that was started for this purpose.
#[derive(Debug)]
pub struct OpenPostgres {
    socket: Socket,
    database: String,
    pub(super) tools: Tools,
    own: Option<Postgres>,
}

impl OpenPostgres {
    /// Finds the server, or starts it. A folder without data is an error: a mistyped name must not make a database.
    pub async fn open(options: &PostgresOptions, database: &str) -> Result<OpenPostgres, TaskError> {
        let asked = Instant::now();
        loop {
            let cluster = existing(&options.data_dir)?;
            let held = match Postgres::start(options.clone()).await {
                Ok(own) => {
                    let (socket, tools) = (own.socket.clone(), own.tools.clone());
                    return Ok(OpenPostgres { socket, database: database.to_owned(), tools, own: Some(own) });
                }
                Err(error @ StartError::Held { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            if let Some(socket) = socket_of_running(&options.data_dir) {
                let tools = Tools::find(options, Some(&cluster)).await?;
                return Ok(OpenPostgres { socket, database: database.to_owned(), tools, own: None });
            }
            if asked.elapsed() > HOLDER_TIMEOUT {
                return Err(held.into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The version of the server.
    pub fn major(&self) -> u32 {
        self.tools.programs.major
    }

    /// The address of the database that was asked for.
    pub fn url(&self) -> String {
        self.socket.url(&self.database)
    }

    /// psql on the database, for a person: their account, environment and terminal.
    pub fn psql(&self) -> Command {
        let mut command = Command::new(self.tools.programs.client("psql"));
        for (name, value) in self.socket.environment(&self.database) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// What it means that psql could not be started.
    pub fn psql_not_run(&self, error: io::Error) -> TaskError {
        self.tools.not_run("psql", error)
    }

    /// Lets go of the server, and stops it if it was started for this.
    pub async fn release(self) -> Result<(), StopError> {
        match self.own {
            Some(own) => own.stop().await,
            None => Ok(()),
        }
    }
}
