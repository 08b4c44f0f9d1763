//! The data folder: where it is, who has it, and what is in it.
//!
//! ```text
//! <data_dir>/pgdata-15/      the cluster, named by the version that wrote it
//!            socket/         the unix socket; mode 0700, which is the whole of our access control
//!            postgres.log    what the server says; postgres.log.old when that grew large
//!            postgres.lock   locked for as long as one of us uses the folder
//! ```

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::error::StartError;

/// One of us that was told to stop lets go within this time; longer, and it is at home.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// A log larger than this is put aside at the next start; so the two together are bounded by what one run writes.
const LARGE_LOG: u64 = 8 * 1024 * 1024;
/// How much of the log goes into an error.
const LAST_LINES: usize = 12;

/// A folder with the data of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) path: PathBuf,
    pub(super) major: u32,
}

/// The data folder when nobody names one. Root's own home is closed to the account the server runs as, hence
/// `/var/lib`.
pub fn default_data_dir() -> PathBuf {
    default_for(
        rustix::process::geteuid().is_root(),
        std::env::var_os("XDG_DATA_HOME").map(PathBuf::from),
        std::env::home_dir(),
    )
}

fn default_for(root: bool, xdg_data_home: Option<PathBuf>, home: Option<PathBuf>) -> PathBuf {
    if root {
        return PathBuf::from("/var/lib/vobiz-cdr");
    }
    // The XDG standard has relative paths ignored.
    let share = xdg_data_home.filter(|path| path.is_absolute());
    let share = share.or_else(|| Some(home.filter(|path| path.is_absolute())?.join(".local/share")));
    share.unwrap_or_default().join("vobiz-cdr")
}

/// Makes the data folder if need be, and gives its real path. What is there already keeps its mode: it is the owner's.
pub(super) fn prepare(data_dir: &Path) -> Result<PathBuf, StartError> {
    // The server's account must get through, and has nothing to list there; an ordinary user shares with nobody.
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    let absolute = std::path::absolute(data_dir).map_err(StartError::file("find", data_dir))?;
    make_with_parents(&absolute, mode).map_err(StartError::file("make", data_dir))?;
    fs::canonicalize(&absolute).map_err(StartError::file("find", data_dir))
}

fn make_with_parents(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_with_parents(parent, 0o755)?;
    }
    make(path, mode)
}

/// Makes one folder with exactly this mode, whatever the umask; an existing one is an error.
pub(super) fn make(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The lock on a data folder. Dropping it, or our end in any other way, lets go.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
    /// The file, which is of no use to anybody without the lock on it.
    pub(super) path: PathBuf,
}

