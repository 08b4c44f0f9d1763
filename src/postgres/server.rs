//! The running server and its watcher. Promises that the server does not outlive us: not when it is dropped, not when
//! we panic, not when we are killed.
//!
//! The watcher is a few lines of shell that read from a pipe only we hold the other end of. However we end, the kernel
//! closes our end, and the watcher shuts the server down. (`PR_SET_PDEATHSIG` would not do: it follows the thread that
//! started the server, and threads come and go.)

use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::account::SystemUser;
use super::error::{StartError, StopError};
use super::folder::{Cluster, Log};
use super::leftovers::PidFile;
use super::programs::Programs;
use super::socket::Socket;

/// A start is done in a tenth of a second, unless there is much to recover after a crash.
const READY_TIMEOUT: Duration = Duration::from_secs(300);
/// While we wait for a recovery, we say so this often.
const READY_REMARK: Duration = Duration::from_secs(10);
/// A fast shutdown closes every connection and writes a checkpoint. After that time the server is to drop everything,
/// which loses nothing either: it recovers from its log.
const FAST_TIMEOUT: Duration = Duration::from_secs(20);
/// The server itself kills children that do not heed an immediate shutdown, after 5 s.
const IMMEDIATE_TIMEOUT: Duration = Duration::from_secs(10);
/// The watcher has nothing left to do but leave.
const WATCHER_TIMEOUT: Duration = Duration::from_secs(2);

/// `$1` is the data folder, `$2` a socket folder to remove afterwards, or nothing. The first line of input is the
/// server's pid; a second one says that the server is gone and all is well; the end of input says that we are.
const WATCH: &str = r#"
trap '' HUP INT TERM
data=$1 folder=$2
read -r pid || exit 0
read -r gone && exit 0
# By its working folder too: the pid alone may be a zombie's, or already a stranger's.
runs() { kill -0 "$pid" && { [ ! -e /proc/self/cwd ] || [ "/proc/$pid/cwd" -ef "$data" ]; }; }
runs && kill -INT "$pid"
tenths=0
while runs && [ "$tenths" -lt 400 ]; do
    [ "$tenths" -eq 200 ] && kill -QUIT "$pid"
    sleep 0.1 || sleep 1
    tenths=$((tenths + 1))
done
[ -n "$folder" ] && rmdir "$folder"
"#;

/// A server that is ready, and its watcher.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pid: Pid,
    watcher: Watcher,
    log: PathBuf,
}

/// Dropping it closes the pipe, and with it goes the server.
#[derive(Debug)]
struct Watcher {
    child: Child,
    pipe: PipeWriter,
}

impl Server {
    /// Starts the server on a cluster nobody else uses, and waits until it takes connections.
    pub(super) async fn start(
        account: &SystemUser,
        programs: &Programs,
        cluster: &Cluster,
        socket: &Socket,
        settings: &[(String, String)],
        (log, output): (Log, File),
    ) -> Result<Server, StartError> {
        // The watcher comes first, so that there is no moment in which the server has none.
        let mut watcher =
            Watcher::start(account, cluster, socket).map_err(StartError::program(Path::new("/bin/sh")))?;
        let program = programs.postgres();
        let mut command = account.command(&program);
        command.arg("-D").arg(&cluster.path);
        // A later setting wins: the owner's over ours, and where we listen over everybody's.
        for (name, value) in OURS {
            set(&mut command, name, value);
        }
        for (name, value) in settings {
            set(&mut command, name, value);
        }
        for (name, value) in socket.settings() {
            set(&mut command, name, &value);
        }
        // The working folder is how `leftovers` and the watcher know the server, from its first moment on.
        command.current_dir(&cluster.path);
        let errors = output.try_clone().map_err(StartError::file("open", &log.path))?;
        command.stdout(output).stderr(errors);
        let mut child = command.spawn().map_err(StartError::program(&program))?;
        let pid = match pid_of(&child).map(|pid| watcher.watch(pid).map(|()| pid)) {
            Some(Ok(pid)) => pid,
            Some(Err(source)) => {
                // Unwatched, it might outlive us.
                let _ = child.start_kill();
                return Err(StartError::Program { program: PathBuf::from("/bin/sh"), source });
            }
            None => return Err(exited(&mut child, &log).await),
        };
        let mut server = Server { child, pid, watcher, log: log.path.clone() };
        server.wait_until_ready(cluster, &log).await?;
        Ok(server)
    }

