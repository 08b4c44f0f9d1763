//! A real Postgres whose clock can be set.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use vobiz_cdr::postgres::{Postgres as Server, PostgresOptions};
use vobiz_cdr::simulator::Simulator;

use crate::support::database::ACCOUNT;
use crate::support::running::Running;
use crate::support::world::{TOKEN, options, serve_config};

/// Where Debian's libfaketime lies.
fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime"];
    folders.iter().map(|folder| Path::new(folder).join("libfaketimeMT.so.1")).find(|library| library.exists())
}

/// A Postgres whose clock is what a file says, and the folder that holds it.
async fn postgres_with_a_clock(library: &Path, folder: &Path) -> Server {
    use std::os::unix::fs::PermissionsExt;
    let installed = vobiz_cdr::postgres::installed().await;
    let real = &installed.first().expect("Postgres is installed").1;
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(folder.join("clock"), "+0").unwrap();
    for name in ["initdb", "pg_ctl", "psql"] {
        std::os::unix::fs::symlink(real.join(name), bin.join(name)).unwrap();
    }
    let script = format!(
        "#!/bin/sh\nexport LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\nexec {}/postgres \"$@\"\n",
        library.display(),
        folder.join("clock").display(),
        real.display()
    );
    std::fs::write(bin.join("postgres"), script).unwrap();
    std::fs::set_permissions(bin.join("postgres"), PermissionsExt::from_mode(0o755)).unwrap();
    Server::start(PostgresOptions { data_dir: folder.join("data"), bin_dir: Some(bin), settings: vec![] })
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A service on a Postgres whose clock can be set.
pub(super) struct SetClock {
    folder: tempfile::TempDir,
    server: Server,
    pub(super) vobiz: Simulator,
    pub(super) running: Running,
    pool: sqlx::PgPool,
}

impl SetClock {
    /// None where libfaketime is not installed, which is said.
    pub(super) async fn start() -> Option<Self> {
        let Some(library) = faketime() else {
            // Past the capturing of the test harness.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: libfaketime is not installed (apt-get install libfaketime)"
            );
            return None;
        };
        let folder = tempfile::Builder::new().prefix("vobiz-cdr-clock.").tempdir().unwrap();
        // The server's own user has to read the clock.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let server = postgres_with_a_clock(&library, folder.path()).await;
        let url = server.url("postgres");
        let vobiz = Simulator::start(options()).await.unwrap();
        let mut config = serve_config(&vobiz.api_url(), &[(ACCOUNT, TOKEN)], 100.0);
        config.sweep_interval = Duration::from_secs(1);
        let running = Running::start(config, &url).await;
        let pool = vobiz_cdr::db::connect(&url, "test", 2).unwrap();
        Some(Self { folder, server, vobiz, running, pool })
    }

    /// Sets the clock of Postgres so far ahead, or back.
    pub(super) fn set(&self, jump: &str) {
        std::fs::write(self.folder.path().join("clock"), jump).unwrap();
    }

    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    pub(super) async fn instant(&self, sql: &'static str) -> DateTime<Utc> {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    pub(super) async fn end_well(self) {
        self.running.all_is_well().await;
        self.running.end().await;
        self.pool.close().await;
        self.server.stop().await.unwrap_or_else(|error| panic!("{error}"));
    }
}