/// Takes the lock, waiting a moment for a process of ours that is just ending.
pub(super) async fn lock(data_dir: &Path) -> Result<Lock, StartError> {
    // Beside the cluster, not in it: initdb wants an empty folder.
    let path = data_dir.join("postgres.lock");
    let mut file = open_own(&path, OFlags::RDWR | OFlags::CREATE).map_err(|error| {
        let owner = data_dir.metadata().map(|metadata| metadata.uid());
        match owner {
            Ok(owner) if error.kind() == io::ErrorKind::PermissionDenied => {
                StartError::Owner { folder: data_dir.to_owned(), owner }
            }
            _ => StartError::file("open", &path)(error),
        }
    })?;
    let asked = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if asked.elapsed() < LOCK_TIMEOUT => {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: a holder that cannot be read is still a holder.
                let _ = file.read_to_string(&mut holder);
                return Err(StartError::Held {
                    data_dir: data_dir.to_owned(),
                    holder: holder.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(StartError::file("lock", &path)(error)),
        }
    }
    let note = |mut file: &File| {
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    };
    note(&file).map_err(StartError::file("write", &path))?;
    Ok(Lock { _file: file, path })
}

/// The newest cluster in the folder. One that cannot be what it seems is an error: better no start than one on the
/// wrong data.
pub(super) fn newest_cluster(data_dir: &Path) -> Result<Option<Cluster>, StartError> {
    let mut newest: Option<Cluster> = None;
    for entry in fs::read_dir(data_dir).map_err(StartError::file("list", data_dir))? {
        let name = entry.map_err(StartError::file("list", data_dir))?.file_name();
        let Some(named) = name.to_str().and_then(named_major) else { continue };
        let path = data_dir.join(&name);
        let Some(major) = written_by(&path)? else { continue };
        if major != named {
            let why = format!("its PG_VERSION says {major}");
            return Err(StartError::NotACluster { folder: path, why });
        }
        if newest.as_ref().is_none_or(|cluster| cluster.major < major) {
            newest = Some(Cluster { path, major });
        }
    }
    Ok(newest)
}

/// Where the cluster of one version is, or will be.
pub(super) fn cluster_path(data_dir: &Path, major: u32) -> PathBuf {
    data_dir.join(format!("pgdata-{major}"))
}

/// 15 for `pgdata-15`, and nothing for `pgdata-15.new`, which is not finished.
fn named_major(name: &str) -> Option<u32> {
    name.strip_prefix("pgdata-")?.parse().ok()
}

/// The version in a cluster's `PG_VERSION`; `None` for an empty folder, which holds nobody's data.
fn written_by(folder: &Path) -> Result<Option<u32>, StartError> {
    let path = folder.join("PG_VERSION");
    let why = match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(major) => return Ok(Some(major)),
            Err(_) => format!("its PG_VERSION says {:?}", text.trim()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::read_dir(folder).map_err(StartError::file("list", folder))?.next().is_none() {
                return Ok(None);
            }
            "it has no PG_VERSION".to_owned()
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => "it is a file".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let owner = folder.metadata().map_err(StartError::file("look at", folder))?.uid();
            return Err(StartError::Owner { folder: folder.to_owned(), owner });
        }
        Err(error) => return Err(StartError::file("read", &path)(error)),
    };
    Err(StartError::NotACluster { folder: folder.to_owned(), why })
}

/// The server's log, and where this run begins in it.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    begins_at: u64,
}

impl Log {
    /// Opens the log for one more run, putting a large one aside. The second value is for the server to write to.
    pub(super) fn open(data_dir: &Path) -> Result<(Log, File), StartError> {
        let path = data_dir.join("postgres.log");
        if path.symlink_metadata().is_ok_and(|metadata| metadata.len() > LARGE_LOG) {
            fs::rename(&path, data_dir.join("postgres.log.old"))
                .map_err(StartError::file("put aside", &path))?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
        let file = open_own(&path, flags).map_err(StartError::file("open", &path))?;
        let begins_at = file.metadata().map_err(StartError::file("look at", &path))?.len();
        Ok((Log { path, begins_at }, file))
    }

    /// The last lines of this run, for an error message.
    pub(super) fn last_lines(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.begins_at))?;
            let mut bytes = Vec::new();
            // A server that fails at once has not said much; this bounds the one that has.
            file.take(LARGE_LOG).read_to_end(&mut bytes)?;
            Ok(last_lines(&String::from_utf8_lossy(&bytes)))
        };
        read().unwrap_or_else(|error| format!("(the log could not be read: {error})"))
    }
}

/// The end of what a program said, in one line of our own.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "(nothing was said)".to_owned();
    }
    lines[lines.len().saturating_sub(LAST_LINES)..].join(" | ")
}

/// What a server that is gone said of it: its last PANIC or FATAL that is no client's, else its last lines.
pub(super) fn last_words(data_dir: &Path) -> String {
    const READ: u64 = 64 * 1024;
    let read = || -> io::Result<String> {
        let mut file = File::open(data_dir.join("postgres.log"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(READ)))?;
        let mut bytes = Vec::new();
        file.take(READ).read_to_end(&mut bytes)?;
        Ok(of_its_end(&String::from_utf8_lossy(&bytes)))
    };
    read().unwrap_or_else(|error| format!("(the log could not be read: {error})"))
}

fn of_its_end(text: &str) -> String {
    // These answer those who knock while it recovers.
    let is_answer =
        |line: &&str| line.contains("the database system is") || line.contains("terminating connection");
    let said = text.lines().rev().filter(|line| !is_answer(line));
    let mut said = said.filter(|line| line.contains(" PANIC: ") || line.contains(" FATAL: "));
    said.next().map_or_else(|| last_lines(text), |line| line.trim().to_owned())
}