    /// As `pg_ctl` does it: the server writes its state into its pid file, and no connection need be tried.
    async fn wait_until_ready(&mut self, cluster: &Cluster, log: &Log) -> Result<(), StartError> {
        let begun = Instant::now();
        let mut remark = begun + READY_REMARK;
        loop {
            // The child is asked with every look, so a server that fails at once is not waited for.
            if timeout(Duration::from_millis(4), self.child.wait()).await.is_ok() {
                return Err(exited(&mut self.child, log).await);
            }
            // A file that is being written reads as none; a file with another pid is an earlier server's.
            let file = PidFile::read(&cluster.path).ok().flatten();
            if file.is_some_and(|file| file.pid == self.pid && file.is_ready()) {
                return Ok(());
            }
            if begun.elapsed() > READY_TIMEOUT {
                return Err(StartError::NotReady {
                    seconds: READY_TIMEOUT.as_secs(),
                    log: log.path.clone(),
                    lines: log.last_lines(),
                });
            }
            if Instant::now() > remark {
                tracing::info!(log = %log.path.display(), "Postgres is not ready yet; after a crash it recovers first");
                remark += READY_REMARK;
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Waits until the server is gone, which it should never be by itself. Can be dropped and asked again.
    pub(super) async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// A fast shutdown, and an immediate one if that takes too long.
    pub(super) async fn stop(mut self) -> Result<(), StopError> {
        for (signal, limit) in [(Signal::INT, FAST_TIMEOUT), (Signal::QUIT, IMMEDIATE_TIMEOUT)] {
            // Once it is waited for, the number is free for a stranger.
            if let Some(pid) = pid_of(&self.child) {
                // It may be gone already; then waiting says how it went.
                let _ = kill_process(pid, signal);
            }
            if let Ok(status) = timeout(limit, self.child.wait()).await {
                let status = status?;
                self.watcher.dismiss().await;
                // An immediate shutdown also ends with status 0, and yet it leaves a recovery to do.
                let in_order = status.success() && signal == Signal::INT;
                return if in_order { Ok(()) } else { Err(StopError::Unclean { status, log: self.log }) };
            }
            tracing::warn!(pid = %self.pid, ?signal, log = %self.log.display(), "Postgres takes its time to stop");
        }
        Err(StopError::Stuck { pid: self.pid(), log: self.log })
    }
}

impl Watcher {
    fn start(account: &SystemUser, cluster: &Cluster, socket: &Socket) -> io::Result<Watcher> {
        // Both ends close on exec, so no other child of ours keeps the pipe open when we are gone.
        let (reader, pipe) = io::pipe()?;
        let mut command = account.shell(WATCH);
        command.arg(&cluster.path);
        command.arg(if socket.short_lived { socket.folder.as_os_str() } else { "".as_ref() });
        command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Watcher { child: command.spawn()?, pipe })
    }

    fn watch(&mut self, pid: Pid) -> io::Result<()> {
        writeln!(self.pipe, "{pid}")
    }

    /// Ends it after the server has gone.
    async fn dismiss(mut self) {
        // If it was killed, there is nobody to tell.
        let _ = writeln!(self.pipe, "gone");
        let _ = timeout(WATCHER_TIMEOUT, self.child.wait()).await;
    }
}

/// How we run every server of ours: one owner, a small container, short statements. Everything that concerns keeping
/// what was committed stays at its default, which is the safe one.
const OURS: [(&str, &str); 7] = [
    // Recovering to a point in time, it must not call itself ready before it has got there and takes writes.
    ("hot_standby", "off"),
    ("max_connections", "100"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    // A line for every checkpoint would be most of a log that is only cut at a start.
    ("log_checkpoints", "off"),
    // Compiling a short statement costs more than running it.
    ("jit", "off"),
    // Where a container may not have huge pages, asking for them can end in SIGBUS.
    ("huge_pages", "off"),
];

fn set(command: &mut Command, name: &str, value: &str) {
    command.arg("-c").arg(format!("{name}={value}"));
}

/// The child's process, as long as it was not waited for.
fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

async fn exited(child: &mut Child, log: &Log) -> StartError {
    match child.wait().await {
        Ok(status) => StartError::Exited { status, log: log.path.clone(), lines: log.last_lines() },
        Err(error) => StartError::file("wait for the server that writes", &log.path)(error),
    }
}
