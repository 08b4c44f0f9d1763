//! A Postgres of our own, with real servers: it starts, keeps data, stops with us, and comes back after every kind of
//! death. No test leaves a process behind.
//!
//! As root these tests see the server step down to another account; as an ordinary user it stays with that user.
//! `an_ordinary_user_needs_nothing_from_root` runs the main ones a second time as `nobody` when the run is root's.

use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, getpgid, kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use vobiz_cdr::postgres::{Options, Postgres, StartError};

/// Tells the helper below which folder to hold.
const HOLD: &str = "VOBIZ_CDR_TEST_HOLD";
const NOBODY: u32 = 65534;

#[tokio::test]
async fn a_first_start_makes_a_database_and_a_warm_start_keeps_its_data() {
    within_a_minute(async {
        let home = home();
        let begun = Instant::now();
        let postgres = Postgres::start(options(home.path())).await.unwrap();
        let first = begun.elapsed();
        execute(&postgres, "create table kept (price numeric)").await;
        execute(&postgres, "insert into kept values (0.0005)").await;
        postgres.stop().await.unwrap();

        let begun = Instant::now();
        let postgres = Postgres::start(options(home.path())).await.unwrap();
        let warm = begun.elapsed();
        assert_eq!(ask(&postgres, "select price::text from kept").await, "0.0005");
        let begun = Instant::now();
        postgres.stop().await.unwrap();
        println!("first start {first:?}, warm start {warm:?}, stop {:?}", begun.elapsed());
        nobody_is_left_in(home.path()).await;
    })
    .await;
}

