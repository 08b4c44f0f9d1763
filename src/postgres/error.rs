//! What can keep a Postgres of our own from starting or stopping. Every message ends with what to do about it, since
//! the one who reads it asked for a phone call's CDR, not for a lesson in running databases.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::programs::Programs;

/// Why no Postgres of our own is running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No server programs in any of the usual places.
    #[error("no Postgres server programs (postgres, initdb) on this machine; {}", remedies())]
    NoPrograms,
    /// `PG_BIN_DIR` was given, and is wrong. It is an error, not a hint: the operator who sets it wants that Postgres.
    #[error("PG_BIN_DIR is {}, but postgres and initdb are not in it; {}", .bin_dir.display(), remedies())]
    NoProgramsIn {
        /// The folder that was named.
        bin_dir: PathBuf,
    },
    /// Programs were found, and all of them are older than what our SQL needs.
    #[error(
        "Postgres {} is the oldest that will do, and this machine has {found}; {}",
        super::OLDEST_MAJOR,
        remedies()
    )]
    TooOld {
        /// What was found, in words.
        found: String,
    },
    /// There is data, and nothing here that can open it.
    #[error(
        "the data in {} belongs to Postgres {major}, and this machine has {found}. Nothing was created or changed. \
         Install Postgres {major} (apt-get install postgresql-{major}, dnf install postgresql{major}-server, \
         brew install postgresql@{major}) or point PG_BIN_DIR at its programs; with those of both versions here, \
         `vobiz-cdr postgres upgrade` moves the data to the newer one (Postgres {} or later), as does a dump and \
         restore", .data.display(), super::OLDEST_MAJOR
    )]
    OtherMajor {
        /// The folder that holds the data.
        data: PathBuf,
        /// The version that wrote it.
        major: u32,
        /// What is installed instead, in words.
        found: String,
    },
    /// Another of us has the folder.
    #[error(
        "the Postgres in {} belongs to another running vobiz-cdr{}; stop that one first, or give this one a folder of \
         its own with CDR_DATA_DIR",
        .data_dir.display(), .holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Held {
        /// The folder both want.
        data_dir: PathBuf,
        /// The process that has it, as it wrote down itself.
        holder: Option<u32>,
    },
    /// We are root, the server may not be, and its account cannot get to its files.
    #[error(
        "the Postgres server runs as user {user}, not as root, and that user cannot get to {} because {} bars the way; \
         chmod o+x {}, or choose a folder elsewhere with CDR_DATA_DIR (PG_BIN_DIR for the programs)",
        .target.display(), .folder.display(), .folder.display()
    )]
    Barred {
        /// The account the server runs as.
        user: String,
        /// The folder that lets nobody through.
        folder: PathBuf,
        /// Where the account has to go.
        target: PathBuf,
    },
    /// Root, and nobody to become.
    #[error(
        "Postgres refuses to run as root, and there is no user `vobiz-cdr`, `postgres` or `nobody` to run it; \
             useradd --system vobiz-cdr, or start vobiz-cdr as an ordinary user"
    )]
    NoAccount,
    /// The data is another user's.
    #[error("{} belongs to the user with id {owner}; start vobiz-cdr as that user, or choose another folder with \
             CDR_DATA_DIR", .folder.display())]
    Owner {
        /// The data folder.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Another user could put other data there.
    #[error("{} is no safe place for data: {why}; or choose another folder with CDR_DATA_DIR", .folder.display())]
    Untrusted {
        /// The data folder.
        folder: PathBuf,
        /// What is wrong about it.
        why: String,
    },
    /// A folder where the data should be, which Postgres did not write.
    #[error("{} is there but is not the data of a Postgres ({why}); move it away", .folder.display())]
    NotACluster {
        /// The folder.
        folder: PathBuf,
        /// What gave it away.
        why: String,
    },
    /// Leftovers of an earlier server are still at work in the folder.
    #[error("{} is still in use by {processes}; stop them (or leave that folder) and start again", .folder.display())]
    Occupied {
        /// The data folder.
        folder: PathBuf,
        /// Who is there, in words.
        processes: String,
    },
    /// The cluster could not be made.
    #[error("initdb could not make a database in {}: {lines}", .folder.display())]
    Initdb {
        /// The folder it was making.
        folder: PathBuf,
        /// What it said last.
        lines: String,
    },
    /// The server went away before it was ready.
    #[error("the Postgres server stopped while starting ({status}); the end of {}: {lines}", .log.display())]
    Exited {
        /// How it left.
        status: ExitStatus,
        /// Where the whole log is.
        log: PathBuf,
        /// What it said last.
        lines: String,
    },
    /// The server is at work, but not ready in the time we give it.
    #[error(
        "the Postgres server was not ready after {seconds} s and was stopped; the end of {}: {lines}",
        .log.display()
    )]
    NotReady {
        /// How long we waited.
        seconds: u64,
        /// Where the whole log is.
        log: PathBuf,
        /// What it said last.
        lines: String,
    },
    /// A program could not be run, or said nothing we understand.
    #[error("could not run {}: {source}", .program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or folder of ours could not be made, read or removed.
    #[error("could not {doing} {}: {source}", .path.display())]
    File {
        /// What we were at.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Why we cannot say that the server has stopped as it should. What was committed is safe in every case.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// It was gone already, or did not leave in good order; it will recover from its log at the next start.
    #[error(
        "the Postgres server did not stop in good order ({status}); it recovers at the next start; see {}",
        .log.display()
    )]
    Unclean {
        /// How it left.
        status: ExitStatus,
        /// Where it may have said why.
        log: PathBuf,
    },
    /// It stays, whatever we say.
    #[error("the Postgres server (process {pid}) does not stop; see {}", .log.display())]
    Stuck {
        /// The server's process.
        pid: u32,
        /// Where it may have said why.
        log: PathBuf,
    },
    /// Waiting for it failed.
    #[error("could not wait for the Postgres server: {0}")]
    Wait(#[from] io::Error),
}

