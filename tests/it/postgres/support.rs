//! What the tests of our own Postgres share: a folder to start it in, a process to kill, and the processes that are left.
#![expect(clippy::unwrap_used, reason = "only tests call this, and a panic is how they fail")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Pid;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use vobiz_cdr::postgres::{Postgres, PostgresOptions};

use crate::support::process::{program, run};
use crate::support::wait::until;

/// Tells the helper process which folder to hold.
pub(super) const HOLD: &str = "VOBIZ_CDR_TEST_HOLD";

/// `a_helper_process_holds_a_postgres_until_it_is_killed`, in a process of its own.
pub(super) struct Holder(tokio::process::Child);

impl Holder {
    /// Starts the process, and waits until it has its Postgres.
    pub(super) async fn start(data_dir: &Path) -> Holder {
        let mut holder = Holder::spawn(data_dir);
        let mut lines = BufReader::new(holder.0.stdout.take().unwrap()).lines();
        while lines.next_line().await.unwrap().expect("the helper starts a Postgres") != "ready" {}
        holder
    }

    pub(super) fn spawn(data_dir: &Path) -> Holder {
        let test = "postgres::deaths::a_helper_process_holds_a_postgres_until_it_is_killed";
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(HOLD, data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Holder(child)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id().unwrap()
    }

    pub(super) async fn kill(&mut self) {
        self.0.kill().await.unwrap();
    }
}

/// A folder every account can get to: tempfile's own are closed, and the server may run as another account.
pub(super) fn home() -> TempDir {
    let home = tempfile::Builder::new().prefix("vobiz-cdr-test-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    home
}

pub(super) fn options(data_dir: &Path) -> PostgresOptions {
    let bin_dir = std::env::var_os("PG_BIN_DIR").map(PathBuf::from);
    PostgresOptions { data_dir: data_dir.to_owned(), bin_dir, settings: Vec::new() }
}

pub(super) async fn execute(postgres: &Postgres, sql: &'static str) {
    let mut connection = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

pub(super) async fn ask(postgres: &Postgres, sql: &str) -> String {
    let mut connection = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
    let answer = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

pub(super) fn pid(raw: u32) -> Pid {
    Pid::from_raw(raw.cast_signed()).unwrap()
}

pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The server that the only cluster in the folder says it has.
pub(super) fn pid_file(data_dir: &Path) -> Option<Pid> {
    let cluster = names_in(data_dir).into_iter().find(|name| name.starts_with("pgdata-"))?;
    let text = fs::read_to_string(data_dir.join(cluster).join("postmaster.pid")).ok()?;
    Some(pid(text.lines().next()?.parse().ok()?))
}

/// Everybody whose working folder is in `folder`; nobody where there is no `/proc`.
fn residents_of(folder: &Path) -> Vec<Pid> {
    processes()
        .filter(|(_, proc)| fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
        .map(|(pid, _)| pid)
        .collect()
}

/// Whether a process is there, and not a zombie. Everybody may read this; a working folder, not even every root.
pub(super) fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['R', 'S', 'D']))
}

pub(super) fn children_of(parent: u32, name: &str) -> Vec<Pid> {
    let is_child = |proc: &Path| -> io::Result<bool> {
        // `pid (name) state parent …`
        let stat = fs::read_to_string(proc.join("stat"))?;
        let parent = format!(" {parent} ");
        Ok(stat.contains(name) && stat.rsplit(')').next().is_some_and(|rest| rest[2..].starts_with(&parent)))
    };
    processes().filter(|(_, proc)| is_child(proc).unwrap_or(false)).map(|(pid, _)| pid).collect()
}

fn processes() -> impl Iterator<Item = (Pid, PathBuf)> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let entry = entry.ok()?;
        Some((pid(entry.file_name().to_str()?.parse().ok()?), entry.path()))
    })
}