/// The bytes in a folder and all below it; what goes away meanwhile does not count.
pub(super) fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Makes sure that names in a folder survive a power cut.
pub(super) fn sync(folder: &Path) -> Result<(), StartError> {
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(StartError::file("sync", folder))
}

/// Opens a file of ours, never through a link: as root, the folder may belong to a user who would plant one.
pub(super) fn open_own(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_gone_said_why() {
        let full = "LOG:  ready\n2026-11-27 UTC [9] PANIC:  could not write to file \"pg_wal/xlogtemp.9\": No space left on device\n\
                    2026-11-27 UTC [12] FATAL:  the database system is in recovery mode\nLOG:  database system is shut down\n";
        assert!(of_its_end(full).ends_with("No space left on device"), "{}", of_its_end(full));
        assert_eq!(
            of_its_end("LOG:  received immediate shutdown request\n"),
            "LOG:  received immediate shutdown request"
        );
        assert_eq!(of_its_end(""), "(nothing was said)");
    }

    #[test]
    fn the_default_folder_is_where_the_server_may_go() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(default_for(true, path("/root/share"), path("/root")), Path::new("/var/lib/vobiz-cdr"));
        assert_eq!(default_for(false, path("/xdg"), path("/home/a")), Path::new("/xdg/vobiz-cdr"));
        assert_eq!(
            default_for(false, path("xdg"), path("/home/a")),
            Path::new("/home/a/.local/share/vobiz-cdr")
        );
        assert_eq!(default_for(false, None, None), Path::new("vobiz-cdr"));
    }

    #[test]
    fn the_newest_data_counts_and_unfinished_data_does_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest_cluster(dir.path()).unwrap(), None);
        for (name, version) in
            [("pgdata-9", "9"), ("pgdata-15", "15\n"), ("pgdata-99.new", "99"), ("other", "99")]
        {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("PG_VERSION"), version).unwrap();
        }
        fs::create_dir(dir.path().join("pgdata-16")).unwrap();
        let expected = Cluster { path: dir.path().join("pgdata-15"), major: 15 };
        assert_eq!(newest_cluster(dir.path()).unwrap(), Some(expected));
    }

    #[test]
    fn a_folder_that_is_not_what_its_name_says_is_refused() {
        for (file, content) in
            [("PG_VERSION", "14"), ("PG_VERSION", "what"), ("PG_VERSION", ""), ("other", "")]
        {
            let dir = tempfile::tempdir().unwrap();
            let cluster = dir.path().join("pgdata-15");
            fs::create_dir(&cluster).unwrap();
            fs::write(cluster.join(file), content).unwrap();
            let error = newest_cluster(dir.path()).unwrap_err();
            assert!(matches!(error, StartError::NotACluster { .. }), "{error}");
        }
    }

    #[test]
    fn an_error_carries_the_end_of_what_was_said() {
        assert_eq!(last_lines(" \n"), "(nothing was said)");
        assert_eq!(last_lines("one\n\n two\n"), "one | two");
        let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let end = last_lines(&many.join("\n"));
        assert!(end.starts_with("28 |") && end.ends_with("| 39"), "{end}");
    }

    #[test]
    fn a_large_log_is_put_aside_and_a_run_reads_only_its_own_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postgres.log");
        fs::write(&path, "of an earlier run\n").unwrap();
        let (log, mut file) = Log::open(dir.path()).unwrap();
        file.write_all(b"of this run\n").unwrap();
        assert_eq!(log.last_lines(), "of this run");
        file.set_len(LARGE_LOG + 1).unwrap();
        let (log, _) = Log::open(dir.path()).unwrap();
        assert_eq!((log.begins_at, fs::metadata(&path).unwrap().len()), (0, 0));
        assert!(dir.path().join("postgres.log.old").exists());
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("postgres.log")).unwrap();
        assert!(Log::open(dir.path()).is_err());
    }
}