/// Why a dump, a restore or an upgrade did not come to its end. What was there before is unchanged, unless a message
/// says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The server could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server did not stop in good order.
    #[error(transparent)]
    Stop(#[from] StopError),
    /// No data, so most likely another folder is meant.
    #[error(
        "no database: DATABASE_URL and DATABASE_URL_FILE are not set here, and there is no Postgres of our own in {}. Set one of them as \
         the service has it (--env-file reads its settings), name the folder with CDR_DATA_DIR, or make a database with \
         `vobiz-cdr serve` or `vobiz-cdr migrate apply --own`",
        .data_dir.display()
    )]
    NothingThere {
        /// Where we looked.
        data_dir: PathBuf,
    },
    /// Server programs without the client programs.
    #[error(
        "{name} is neither in {} nor in PATH; install the client programs of Postgres {major} (apt-get install \
         postgresql-client-{major}, dnf install postgresql{major}), or point PG_BIN_DIR at a folder that has them too",
        .bin_dir.display()
    )]
    NoClient {
        /// The program.
        name: &'static str,
        /// The folder of the server programs.
        bin_dir: PathBuf,
        /// The version of the server.
        major: u32,
    },
    /// A client program said no.
    #[error("{name} failed ({status}): {lines}; nothing was changed, mend that and run it again")]
    Client {
        /// The program.
        name: &'static str,
        /// How it left.
        status: ExitStatus,
        /// What it said last.
        lines: String,
    },
    /// A dump never replaces a file by accident.
    #[error("{} exists; choose another name, or replace it with --force", .file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// Another dump is at work on the same file.
    #[error("{} is being written by another dump; wait for it, or choose another name", .partial.display())]
    BeingWritten {
        /// The unfinished file.
        partial: PathBuf,
    },
    /// A file that cannot be restored.
    #[error(
        "{} cannot be restored: {why}. It must be made by `vobiz-cdr postgres dump` or `pg_dump -Fc`, by a Postgres no \
         newer than {major} (the programs in {}; PG_BIN_DIR chooses newer ones)",
        .file.display(), .bin_dir.display()
    )]
    NotADump {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
        /// The version of our programs.
        major: u32,
        /// Where they are.
        bin_dir: PathBuf,
    },
    /// The target of a restore is in use already.
    #[error(
        "the database in {} holds data ({tables}), which a restore would replace; restore into another folder \
         (CDR_DATA_DIR), or move that one away first",
        .data_dir.display()
    )]
    HoldsData {
        /// The folder.
        data_dir: PathBuf,
        /// Tables with rows.
        tables: String,
    },
    /// Nothing to upgrade to.
    #[error(
        "the data in {} belongs to Postgres {major}, and nothing newer is here ({found}); install a newer Postgres beside \
         it (apt-get install postgresql-{}), or name the folder of its programs with --to-bin-dir",
        .data.display(), .major + 1
    )]
    NothingNewer {
        /// The cluster.
        data: PathBuf,
        /// Its version.
        major: u32,
        /// What was found, in words.
        found: String,
    },
    /// Files of the cluster lie outside of it.
    #[error(
        "the cluster has tablespaces ({names}), which this does not move; move their tables to pg_default (alter table … \
         set tablespace pg_default), drop the tablespaces, and run it again"
    )]
    Tablespaces {
        /// Their names.
        names: String,
    },
    /// Old and new stand beside each other for a while.
    #[error(
        "the data takes {needed_mb} MB, and {} has room for {free_mb} MB; make room for a second copy and run it again",
        .data_dir.display()
    )]
    NoRoom {
        /// The folder.
        data_dir: PathBuf,
        /// What the copy may need.
        needed_mb: u64,
        /// What is free.
        free_mb: u64,
    },
    /// The copy is not what it was copied from.
    #[error(
        "the copy differs from what it was made from ({differences}). The old database stays in force and nothing was \
         changed; please report this"
    )]
    Differs {
        /// Tables and their counts.
        differences: String,
    },
}

impl TaskError {
    /// For `map_err` beside a call to the file system.
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TaskError {
        let error = StartError::file(doing, path);
        move |source| TaskError::Start(error(source))
    }
}

impl StartError {
    /// For `map_err` beside a call to the file system.
    pub(super) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
        let path = path.to_owned();
        move |source| StartError::File { doing, path, source }
    }

    /// For `map_err` beside the start of a program.
    pub(super) fn program(program: &Path) -> impl FnOnce(io::Error) -> StartError {
        let program = program.to_owned();
        move |source| StartError::Program { program, source }
    }
}

/// The versions that were found, as part of a sentence.
pub(super) fn in_words(found: &[Programs]) -> String {
    if found.is_empty() {
        return "no Postgres server programs".to_owned();
    }
    let each: Vec<String> = found
        .iter()
        .map(|programs| format!("Postgres {} in {}", programs.major, programs.bin_dir.display()))
        .collect();
    each.join(", ")
}

fn remedies() -> &'static str {
    "install them (apt-get install postgresql, dnf install postgresql-server, brew install postgresql), set PG_BIN_DIR \
     to the folder that holds them, or set DATABASE_URL to a Postgres that runs already"
}