pub(super) async fn nobody_is_left_in(folder: &Path) {
    until("nobody is left in the folder", async || {
        // The watcher works elsewhere, and names the folder in its command line.
        let name = folder.display().to_string();
        let speaks_of_it = |proc: &Path| {
            fs::read(proc.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&name))
        };
        residents_of(folder).is_empty() && !processes().any(|(_, proc)| speaks_of_it(&proc))
    })
    .await;
}

/// `vobiz-cdr postgres …` on a folder.
pub(super) fn postgres_on(data_dir: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = program(&["--log", "warn", "postgres"]);
    command.args(arguments).env("CDR_DATA_DIR", data_dir);
    command
}

/// The programs of this version, where they are not those of the whole run.
pub(super) fn with(bin_dir: Option<&Path>, mut command: std::process::Command) -> std::process::Command {
    command.envs(bin_dir.map(|bin_dir| ("PG_BIN_DIR", bin_dir)));
    command
}

/// What psql answers.
pub(super) fn psql(data_dir: &Path, sql: &str) -> String {
    psql_with(None, data_dir, sql)
}

pub(super) fn psql_with(bin_dir: Option<&Path>, data_dir: &Path, sql: &str) -> String {
    let command = postgres_on(data_dir, &["psql", "--", "-XAt", "-v", "ON_ERROR_STOP=1", "-c", sql]);
    let finished = run(&mut with(bin_dir, command));
    assert!(finished.status.success(), "{sql}: {}", finished.stderr);
    finished.stdout
}

/// Makes the schema in a folder, and rows that are easily spoilt: partitions, bytes, JSON text, money, a sequence.
pub(super) fn fill(data_dir: &Path) {
    fill_with(None, data_dir);
}

pub(super) fn fill_with(bin_dir: Option<&Path>, data_dir: &Path) {
    let mut migrate = with(bin_dir, program(&["migrate", "apply", "--own"]));
    let migrated = run(migrate.env("CDR_DATA_DIR", data_dir));
    assert!(migrated.status.success(), "{}", migrated.stderr);
    psql_with(
        bin_dir,
        data_dir,
        r#"
        insert into vobiz.account (account_id, sweep_from) values ('MA_TESTAB12', '2026-11-20 10:00Z');
        insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at, lease_id)
          select 'call-' || n, 'MA_TESTAB12', true, n % 2 = 0, now(), nextval('vobiz.lease_id')
            from generate_series(1, 2000) n;
        insert into vobiz.callback (id, received_at, event, proof, outcome, body)
          select gen_random_uuid(), now(), E'Hangup\t\\ "é"', 'v3', 'logged', decode('00ff5c0a', 'hex')
            from generate_series(1, 300);
        insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash,
                               total_cost, notes)
          select 'done-' || n, 'MA_TESTAB12', 'MA_TESTAB12', 'sweep', 1, now(), 1, sha256(n::text::bytea),
                 n * 0.0005, array['a "note"', E'line\nbreak']
            from generate_series(1, 200) n;
        insert into vobiz.cdr_revision (call_id, revision, fetched_at, account_id, source, day_at, content_hash, payload)
          select 'done-' || n, 1, now(), 'MA_TESTAB12', 'list', now(), sha256(n::text::bytea),
                 '{"uuid":  "x", "total_cost": 1.50, "uuid": "\u0000"}'
            from generate_series(1, 200) n;
        "#,
    );
}

/// Every row of every table in schema `vobiz` as text, and where the sequences stand.
pub(super) fn rows(data_dir: &Path) -> String {
    rows_with(None, data_dir)
}

pub(super) fn rows_with(bin_dir: Option<&Path>, data_dir: &Path) -> String {
    let script = r"
        set timezone = 'UTC';
        select format('select %L, t::text from %s t order by 2', c.oid::regclass, c.oid::regclass)
          from pg_class c where relnamespace = 'vobiz'::regnamespace and relkind = 'r' order by relname
        \gexec
        select sequencename, last_value from pg_sequences where schemaname = 'vobiz' order by 1;
    ";
    let command = postgres_on(data_dir, &["psql", "--", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
    let mut command = with(bin_dir, command);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
