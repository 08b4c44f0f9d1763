//! A dump becomes a database: restored under another name, and renamed into place when it is complete. Promises that a
//! restore which failed or was killed leaves nothing behind, and that data which is there is never replaced.
//!
//! `<data_dir>/restore.unfinished` names the databases that are to go when we did not come to the end; the next start of
//! the server drops them at its next start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::client::{Tools, quoted};
use super::error::TaskError;
use super::socket::Socket;
use super::{Postgres, PostgresOptions, folder};

/// Always there, and never the one that is restored.
const ADMIN: &str = "postgres";
/// Part of the names of databases that may be dropped; see [`may_go`].
const RESTORING: &str = "_restoring_";
const REPLACED: &str = "_replaced_";
/// Building indexes and checking constraints in one go.
const SETTINGS: [(&str, &str); 2] = [("maintenance_work_mem", "256MB"), ("max_wal_size", "4GB")];

/// What is to be restored, and where it may go.
#[derive(Debug, Clone)]
pub struct Restore<'a> {
    /// The database that the dump becomes.
    pub database: &'a str,
    /// `schema.table` that the dump must hold, so that it is a dump of ours at all.
    pub must_hold: &'a str,
    /// Tables, `schema.table`, whose rows do not make the target one that holds data.
    pub replaceable: &'a [&'a str],
}

/// What a restore came to.
#[derive(Debug)]
pub struct Restored {
    /// The version of the server it was restored into.
    pub major: u32,
    /// Tables with rows, and how many, in words for a person; largest first.
    pub tables: Vec<(String, u64)>,
}

impl Restore<'_> {
    /// Restores a dump in custom format, owners and privileges left out: the roles of another server are not here.
    pub async fn from(&self, options: &PostgresOptions, file: &Path) -> Result<Restored, TaskError> {
        // Before anything is started or made.
        let data_dir = &options.data_dir;
        let cluster = if data_dir.is_dir() { folder::newest_cluster(data_dir)? } else { None };
        let tools = Tools::find(options, cluster.as_ref()).await?;
        self.check_dump(&tools, file).await?;

        let mut options = options.clone();
        options.settings.extend(SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let own = Postgres::start(options).await?;
        let restored = self.on(&own, file).await;
        let stopped = own.stop().await;
        let restored = restored?;
        stopped?;
        Ok(restored)
    }

    /// Whether the file is a dump that these programs read, with the table in it.
    async fn check_dump(&self, tools: &Tools, file: &Path) -> Result<(), TaskError> {
        let not_a_dump = |why: String| TaskError::NotADump {
            file: file.to_owned(),
            why,
            major: tools.programs.major,
            bin_dir: tools.programs.bin_dir.clone(),
        };
        let input = open(file)?;
        if input.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(not_a_dump("it is a folder".to_owned()));
        }
        let mut command = tools.command("pg_restore");
        command.arg("--list").stdin(input);
        let list = match tools.run("pg_restore", command).await {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(TaskError::Client { lines, .. }) => return Err(not_a_dump(lines)),
            Err(error) => return Err(error),
        };
        let table = self.must_hold.replace('.', " ");
        for entry in [format!(" TABLE {table} "), format!(" TABLE DATA {table} ")] {
            if !list.contains(&entry) {
                return Err(not_a_dump(format!("it has no{entry}in it")));
            }
        }
        Ok(())
    }

    async fn on(&self, own: &Postgres, file: &Path) -> Result<Restored, TaskError> {
        let (tools, admin) = (&own.tools, own.url(ADMIN));
        let there = exists(tools, &admin, self.database).await?;
        if there {
            self.refuse_data(own).await?;
        }
        let attempt = format!("{:08x}", rand::random::<u32>());
        let new = format!("{}{RESTORING}{attempt}", self.database);
        let replaced = format!("{}{REPLACED}{attempt}", self.database);
        let note = Note::write(tools, own.data_dir(), &[&new, &replaced])?;
        let outcome = async {
            let create = format!("create database {} encoding 'UTF8' template template0;", quoted(&new));
            tools.ask(&admin, &create).await?;
            let mut command = tools.command("pg_restore");
            command.args(["--no-owner", "--no-privileges", "--exit-on-error", "--no-password", "--dbname"]);
            command.arg(own.url(&new)).stdin(open(file)?);
            tools.run("pg_restore", command).await?;
            tools.ask(&own.url(&new), "analyze;").await?;
            let tables = count_rows(tools, &own.url(&new)).await?;
            // Both names change in one transaction: at no instant is there none, or a half one.
            let rename =
                |from: &str, to: &str| format!("alter database {} rename to {};", quoted(from), quoted(to));
            let away = if there { rename(self.database, &replaced) } else { String::new() };
            let swap = format!("begin; {away} {} commit;", rename(&new, self.database));
            tools.ask(&admin, &swap).await?;
            Ok::<_, TaskError>(tables)
        }
        .await;
        // What was replaced held nothing; after a failure it is still under its own name.
        let cleared = match drop_databases(tools, &admin, [new, replaced].iter().map(String::as_str)).await {
            Ok(()) => note.remove(),
            Err(error) => Err(error),
        };
        let mut tables: Vec<(String, u64)> = outcome?;
        cleared?;
        tables.retain(|(_, rows)| *rows > 0);
        tables.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(Restored { major: own.major(), tables })
    }

    /// Every table with rows counts, except the few that a first start fills.
    async fn refuse_data(&self, own: &Postgres) -> Result<(), TaskError> {
        let counts = count_rows(&own.tools, &own.url(self.database)).await?;
        let data: Vec<String> = counts
            .into_iter()
            .filter(|(table, rows)| *rows > 0 && !self.replaceable.contains(&table.as_str()))
            .map(|(table, rows)| format!("{table}: {rows} rows"))
            .collect();
        if data.is_empty() {
            return Ok(());
        }
        Err(TaskError::HoldsData { data_dir: own.data_dir().to_owned(), tables: data.join(", ") })
    }
}

