//! The data moves to a newer version of Postgres, by dump and restore through the newer programs. Promises that at every
//! instant exactly one complete cluster is in force, however the move ends:
//!
//! ```text
//! pgdata-15                                the old one, read only while it is copied
//! pgdata-15  pgdata-18.new-0badcafe        the copy; not taken for a cluster, and swept by the next start
//! pgdata-15  pgdata-18                     after one rename: complete, compared, on the disk. The newer version wins.
//! pgdata-15.old  pgdata-18                 put aside; not taken for a cluster, and never removed by us
//! ```
//!
//! The other order of the two renames would have a moment without any cluster, in which a start makes an empty one.

use std::fs;
use std::path::{Path, PathBuf};

use super::client::{Tools, existing, quoted};
use super::error::{StartError, TaskError, in_words};
use super::folder::{Cluster, Log};
use super::programs::{self, Programs};
use super::restore::count_rows;
use super::server::Server;
use super::settings;
use super::socket::Socket;
use super::{OLDEST_MAJOR, Postgres, PostgresOptions, cluster, folder};

/// The database that every cluster has, and in which no user data is expected.
const ADMIN: &str = "postgres";
/// Nobody writes into what is being copied, not even a psql beside us.
const OF_THE_OLD: [(&str, &str); 1] = [("default_transaction_read_only", "on")];
/// Filled in one go and looked at by nobody. `fsync` stays on: a stop in good order is then all it takes to have
/// everything on the disk.
const WHILE_FILLING: [(&str, &str); 5] = [
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_wal_size", "4GB"),
    ("maintenance_work_mem", "256MB"),
    ("autovacuum", "off"),
];
/// The owner's settings are tried, but nothing is sent anywhere before the cluster is in force.
const ON_TRIAL: [(&str, &str); 2] = [("archive_mode", "off"), ("autovacuum", "off")];

/// What an upgrade came to.
#[derive(Debug)]
pub struct Upgraded {
    /// The version before.
    pub from: u32,
    /// The version now in force.
    pub to: u32,
    /// The programs that it needs from now on.
    pub bin_dir: PathBuf,
    /// They are not what is found without being told: `PG_BIN_DIR` has to name them.
    pub name_bin_dir: bool,
    /// How many tables were compared, in all databases.
    pub tables: usize,
    /// How many rows they have.
    pub rows: u64,
    /// Where the old cluster is now.
    pub kept: PathBuf,
    /// Its size.
    pub kept_bytes: u64,
    /// What did not move as it was, and what to do about it.
    pub notes: Vec<String>,
}

/// Moves the cluster in the data folder to the programs in `to_bin_dir`, or else to the newest found on the machine.
pub async fn upgrade(options: &PostgresOptions, to_bin_dir: Option<&Path>) -> Result<Upgraded, TaskError> {
    let found = existing(&options.data_dir)?;
    let account = super::account::SystemUser::choose(Some(&found.path)).await?;
    let mut candidates: Vec<PathBuf> = options.bin_dir.iter().cloned().collect();
    candidates.extend(programs::here());
    candidates.extend(to_bin_dir.map(Path::to_owned));
    let from = programs::find(&account, &candidates, Some(&found)).await?;
    let to = match to_bin_dir {
        // One that is not right is an error, not a hint.
        Some(bin_dir) => vec![programs::find_in(&account, bin_dir, None).await?],
        None => programs::all(&account, &candidates).await,
    };
    let to = newest(&to, &found)?;
    let new_tools = Tools { account, programs: to };

    let settings = OF_THE_OLD.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let old = PostgresOptions { data_dir: options.data_dir.clone(), bin_dir: Some(from.bin_dir), settings };
    let name_bin_dir = match &options.bin_dir {
        Some(bin_dir) => *bin_dir != new_tools.programs.bin_dir,
        None => !found_unnamed(&new_tools).await,
    };
    // From here on the folder is ours.
    let old = Postgres::start(old).await?;
    let copied = copy(&old, &new_tools).await;
    let (cluster, data_dir) = (old.cluster.clone(), old.data_dir.clone());
    let lock = match (copied.as_ref().err(), old.stop_holding().await) {
        (_, Ok(lock)) => lock,
        (None, Err(error)) => return Err(error.into()),
        (Some(_), Err(error)) => {
            tracing::warn!(%error, "the old server");
            return Err(copied.err().unwrap_or(error.into()));
        }
    };
    let copy = copied?;

    // Nothing is awaited from here on: being told to stop finds us before this, or after.
    cluster::finish(&copy.cluster, &data_dir)?;
    let mut notes = copy.notes;
    let kept = put_aside(&cluster, &data_dir).unwrap_or_else(|error| {
        notes.push(format!("{error}. It is in nobody's way there: the newer one is in force"));
        cluster.path.clone()
    });
    drop(lock);
    let kept_bytes = folder::size(&kept);
    Ok(Upgraded {
        from: cluster.major,
        to: copy.cluster.major,
        name_bin_dir,
        bin_dir: new_tools.programs.bin_dir,
        tables: copy.tables,
        rows: copy.rows,
        kept,
        kept_bytes,
        notes,
    })
}

