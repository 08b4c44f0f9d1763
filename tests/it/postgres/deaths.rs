//! Every way to die, and the start that follows: of the server, of us, of its watcher, of all together.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, geteuid, kill_process};
use vobiz_cdr::postgres::Postgres;

use super::support::{
    HOLD, Holder, ask, children_of, execute, home, names_in, nobody_is_left_in, options, pid, pid_file, runs,
};
use crate::support::wait::{in_the_end, until};

#[tokio::test]
async fn dropping_it_stops_the_server() {
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
        let home = home();
        let mut holder = Holder::start(home.path()).await;
        for watcher in children_of(holder.pid(), "sh") {
            kill_process(watcher, Signal::KILL).unwrap();
        }
        holder.kill().await;
        // Longer than a watcher would need.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let orphan = pid_file(home.path()).expect("the server lives on");
        assert!(runs(orphan));

        let postgres = Postgres::start(options(home.path())).await.unwrap();
        assert_ne!(pid(postgres.pid()), orphan);
        assert!(!runs(orphan));
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
    in_the_end("the test ends", async {
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
        println!("without /proc Postgres itself goes by the pid");
        return;
    }
    in_the_end("the test ends", async {
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
    in_the_end("the test ends", async {
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
async fn killed_while_the_database_is_being_made_we_begin_again_at_once() {
    in_the_end("the test ends", async {
        let home = home();
        let mut holder = Holder::spawn(home.path());
        let half_made = || {
            let unfinished = names_in(home.path()).into_iter().find(|name| name.contains(".new-"));
            unfinished.is_some_and(|name| home.path().join(name).join("PG_VERSION").exists())
        };
        until("initdb has begun", async || half_made()).await;
        holder.kill().await;
        // The orphaned initdb may still be writing, and must not be in the way.
        let postgres = Postgres::start(options(home.path())).await.unwrap();
        assert_eq!(ask(&postgres, "select 'whole'").await, "whole");
        postgres.stop().await.unwrap();
        nobody_is_left_in(home.path()).await;
        // By now it is gone, and a warm start clears up behind it.
        Postgres::start(options(home.path())).await.unwrap().stop().await.unwrap();
        assert!(!names_in(home.path()).iter().any(|name| name.contains(".new")));
    })
    .await;
}

/// Not a test by itself: run as a process of its own, it holds a Postgres until it is killed.
#[tokio::test]
async fn a_helper_process_holds_a_postgres_until_it_is_killed() {
    let Some(data_dir) = std::env::var_os(HOLD) else { return };
    in_the_end("the test ends", async {
        let postgres = Postgres::start(options(Path::new(&data_dir))).await.unwrap();
        execute(&postgres, "create table kept as select 'committed' as word").await;
        println!("\nready");
        std::future::pending::<()>().await;
    })
    .await;
}
