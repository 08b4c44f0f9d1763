//! A real PgBouncer before a database, where the program is installed (Debian: apt-get install pgbouncer).

use std::io::Write;
use std::process::{Child, Command, Stdio};

use reqwest::Url;

use super::process::free_port;
use super::wait::until_some_blocking;

/// A PgBouncer until the end of the test.
pub(crate) struct PgBouncer {
    child: Child,
    folder: tempfile::TempDir,
    /// The database, seen through it.
    pub(crate) url: String,
}

impl PgBouncer {
    /// Starts one before a database; none where it is not installed, or the database is not on a socket of this machine, which is said.
    pub(crate) fn before(database: &str, pool_mode: &str, more: &str) -> Option<Self> {
        let url = Url::parse(database).unwrap();
        let socket =
            url.query_pairs().find(|(name, _)| name == "host").map(|(_, socket)| socket.into_owned());
        // Debian puts it where not every user's PATH leads.
        let program = if std::path::Path::new("/usr/sbin/pgbouncer").exists() {
            "/usr/sbin/pgbouncer"
        } else {
            "pgbouncer"
        };
        let installed = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        let (Some(socket), true) = (socket, installed.is_ok_and(|status| status.success())) else {
            let why = "skipped: pgbouncer is not installed, or the tests' Postgres is not on a socket of this machine";
            let _ = writeln!(std::io::stderr(), "{why}");
            return None;
        };
        let (name, user) = (url.path().trim_start_matches('/'), url.username());
        let user = if user.is_empty() { "postgres" } else { user };
        let folder = tempfile::Builder::new().prefix("pgbouncer.").tempdir().unwrap();
        let (port, file) = (free_port(), folder.path().join("pgbouncer.ini"));
        std::fs::write(
            &file,
            format!(
                "[databases]\n{name} = host={socket} dbname={name} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\nmax_client_conn = 100\n\
                 ignore_startup_parameters =\n{more}\n"
            ),
        )
        .unwrap();
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            // It refuses to run as root, and must read its file and reach the socket.
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            command.args(["-u", "postgres"]);
        }
        command.args(["-q"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        until_some_blocking("pgbouncer answers", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("pgbouncer ended at its start: {status}");
            }
            std::net::TcpStream::connect(("127.0.0.1", port))
        });
        let url = format!("postgres://{user}@127.0.0.1:{port}/{name}?sslmode=disable");
        Some(Self { child, folder, url })
    }

    /// Gives it another `pool_mode` while it runs.
    pub(crate) fn switch_to(&self, pool_mode: &str) {
        let file = self.folder.path().join("pgbouncer.ini");
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| {
            if line.starts_with("pool_mode") {
                format!("pool_mode = {pool_mode}\n")
            } else {
                format!("{line}\n")
            }
        });
        std::fs::write(&file, lines.collect::<String>()).unwrap();
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