/// The newest of the programs, if it is newer than the data.
fn newest(found: &[Programs], cluster: &Cluster) -> Result<Programs, TaskError> {
    // Of the same version the first counts: it is the better place.
    let newest = found.iter().rev().max_by_key(|programs| programs.major);
    match newest.filter(|newest| newest.major > cluster.major && newest.major >= OLDEST_MAJOR) {
        Some(newest) => Ok(newest.clone()),
        None => Err(TaskError::NothingNewer {
            data: cluster.path.clone(),
            major: cluster.major,
            found: in_words(found),
        }),
    }
}

/// Whether a start that is told nothing finds programs of this version.
async fn found_unnamed(tools: &Tools) -> bool {
    let found = programs::all(&tools.account, &programs::here()).await;
    found.iter().any(|programs| programs.major == tools.programs.major)
}

/// Renames the old cluster to a name that is not taken for one.
fn put_aside(cluster: &Cluster, data_dir: &Path) -> Result<PathBuf, StartError> {
    let mut aside = data_dir.join(format!("pgdata-{}.old", cluster.major));
    let mut number = 2;
    while aside.symlink_metadata().is_ok() {
        aside = data_dir.join(format!("pgdata-{}.old-{number}", cluster.major));
        number += 1;
    }
    fs::rename(&cluster.path, &aside).map_err(StartError::file("rename", &cluster.path))?;
    folder::sync(data_dir)?;
    Ok(aside)
}

/// A complete copy, compared and on the disk, which has not got its name yet.
struct Copied {
    cluster: Cluster,
    tables: usize,
    rows: u64,
    notes: Vec<String>,
}

async fn copy(old: &Postgres, new: &Tools) -> Result<Copied, TaskError> {
    let databases = databases(old, new).await?;
    refuse_what_does_not_move(old, new).await?;
    let cluster = cluster::make_unfinished(&new.account, &new.programs, &old.data_dir).await?;
    let copied = fill(old, new, &cluster, &databases).await;
    if copied.is_err() {
        // What stays is swept by the next start.
        let _ = fs::remove_dir_all(&cluster.path);
    }
    copied
}

async fn databases(old: &Postgres, new: &Tools) -> Result<Vec<String>, TaskError> {
    let script = "select datname from pg_catalog.pg_database where datallowconn order by datname;";
    new.ask(&old.url(ADMIN), script).await
}

