//! Room.
//! A Postgres of our own, when nobody gave us one: a server started as a child process, with the server programs found
//! on the machine. What is kept in it is not known here, nor who asks; this room imports nothing of ours.
//!
//! It promises that data once committed is never lost or passed by: fsync is on, a cluster has its name only once it is
//! complete, data of another version is refused and named, never shadowed by a fresh empty database. It promises one
//! server per folder, which does not outlive us, and a start after whatever has happened: kill -9 of the server, of us,
//! of both, stale pid files, zombies, an initdb that was cut short.
//!
//! [`Postgres::start`] tells it in order; each step has its file.

mod account;
mod client;
mod cluster;
mod dump;
mod error;
mod folder;
mod leftovers;
mod programs;
mod restore;
mod server;
mod settings;
mod socket;
mod upgrade;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Instant;

use account::SystemUser;
pub use client::OpenPostgres;
use client::Tools;
pub use dump::{Dumped, dump_to_file, dump_to_stdout};
pub use error::{StartError, StopError, TaskError};
pub use folder::default_data_dir;
use folder::{Cluster, Lock, Log};
use leftovers::PidFile;
pub use restore::{Restore, Restored};
use server::Server;
use socket::Socket;
pub use socket::shell_word;
pub use upgrade::{Upgraded, upgrade};

/// The oldest version our SQL runs on.
pub const OLDEST_MAJOR: u32 = 15;

/// How a Postgres of our own is to be started.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Where its data, its socket and its log are; made if absent.
    pub data_dir: PathBuf,
    /// The folder of the server programs (`PG_BIN_DIR`); they are looked for if it is not given.
    pub bin_dir: Option<PathBuf>,
    /// Further server settings, name and value; they win over ours, but not over where the server listens.
    pub settings: Vec<(String, String)>,
}

/// The address of a database in the Postgres that another of us is running on this folder, for a look at it from a
/// second process ([`StartError::Held`] says that there is one). Nothing is started, and nothing promises that it is
/// still there when one connects.
pub fn url_of_running(data_dir: &Path, database: &str) -> Option<String> {
    Some(socket_of_running(data_dir)?.url(database))
}

fn socket_of_running(data_dir: &Path) -> Option<Socket> {
    let cluster = folder::newest_cluster(data_dir).ok()??;
    let file = PidFile::read(&cluster.path).ok()??;
    Socket::of_running(&file)
}

/// The versions of Postgres whose server programs are on this machine, each with its folder, best place first.
pub async fn installed() -> Vec<(u32, PathBuf)> {
    let found = programs::all(&SystemUser::ours(), &programs::here()).await;
    found.into_iter().map(|programs| (programs.major, programs.bin_dir)).collect()
}

/// A running Postgres of our own. Dropping it stops the server soon after; [`Postgres::stop`] waits until it has.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    tools: Tools,
    cluster: Cluster,
    socket: Socket,
    data_dir: PathBuf,
    /// Last, so that it is let go of last.
    lock: Lock,
}

impl Postgres {
    /// Starts the server, and makes its database first where there is none.
    pub async fn start(options: PostgresOptions) -> Result<Postgres, StartError> {
        let begun = Instant::now();
        let data_dir = folder::prepare(&options.data_dir)?;
        let lock = folder::lock(&data_dir).await?;

        let existing = folder::newest_cluster(&data_dir)?;
        let account = SystemUser::choose(existing.as_ref().map(|cluster| cluster.path.as_path())).await?;
        account.check_way(&data_dir).await?;
        let programs = if let Some(bin_dir) = &options.bin_dir {
            programs::find_in(&account, bin_dir, existing.as_ref()).await?
        } else {
            programs::find(&account, &programs::here(), existing.as_ref()).await?
        };

        cluster::sweep_unfinished(&account, &data_dir).await?;
        let fresh = existing.is_none();
        let cluster = if let Some(cluster) = existing {
            account.own_all(&cluster.path).map_err(StartError::file("hand over", &cluster.path))?;
            leftovers::clear(&account, &cluster.path, &data_dir).await?;
            cluster
        } else {
            cluster::make(&account, &programs, &data_dir).await?
        };

        let socket = Socket::prepare(&account, &data_dir)?;
        let log = Log::open(&data_dir)?;
        // Root's own files here would shut out the owner who later starts us without being root.
        for file in [&lock.path, &log.0.path] {
            account.own(file).map_err(StartError::file("hand over", file))?;
        }
        let server = match Server::start(&account, &programs, &cluster, &socket, &options.settings, log).await
        {
            Ok(server) => server,
            Err(error) => {
                socket.clear();
                return Err(error);
            }
        };
        tracing::info!(
            major = programs.major,
            data = %cluster.path.display(),
            fresh,
            elapsed_ms = begun.elapsed().as_millis(),
            "a Postgres of our own is running"
        );
        let tools = Tools { account, programs };
        restore::clear_unfinished(&tools, &socket, &data_dir).await;
        Ok(Postgres { server, tools, cluster, socket, data_dir, lock })
    }

    /// The address of one of its databases, for sqlx and psql alike; `postgres` is always there.
    pub fn url(&self, database: &str) -> String {
        self.socket.url(database)
    }

    /// A line for the shell, to look for oneself.
    pub fn psql(&self, database: &str) -> String {
        let psql = self.tools.programs.psql();
        format!(
            "{} {}",
            socket::shell_word(&psql.display().to_string()),
            socket::shell_word(&self.url(database))
        )
    }

    /// Its version.
    pub fn major(&self) -> u32 {
        self.tools.programs.major
    }

    /// Where its programs are: `psql` and `pg_dump` of the same version are usually there too.
    pub fn bin_dir(&self) -> &Path {
        &self.tools.programs.bin_dir
    }

    /// The data folder, as a real path.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Waits until the server is gone by itself, which only a kill or a broken disk can bring about. It is safe to drop
    /// the future and ask again.
    pub async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.server.exited().await
    }

    /// Why it is gone, by its log: the last lines that say so, in one of ours.
    pub fn last_words(&self) -> String {
        folder::last_words(&self.data_dir)
    }

    /// Stops the server: connections are closed, what they had not committed is rolled back, and it is gone on return.
    pub async fn stop(self) -> Result<(), StopError> {
        self.stop_holding().await.map(drop)
    }

    /// Stops the server and keeps the folder to ourselves.
    async fn stop_holding(self) -> Result<Lock, StopError> {
        let stopped = self.server.stop().await;
        if !matches!(stopped, Err(StopError::Stuck { .. })) {
            self.socket.clear();
        }
        stopped.map(|()| self.lock)
    }
}