#[tokio::test]
async fn the_server_is_safe_and_private() {
    within_a_minute(async {
        let home = home();
        let postgres = Postgres::start(options(home.path())).await.unwrap();
        for (setting, value) in [
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
            ("data_checksums", "on"),
            ("listen_addresses", ""),
            ("server_encoding", "UTF8"),
            ("lc_collate", "C"),
            ("TimeZone", "UTC"),
            ("max_connections", "100"),
        ] {
            let found =
                ask(&postgres, &format!("select coalesce(current_setting('{setting}', true), 'C')")).await;
            assert_eq!(found, value, "{setting}");
        }
        let cluster = home.path().join(format!("pgdata-{}", postgres.major()));
        for private in [&cluster, &home.path().join("socket")] {
            let metadata = private.metadata().unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o700, "{}", private.display());
            assert_eq!(metadata.uid() == 0, false, "the server does not run as root");
        }
        assert_eq!(
            ask(&postgres, "select type from pg_hba_file_rules where auth_method = 'trust' limit 1").await,
            "local"
        );
        let over_tcp =
            "select count(*)::text from pg_hba_file_rules where type = 'host' and auth_method <> 'reject'";
        assert_eq!(ask(&postgres, over_tcp).await, "0");
        assert_ne!(
            getpgid(Some(pid(postgres.pid()))).unwrap(),
            getpgid(None).unwrap(),
            "Ctrl-C does not reach it"
        );
        postgres.stop().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_line_for_the_shell_works_as_it_is() {
    within_a_minute(async {
        // A folder of every inconvenience: a space, a quote, a percent sign, an ampersand, a comma.
        let home = home();
        let data_dir = home.path().join("it's 100% a,b&c");
        let postgres = Postgres::start(options(&data_dir)).await.unwrap();
        assert_eq!(ask(&postgres, "select 'sqlx'").await, "sqlx");
        let line = format!("{} -XAtc \"select 'psql'\"", postgres.psql("postgres"));
        let output = tokio::process::Command::new("sh").arg("-c").arg(&line).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "psql\n", "{line}: {output:?}");
        postgres.stop().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn settings_of_the_owner_win_but_not_over_where_it_listens() {
    within_a_minute(async {
        let home = home();
        let mut options = options(home.path());
        options.settings = vec![
            ("max_connections".to_owned(), "33".to_owned()),
            ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
        ];
        let postgres = Postgres::start(options).await.unwrap();
        assert_eq!(ask(&postgres, "show max_connections").await, "33");
        assert_eq!(ask(&postgres, "show listen_addresses").await, "");
        postgres.stop().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    within_a_minute(async {
        let home = home();
        let mut options = options(home.path());
        options.settings = vec![("max_connections".to_owned(), "many".to_owned())];
        let error = Postgres::start(options).await.unwrap_err();
        assert!(matches!(error, StartError::Exited { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("max_connections") && message.contains("postgres.log"), "{message}");
        nobody_is_left_in(home.path()).await;
    })
    .await;
}

#[tokio::test]
async fn two_of_us_do_not_share_a_folder() {
    within_a_minute(async {
        let home = home();
        let first = Postgres::start(options(home.path())).await.unwrap();
        let error = Postgres::start(options(home.path())).await.unwrap_err();
        assert!(matches!(error, StartError::Held { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("another running vobiz-cdr"), "{message}");
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        assert_eq!(ask(&first, "select 'unharmed'").await, "unharmed");
        first.stop().await.unwrap();
        Postgres::start(options(home.path())).await.unwrap().stop().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn dropping_it_stops_the_server() {
    within_a_minute(async {
        let home = home();
        let postgres = Postgres::start(options(home.path())).await.unwrap();
        drop(postgres);
        nobody_is_left_in(home.path()).await;
        // In good order: a server that was killed would have left its pid file.
        assert_eq!(pid_file(home.path()), None);
    })
    .await;
}

#[tokio::test]
async fn a_start_may_follow_a_drop_at_once() {
    within_a_minute(async {
        let home = home();
        for turn in 0..3 {
            let postgres = Postgres::start(options(home.path())).await.unwrap();
            execute(&postgres, "create table if not exists kept (n int)").await;
            assert_eq!(ask(&postgres, "select count(*)::text from kept").await, turn.to_string());
            execute(&postgres, "insert into kept values (1)").await;
            drop(postgres);
        }
        nobody_is_left_in(home.path()).await;
    })
    .await;
}

#[tokio::test]
async fn a_killed_server_is_noticed_and_comes_back_with_its_data() {
    within_a_minute(async {
        let home = home();
        let mut postgres = Postgres::start(options(home.path())).await.unwrap();
        execute(&postgres, "create table kept as select 'committed' as word").await;
        kill_process(pid(postgres.pid()), Signal::KILL).unwrap();
        assert!(!postgres.exited().await.unwrap().success());
        let error = postgres.stop().await.unwrap_err().to_string();
        assert!(error.contains("recovers at the next start"), "{error}");

        let postgres = Postgres::start(options(home.path())).await.unwrap();
        assert_eq!(ask(&postgres, "select word from kept").await, "committed");
        postgres.stop().await.unwrap();
        nobody_is_left_in(home.path()).await;
    })
    .await;
}

#[tokio::test]
async fn the_server_stops_when_we_are_killed() {
    within_a_minute(async {
        let home = home();
        let mut holder = Holder::start(home.path()).await;
        holder.kill().await;
        nobody_is_left_in(home.path()).await;
        assert_eq!(pid_file(home.path()), None, "it was shut down, not killed");
        Postgres::start(options(home.path())).await.unwrap().stop().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_orphan_whose_watcher_was_killed_too_is_stopped_and_replaced() {
    if !Path::new("/proc/self/stat").exists() {
        println!("needs /proc to find the watcher");
        return;
    }
    within_a_minute(async {
        let home = home();
        let mut holder = Holder::start(home.path()).await;
        for watcher in children_of(holder.pid(), "sh") {
            kill_process(watcher, Signal::KILL).unwrap();
        }
        holder.kill().await;
        // Longer than a watcher would need.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let orphan = pid_file(home.path()).expect("the server lives on");
        assert!(residents_of(home.path()).contains(&orphan));

        let postgres = Postgres::start(options(home.path())).await.unwrap();
        assert_ne!(pid(postgres.pid()), orphan);
        assert!(!residents_of(home.path()).contains(&orphan));
        assert_eq!(ask(&postgres, "select word from kept").await, "committed");
        postgres.stop().await.unwrap();
        nobody_is_left_in(home.path()).await;
    })
    .await;
}

#[tokio::test]
async fn all_three_killed_at_once_lose_nothing() {
    if !Path::new("/proc/self/stat").exists() {
        println!("needs /proc to find the watcher");
        return;
    }
    within_a_minute(async {
        let home = home();
        let mut holder = Holder::start(home.path()).await;
        for child in children_of(holder.pid(), "") {
            kill_process(child, Signal::KILL).unwrap();
        }
        holder.kill().await;
        let postgres = Postgres::start(options(home.path())).await.unwrap();
        assert_eq!(ask(&postgres, "select word from kept").await, "committed");
        postgres.stop().await.unwrap();
        nobody_is_left_in(home.path()).await;
    })
    .await;
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_or_a_zombie_keeps_nobody_out() {
    if !Path::new("/proc/self/cwd").exists() {
        println!("without /proc Postgres itself judges by the pid");
        return;
    }
    within_a_minute(async {
        let home = home();
        let postgres = Postgres::start(options(home.path())).await.unwrap();
        let cluster = home.path().join(format!("pgdata-{}", postgres.major()));
        let text = fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
        let lock = home.path().join("socket/.s.PGSQL.5432.lock");
        let lock_text = fs::read_to_string(&lock).unwrap();
        let server = postgres.pid().to_string();
        postgres.stop().await.unwrap();

        let owner = cluster.metadata().unwrap();
        for alive in [true, false] {
            // Of the server's own account: Postgres passes by the processes of others, but not this one.
            let mut stranger = Command::new("sleep");
            stranger.arg("60");
            if geteuid().is_root() {
                stranger.uid(owner.uid()).gid(owner.gid());
            }
            let mut stranger = stranger.spawn().unwrap();
            if !alive {
                // Killed and not waited for: that is all a zombie is.
                stranger.kill().unwrap();
            }
            for (path, text) in [(cluster.join("postmaster.pid"), &text), (lock.clone(), &lock_text)] {
                fs::write(&path, text.replace(&server, &stranger.id().to_string())).unwrap();
                std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            }
            let postgres = Postgres::start(options(home.path())).await.unwrap();
            assert_eq!(stranger.try_wait().unwrap().is_none(), alive, "the stranger is left alone");
            postgres.stop().await.unwrap();
            let _ = stranger.kill();
            stranger.wait().unwrap();
        }
        // A pid file that a power cut has emptied.
        fs::write(cluster.join("postmaster.pid"), "").unwrap();
        Postgres::start(options(home.path())).await.unwrap().stop().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_initdb_that_was_cut_short_is_begun_again() {
    within_a_minute(async {
        let home = home();
        for name in ["pgdata-15.new", "pgdata-15.new-0badcafe"] {
            let unfinished = home.path().join(name);
            fs::create_dir_all(unfinished.join("base")).unwrap();
            fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
        }
        let postgres = Postgres::start(options(home.path())).await.unwrap();
        assert_eq!(ask(&postgres, "select 'whole'").await, "whole");
        postgres.stop().await.unwrap();
        assert_eq!(names_in(home.path()).iter().filter(|name| name.contains(".new")).count(), 0);
    })
    .await;
}

#[tokio::test]
async fn data_of_another_version_is_refused_and_nothing_is_made_beside_it() {
    within_a_minute(async {
        for major in [14, 99] {
            let home = home();
            let foreign = home.path().join(format!("pgdata-{major}"));
            fs::create_dir(&foreign).unwrap();
            fs::write(foreign.join("PG_VERSION"), format!("{major}\n")).unwrap();
            let error = Postgres::start(options(home.path())).await.unwrap_err();
            assert!(matches!(error, StartError::OtherMajor { .. }), "{error}");
            let message = error.to_string();
            for part in [format!("belongs to Postgres {major}"), "this machine has Postgres".to_owned()] {
                assert!(message.contains(&part), "{part} is missing in: {message}");
            }
            assert!(
                message.contains("vobiz-cdr postgres upgrade") && message.contains("PG_BIN_DIR"),
                "{message}"
            );
            assert_eq!(names_in(home.path()), [format!("pgdata-{major}"), "postgres.lock".to_owned()]);
            assert_eq!(names_in(&foreign), ["PG_VERSION"]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_bin_dir_is_an_error_with_every_remedy() {
    within_a_minute(async {
        let (home, empty) = (home(), home());
        let mut options = options(home.path());
        options.bin_dir = Some(empty.path().to_owned());
        let message = Postgres::start(options).await.unwrap_err().to_string();
        let remedies =
            ["apt-get install postgresql", "dnf install", "brew install", "PG_BIN_DIR", "DATABASE_URL"];
        for remedy in remedies {
            assert!(message.contains(remedy), "{remedy} is missing in: {message}");
        }
        assert_eq!(names_in(home.path()), ["postgres.lock"]);
    })
    .await;
}

#[tokio::test]
async fn a_long_path_moves_the_socket_and_leaves_nothing_in_tmp() {
    within_a_minute(async {
        let home = home();
        let data_dir = home.path().join("long".repeat(30));
        let short = |url: &str| -> PathBuf {
            let name = url.split("%2Ftmp%2F").nth(1).unwrap_or_else(|| panic!("{url} is not under /tmp"));
            Path::new("/tmp").join(name.split('&').next().unwrap())
        };
        let postgres = Postgres::start(options(&data_dir)).await.unwrap();
        let folder = short(&postgres.url("postgres"));
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(ask(&postgres, "select 'short'").await, "short");
        postgres.stop().await.unwrap();
        assert!(!folder.exists(), "stopped");

        let postgres = Postgres::start(options(&data_dir)).await.unwrap();
        let folder = short(&postgres.url("postgres"));
        drop(postgres);
        eventually("the watcher removes the folder", || !folder.exists()).await;

        let postgres = Postgres::start(options(&data_dir)).await.unwrap();
        let folder = short(&postgres.url("postgres"));
        kill_process(pid(postgres.pid()), Signal::KILL).unwrap();
        // Leaked, so that neither `stop` nor the watcher cleans up; the next start has to.
        std::mem::forget(postgres);
        let _ = folder;
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_bars_the_way_is_named() {
    within_a_minute(async {
        let home = home();
        let closed = home.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let outcome = Postgres::start(options(&closed.join("below/data"))).await;
        if geteuid().is_root() {
            let error = outcome.unwrap_err();
            assert!(matches!(error, StartError::Barred { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(&format!("because {} bars the way", closed.display())), "{message}");
        } else {
            // Nobody steps down, so our own closed folder is open to the server.
            outcome.unwrap().stop().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn an_ordinary_user_needs_nothing_from_root() {
    if !geteuid().is_root() {
        println!("every other test has just shown it");
        return;
    }
    // The build folder may be closed to the other account, so the test binary is copied.
    let home = home();
    let copy = home.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut tests = tokio::process::Command::new(&copy);
    tests.current_dir("/").uid(NOBODY).gid(NOBODY).env_remove("HOME").stdin(Stdio::null()).kill_on_drop(true);
    tests.args([
        "--exact",
        "postgres::a_first_start_makes_a_database_and_a_warm_start_keeps_its_data",
        "postgres::the_server_is_safe_and_private",
        "postgres::an_orphan_whose_watcher_was_killed_too_is_stopped_and_replaced",
        "postgres::the_server_stops_when_we_are_killed",
        "postgres::a_folder_that_bars_the_way_is_named",
        "postgres::a_pid_file_that_names_a_stranger_or_a_zombie_keeps_nobody_out",
    ]);
    let output = tokio::time::timeout(Duration::from_secs(120), tests.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("6 passed"), "{text}");
}

/// Not a test by itself: run as a process of its own, it holds a Postgres until it is killed.
#[tokio::test]
async fn a_helper_process_holds_a_postgres_until_it_is_killed() {
    let Some(data_dir) = std::env::var_os(HOLD) else { return };
    within_a_minute(async {
        let postgres = Postgres::start(options(Path::new(&data_dir))).await.unwrap();
        execute(&postgres, "create table kept as select 'committed' as word").await;
        println!("\nready");
        std::future::pending::<()>().await;
    })
    .await;
}

/// The helper above, in its own process.
struct Holder(tokio::process::Child);

impl Holder {
    async fn start(data_dir: &Path) -> Holder {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "postgres::a_helper_process_holds_a_postgres_until_it_is_killed",
                "--nocapture",
            ])
            .env(HOLD, data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while lines.next_line().await.unwrap().expect("the helper starts a Postgres") != "ready" {}
        Holder(child)
    }

    fn pid(&self) -> u32 {
        self.0.id().unwrap()
    }

    async fn kill(&mut self) {
        self.0.kill().await.unwrap();
    }
}

/// A folder every account can get to: tempfile's own are closed, and the server may run as another account.
fn home() -> TempDir {
    let open = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().prefix("vobiz-cdr-test-").permissions(open).tempdir_in("/tmp").unwrap()
}

fn options(data_dir: &Path) -> Options {
    Options { data_dir: data_dir.to_owned(), bin_dir: None, settings: Vec::new() }
}

async fn within_a_minute(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("done within a minute");
}

async fn execute(postgres: &Postgres, sql: &'static str) {
    let mut connection = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn ask(postgres: &Postgres, sql: &str) -> String {
    let mut connection = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
    let answer = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    answer
}

fn pid(raw: u32) -> Pid {
    Pid::from_raw(raw.cast_signed()).unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The server that the only cluster in the folder says it has.
fn pid_file(data_dir: &Path) -> Option<Pid> {
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

fn children_of(parent: u32, name: &str) -> Vec<Pid> {
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

async fn nobody_is_left_in(folder: &Path) {
    eventually("nobody is left in the folder", || {
        residents_of(folder).is_empty()
            && pid_file(folder).is_none_or(|pid| !residents_of(folder).contains(&pid))
    })
    .await;
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}, within 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