async fn refuse_what_does_not_move(old: &Postgres, new: &Tools) -> Result<(), TaskError> {
    let url = old.url(ADMIN);
    let script =
        "select spcname from pg_catalog.pg_tablespace where spcname not in ('pg_default', 'pg_global');";
    let names = new.ask(&url, script).await?;
    if !names.is_empty() {
        return Err(TaskError::Tablespaces { names: names.join(", ") });
    }
    let script = "select sum(pg_database_size(oid)) from pg_catalog.pg_database;";
    let needed: u64 = new.ask(&url, script).await?.first().and_then(|sum| sum.parse().ok()).unwrap_or(0);
    let data_dir = &old.data_dir;
    let stat =
        rustix::fs::statvfs(data_dir).map_err(|error| TaskError::file("look at", data_dir)(error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed {
        let (needed_mb, free_mb) = (needed >> 20, free >> 20);
        return Err(TaskError::NoRoom { data_dir: data_dir.clone(), needed_mb, free_mb });
    }
    Ok(())
}

/// Copies everything, stops, starts again as any start would, compares, and stops.
async fn fill(
    old: &Postgres,
    new: &Tools,
    cluster: &Cluster,
    databases: &[String],
) -> Result<Copied, TaskError> {
    let running = Running::start(new, cluster, &old.data_dir, &WHILE_FILLING).await?;
    let filled = async {
        copy_roles(old, new, &running.socket).await?;
        for database in databases {
            copy_database(old, new, &running.socket, database).await?;
            new.ask(&running.socket.url(database), "analyze;").await?;
            tracing::info!(database, "copied");
        }
        let urls = (old.url(ADMIN), running.socket.url(ADMIN));
        settings::compare((new, &urls.0), (new, &urls.1), cluster.major).await
    }
    .await;
    let carried = running.stop_after(filled).await?;
    carried.write(new, &old.cluster, cluster).await?;

    let running = Running::start(new, cluster, &old.data_dir, &ON_TRIAL).await?;
    let compared = compare(old, new, &running.socket, databases).await;
    let (tables, rows) = running.stop_after(compared).await?;
    folder::sync(&cluster.path)?;
    Ok(Copied { cluster: cluster.clone(), tables, rows, notes: carried.notes })
}

/// Roles, their passwords and their settings.
async fn copy_roles(old: &Postgres, new: &Tools, socket: &Socket) -> Result<(), TaskError> {
    let mut command = new.command("pg_dumpall");
    command.args(["--globals-only", "--no-password", "--dbname", &old.url(ADMIN)]);
    let output = new.run("pg_dumpall", command).await?;
    let script = String::from_utf8_lossy(&output.stdout);
    // That one is there from the start.
    let script: Vec<&str> = script.lines().filter(|line| *line != "CREATE ROLE postgres;").collect();
    new.ask(&socket.url(ADMIN), &script.join("\n")).await.map(drop)
}

/// One database, from one server into the other, through no file.
async fn copy_database(old: &Postgres, new: &Tools, socket: &Socket, name: &str) -> Result<(), TaskError> {
    let (reader, writer) = std::io::pipe().map_err(|error| new.not_run("pg_dump", error))?;
    let mut dump = new.command("pg_dump");
    // Compressed for nobody, it would only cost time.
    dump.args(["--format=custom", "--compress=0", "--no-password", "--dbname", &old.url(name)]);
    dump.stdout(writer);
    let mut restore = new.command("pg_restore");
    restore.args(["--exit-on-error", "--no-password", "--dbname"]);
    if matches!(name, "postgres" | "template1") {
        restore.arg(socket.url(name));
    } else {
        // With its encoding, its settings and who may connect.
        restore.arg(socket.url(ADMIN)).arg("--create");
    }
    restore.stdin(reader);
    let (dumped, restored) = tokio::join!(new.run("pg_dump", dump), new.run("pg_restore", restore));
    match (dumped, restored) {
        (Ok(_), Ok(_)) => Ok(()),
        // The one that fails first breaks the other's pipe; both are worth reading.
        (
            Err(TaskError::Client { status, lines, .. }),
            Err(TaskError::Client { lines: also, name: program, .. }),
        ) => Err(TaskError::Client { name: program, status, lines: format!("{also} | pg_dump: {lines}") }),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

/// The rows of every table, on both sides. Gives how many tables and rows were compared.
async fn compare(
    old: &Postgres,
    new: &Tools,
    socket: &Socket,
    databases: &[String],
) -> Result<(usize, u64), TaskError> {
    let (mut tables, mut rows) = (0, 0);
    let mut differences = Vec::new();
    let there = new.ask(&socket.url(ADMIN), "select datname from pg_catalog.pg_database;").await?;
    for database in databases {
        if !there.contains(database) {
            differences.push(format!("database {} is missing", quoted(database)));
            continue;
        }
        let before = count_rows(new, &old.url(database)).await?;
        let after = count_rows(new, &socket.url(database)).await?;
        tables += before.len();
        rows += before.iter().map(|(_, rows)| rows).sum::<u64>();
        for count in before.iter().filter(|count| !after.contains(count)) {
            differences.push(format!("{database}: {} should have {} rows", count.0, count.1));
        }
        for count in after.iter().filter(|count| !before.iter().any(|before| before.0 == count.0)) {
            differences.push(format!("{database}: {} is new", count.0));
        }
    }
    if differences.is_empty() {
        return Ok((tables, rows));
    }
    Err(TaskError::Differs { differences: differences.join(", ") })
}

/// The server of the copy, beside the old one. It has a socket of its own, in a short-lived folder.
struct Running {
    server: Server,
    socket: Socket,
}

impl Running {
    async fn start(
        tools: &Tools,
        cluster: &Cluster,
        data_dir: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Running, TaskError> {
        let socket = Socket::prepare_short(&tools.account)?;
        let settings: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let log = Log::open(data_dir)?;
        match Server::start(&tools.account, &tools.programs, cluster, &socket, &settings, log).await {
            Ok(server) => Ok(Running { server, socket }),
            Err(error) => {
                socket.clear();
                Err(error.into())
            }
        }
    }

    /// Stops it. The outcome of the work on it comes first; a copy that did not stop in good order is none.
    async fn stop_after<T>(self, outcome: Result<T, TaskError>) -> Result<T, TaskError> {
        let stopped = self.server.stop().await;
        self.socket.clear();
        let outcome = outcome?;
        stopped?;
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(major: u32, bin_dir: &str) -> Programs {
        Programs { bin_dir: PathBuf::from(bin_dir), major }
    }

    #[test]
    fn the_newest_is_taken_and_nothing_else_than_a_newer_one() {
        let cluster = Cluster { path: PathBuf::from("/data/pgdata-15"), major: 15 };
        let found = [programs(16, "/a"), programs(18, "/b"), programs(18, "/c"), programs(15, "/d")];
        assert_eq!(newest(&found, &cluster).unwrap(), programs(18, "/b"));
        for found in [&[][..], &[programs(15, "/d")], &[programs(14, "/e")]] {
            let message = newest(found, &cluster).unwrap_err().to_string();
            assert!(
                message.contains("nothing newer is here") && message.contains("--to-bin-dir"),
                "{message}"
            );
            assert!(message.contains("postgresql-16"), "{message}");
        }
    }

    #[test]
    fn what_is_put_aside_is_no_cluster_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgdata-15");
        for expected in ["pgdata-15.old", "pgdata-15.old-2", "pgdata-15.old-3"] {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("PG_VERSION"), "15\n").unwrap();
            let cluster = folder::newest_cluster(dir.path()).unwrap().unwrap();
            assert_eq!(put_aside(&cluster, dir.path()).unwrap(), dir.path().join(expected));
            assert_eq!(folder::newest_cluster(dir.path()).unwrap(), None);
        }
    }
}
