//! What an earlier server left behind: itself, still alive; children of it; or files that say it lives when it does
//! not. Called with the folder's lock held, so whatever is found here has lost its owner.
//!
//! Postgres asks whether the process in `postmaster.pid` exists, and is told yes by a zombie that nobody reaps and by
//! a stranger that has got the number since (both are everyday in containers). We ask who has its working folder in
//! the data folder: every process of a server has, a zombie and a stranger have not.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::account::SystemUser;
use super::error::StartError;
use super::socket;

/// An orphan that was told to shut down writes a checkpoint first; after this we insist.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(20);
/// What is left of a server that was killed notices within milliseconds.
const CHILDREN_TIMEOUT: Duration = Duration::from_secs(10);

/// The file in which a running server says who and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: Pid,
    pub(super) socket_folder: Option<PathBuf>,
    status: String,
}

impl PidFile {
    /// The file of the cluster, or `None` if it is absent or was never finished.
    pub(super) fn read(cluster: &Path) -> io::Result<Option<PidFile>> {
        match fs::read_to_string(PidFile::path(cluster)) {
            Ok(text) => Ok(PidFile::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Line 1 is the pid, line 5 the socket's folder, line 8 the status.
    fn parse(text: &str) -> Option<PidFile> {
        let line =
            |number: usize| text.lines().nth(number - 1).map(str::trim).filter(|line| !line.is_empty());
        // A single-user server writes its pid as a negative number.
        let number: i32 = line(1)?.parse().ok()?;
        Some(PidFile {
            pid: Pid::from_raw(number.checked_abs()?)?,
            socket_folder: line(5).map(PathBuf::from),
            status: line(8).unwrap_or_default().to_owned(),
        })
    }

    /// Whether the server was taking connections when it last wrote here.
    pub(super) fn is_ready(&self) -> bool {
        self.status == "ready"
    }

    /// Whether it is a server's at all, in whatever state. What initdb runs for itself leaves a shorter one.
    pub(super) fn is_a_servers(&self) -> bool {
        !self.status.is_empty()
    }

    fn path(cluster: &Path) -> PathBuf {
        cluster.join("postmaster.pid")
    }
}

/// A process that works in the data folder.
#[derive(Debug, PartialEq, Eq)]
struct Resident {
    pid: Pid,
    name: String,
}

/// Stops what is still running in the cluster, and removes the files that would keep a new server from starting.
pub(super) async fn clear(account: &SystemUser, cluster: &Path, data_dir: &Path) -> Result<(), StartError> {
    let path = PidFile::path(cluster);
    let file = PidFile::read(cluster).map_err(StartError::file("read", &path))?;
    if file.is_none() && !path.exists() {
        return socket::clear_stale(&socket::usual_folder(data_dir));
    }
    let knows_all = Path::new("/proc/self/cwd").exists();
    if let Some(file) = &file {
        stop_orphan(account, cluster, file.pid, knows_all).await?;
    }
    let deadline = Instant::now() + CHILDREN_TIMEOUT;
    loop {
        let residents = residents(account, cluster, knows_all, None).await?;
        if residents.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let processes: Vec<String> =
                residents.iter().map(|one| format!("process {} ({})", one.pid, one.name)).collect();
            return Err(StartError::Occupied { folder: cluster.to_owned(), processes: processes.join(", ") });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Where we cannot see working folders, Postgres itself decides by the pid, and may refuse: better that than two
    // servers on one folder.
    let alive = file.as_ref().is_some_and(|file| exists(file.pid));
    if alive && !knows_all {
        return Ok(());
    }
    // The pid of a process that is gone stays: Postgres then also looks for shared memory still in use.
    if path.exists() && (alive || file.is_none()) {
        tracing::warn!(file = %path.display(), "removing a stale postmaster.pid; no server is running in the folder");
        fs::remove_file(&path).map_err(StartError::file("remove", &path))?;
    }
    socket::clear_stale(&socket::usual_folder(data_dir))?;
    if let Some(folder) = file.and_then(|file| file.socket_folder) {
        let owner = cluster.metadata().map_err(StartError::file("look at", cluster))?.uid();
        socket::clear_stale_short(&folder, owner);
    }
    Ok(())
}

/// A server that outlived both us and its watcher shuts down as it would have.
async fn stop_orphan(
    account: &SystemUser,
    cluster: &Path,
    pid: Pid,
    knows_all: bool,
) -> Result<(), StartError> {
    let mut told: Option<(Instant, Signal)> = None;
    // By name too: a shell that stands in the folder may have got the number of a server long gone.
    while let Some(orphan) = residents(account, cluster, knows_all, Some(pid))
        .await?
        .into_iter()
        .find(|one| one.pid == pid && one.name.contains("post"))
    {
        let signal = match told {
            None => Some(Signal::INT),
            Some((since, Signal::INT)) if since.elapsed() > ORPHAN_TIMEOUT => Some(Signal::QUIT),
            Some((since, Signal::QUIT)) if since.elapsed() > ORPHAN_TIMEOUT => {
                let processes = format!("a Postgres server (process {pid}) that does not stop");
                return Err(StartError::Occupied { folder: cluster.to_owned(), processes });
            }
            Some(_) => None,
        };
        if let Some(signal) = signal {
            tracing::warn!(pid = %orphan.pid, "stopping a Postgres server that was left running in our folder");
            match kill_process(pid, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => told = Some((Instant::now(), signal)),
                Err(error) => return Err(StartError::file("stop the server in", cluster)(error.into())),
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Who works in the cluster. Asked as the server's account: even root may not see the working folder of another's
/// process, unless it has `CAP_SYS_PTRACE`, which containers withhold.
async fn residents(
    account: &SystemUser,
    cluster: &Path,
    knows_all: bool,
    pid: Option<Pid>,
) -> Result<Vec<Resident>, StartError> {
    let mut shell = if knows_all {
        account.shell(
            r#"for cwd in /proc/[0-9]*/cwd; do
                   [ "$cwd" -ef "$1" ] || continue
                   folder=${cwd%/cwd}
                   read -r name < "$folder/comm" && echo "${folder#/proc/} $name"
               done 2>/dev/null"#,
        )
    } else {
        // Without /proc only a server's own command line tells its folder, and only for the pid we have in mind.
        let Some(pid) = pid else { return Ok(Vec::new()) };
        let mut shell = account.shell(
            r#"case $(ps -o args= -p "$2") in *postgres*"$1"*) echo "$2 postgres";; esac 2>/dev/null"#,
        );
        shell.arg(cluster).arg(pid.to_string());
        return ask(shell).await;
    };
    shell.arg(cluster);
    ask(shell).await
}

async fn ask(mut shell: tokio::process::Command) -> Result<Vec<Resident>, StartError> {
    let output = shell.output().await.map_err(StartError::program(Path::new("/bin/sh")))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(resident).collect())
}

fn resident(line: &str) -> Option<Resident> {
    let (pid, name) = line.split_once(' ')?;
    Some(Resident { pid: Pid::from_raw(pid.parse().ok()?)?, name: name.to_owned() })
}

/// Whether there is a process of this number, be it a zombie or a stranger.
pub(super) fn exists(pid: Pid) -> bool {
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str =
        "4711\n/data/pgdata-15\n1700000000\n5432\n/data/socket\n\n  1234567    98304\nready   \n";

    #[test]
    fn the_pid_file_says_who_and_where_and_how() {
        let file = PidFile::parse(READY).unwrap();
        assert_eq!(file.pid.as_raw_pid(), 4711);
        assert_eq!(file.socket_folder.as_deref(), Some(Path::new("/data/socket")));
        assert!(file.is_ready());
        let starting = PidFile::parse(&READY.replace("ready   ", "starting")).unwrap();
        assert!(!starting.is_ready() && starting.is_a_servers());
    }

    #[test]
    fn an_unfinished_pid_file_is_no_pid_file() {
        for text in ["", "\n", "x\n", "0\n", "-2147483648\n"] {
            assert_eq!(PidFile::parse(text), None, "{text:?}");
        }
        let first_line_only = PidFile::parse("4711\n").unwrap();
        assert!(!first_line_only.is_ready() && first_line_only.socket_folder.is_none());
        assert!(!first_line_only.is_a_servers());
        assert_eq!(PidFile::parse("-4711\n").unwrap().pid.as_raw_pid(), 4711);
    }

    #[tokio::test]
    async fn a_process_is_a_resident_by_its_working_folder() {
        let dir = tempfile::tempdir().unwrap();
        let account = SystemUser::ours();
        let mut sleeper =
            tokio::process::Command::new("sleep").arg("30").current_dir(dir.path()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(sleeper.id().unwrap()).unwrap()).unwrap();
        if Path::new("/proc/self/cwd").exists() {
            let found = residents(&account, dir.path(), true, None).await.unwrap();
            assert_eq!(found, [Resident { pid, name: "sleep".to_owned() }]);
        }
        // Its command line does not name the folder, so where only that is known it is a stranger.
        assert_eq!(residents(&account, dir.path(), false, Some(pid)).await.unwrap(), []);
        assert!(exists(pid));
        sleeper.kill().await.unwrap();
        assert!(!exists(pid));
        assert_eq!(residents(&account, dir.path(), true, None).await.unwrap(), []);
    }
}