/// Drops what a restore that was killed has left, as its note says. Called with every start of the server.
pub(super) async fn clear_unfinished(tools: &Tools, socket: &Socket, data_dir: &Path) {
    let path = Note::path(data_dir);
    let names = match fs::read_to_string(&path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "what an unfinished restore has left stays");
            return;
        }
    };
    let unfinished = names.lines().filter(|name| may_go(name));
    match drop_databases(tools, &socket.url(ADMIN), unfinished).await {
        Ok(()) => {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "the note of an unfinished restore stays");
            }
        }
        // It is in nobody's way but takes room; the next start tries again.
        Err(error) => tracing::warn!(%error, "what an unfinished restore has left could not be dropped"),
    }
}

/// The file is not to be trusted further than that.
fn may_go(name: &str) -> bool {
    name.contains(RESTORING) || name.contains(REPLACED)
}

async fn drop_databases<'n>(
    tools: &Tools,
    admin: &str,
    names: impl Iterator<Item = &'n str>,
) -> Result<(), TaskError> {
    // A statement each: dropping a database wants to be alone.
    let drops: Vec<String> =
        names.map(|name| format!("drop database if exists {} with (force);\n", quoted(name))).collect();
    tools.ask(admin, &format!("set client_min_messages = error;\n{}", drops.concat())).await.map(drop)
}

async fn exists(tools: &Tools, admin: &str, database: &str) -> Result<bool, TaskError> {
    let names = tools.ask(admin, "select datname from pg_catalog.pg_database;").await?;
    Ok(names.iter().any(|name| name == database))
}

/// The rows of every table of a database that is not Postgres's own; those of a partition count for its table too.
pub(super) async fn count_rows(tools: &Tools, url: &str) -> Result<Vec<(String, u64)>, TaskError> {
    let script = r"
        select format('select %L, count(*) from %I.%I', n.nspname || '.' || c.relname, n.nspname, c.relname)
          from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
           and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
         order by n.nspname, c.relname
        \gexec
    ";
    let lines = tools.ask(url, script).await?;
    let counts = lines.iter().filter_map(|line| {
        let (table, rows) = line.rsplit_once('\t')?;
        Some((table.to_owned(), rows.parse().ok()?))
    });
    Ok(counts.collect())
}

fn open(file: &Path) -> Result<File, TaskError> {
    File::open(file).map_err(TaskError::file("open", file))
}

/// The file that says what is to go.
struct Note(PathBuf);

impl Note {
    fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("restore.unfinished")
    }

    /// On the disk before the first of the databases is.
    fn write(tools: &Tools, data_dir: &Path, names: &[&str]) -> Result<Note, TaskError> {
        let path = Note::path(data_dir);
        let write = || {
            let mut file = folder::open_own(&path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
            tools.account.own(&path)?;
            file.write_all(names.join("\n").as_bytes())?;
            file.sync_all()
        };
        write().map_err(TaskError::file("write", &path))?;
        folder::sync(data_dir)?;
        Ok(Note(path))
    }

    fn remove(self) -> Result<(), TaskError> {
        fs::remove_file(&self.0).map_err(TaskError::file("remove", &self.0))
    }
}
