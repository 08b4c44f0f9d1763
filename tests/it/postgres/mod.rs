//! A Postgres of our own, with real servers: it starts, keeps data, stops with us, and comes back after every kind of
//! death. No test leaves a process behind.
//!
//! As root these tests see the server step down to another account; as an ordinary user it stays with that user.
//! `an_ordinary_user_needs_nothing_from_root` runs the main ones a second time as `nobody` when the run is root's.

mod deaths;
mod support;
mod tasks;
mod upgrade;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Signal, geteuid, getpgid, kill_process};
use vobiz_cdr::postgres::{Postgres, StartError, url_of_running};

use crate::support::wait::{in_the_end, until};
use support::{Holder, ask, children_of, execute, home, names_in, nobody_is_left_in, options, pid};

const NOBODY: u32 = 65534;

#[tokio::test]
async fn a_first_start_makes_a_database_and_a_warm_start_keeps_its_data() {
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
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
            assert_ne!(metadata.uid(), 0, "the server does not run as root");
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
    in_the_end("the test ends", async {
        // psql cannot be told of a folder with a comma, so the second one has its socket elsewhere.
        for name in ["it's 100% a&b?", "a,b"] {
            let home = home();
            let postgres = Postgres::start(options(&home.path().join(name))).await.unwrap();
            assert_eq!(ask(&postgres, "select 'sqlx'").await, "sqlx");
            let line = format!("{} -XAtc \"select 'psql'\"", postgres.psql("postgres"));
            let output = tokio::process::Command::new("sh").arg("-c").arg(&line).output().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "psql\n", "{line}: {output:?}");
            postgres.stop().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn settings_of_the_owner_win_but_not_over_where_it_listens() {
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
        let home = home();
        let first = Postgres::start(options(home.path())).await.unwrap();
        let error = Postgres::start(options(home.path())).await.unwrap_err();
        assert!(matches!(error, StartError::Held { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("another running vobiz-cdr"), "{message}");
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        assert_eq!(ask(&first, "select 'unharmed'").await, "unharmed");
        // But they may share the server.
        let url = first.url("postgres");
        assert_eq!(url_of_running(home.path(), "postgres"), Some(url));
        first.stop().await.unwrap();
        assert_eq!(url_of_running(home.path(), "postgres"), None);
        Postgres::start(options(home.path())).await.unwrap().stop().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn data_of_another_version_is_refused_and_nothing_is_made_beside_it() {
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
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
        let major = postgres.major();
        postgres.stop().await.unwrap();
        assert!(!folder.exists(), "stopped");

        let postgres = Postgres::start(options(&data_dir)).await.unwrap();
        let folder = short(&postgres.url("postgres"));
        drop(postgres);
        until("the watcher removes the folder", async || !folder.exists()).await;

        let mut holder = Holder::start(&data_dir).await;
        let text = fs::read_to_string(data_dir.join(format!("pgdata-{major}/postmaster.pid"))).unwrap();
        let folder = PathBuf::from(text.lines().nth(4).unwrap());
        for child in children_of(holder.pid(), "") {
            kill_process(child, Signal::KILL).unwrap();
        }
        holder.kill().await;
        if Path::new("/proc/self/cwd").exists() {
            assert!(folder.exists(), "nobody was left to remove it");
        }
        Postgres::start(options(&data_dir)).await.unwrap().stop().await.unwrap();
        assert!(!folder.exists(), "the next start removes it");
        nobody_is_left_in(&data_dir).await;
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_bars_the_way_is_named() {
    in_the_end("the test ends", async {
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
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut tests = tokio::process::Command::new(&copy);
    tests.current_dir("/").uid(NOBODY).gid(NOBODY).env_remove("HOME").stdin(Stdio::null()).kill_on_drop(true);
    tests.args([
        "--exact",
        "postgres::a_first_start_makes_a_database_and_a_warm_start_keeps_its_data",
        "postgres::the_server_is_safe_and_private",
        "postgres::deaths::an_orphan_whose_watcher_was_killed_too_is_stopped_and_replaced",
        "postgres::deaths::the_server_stops_when_we_are_killed",
        "postgres::a_folder_that_bars_the_way_is_named",
        "postgres::deaths::a_pid_file_that_names_a_stranger_or_a_zombie_keeps_nobody_out",
    ]);
    let output = in_the_end("the tests end", tests.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("6 passed"), "{text}");
}
