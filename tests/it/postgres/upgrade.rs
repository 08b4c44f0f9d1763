//! `postgres upgrade`, with real servers of two versions: the data moves, and at every instant exactly one complete
//! database is in force. Needs a second major version of Postgres: `TEST_PG_OTHER_BIN_DIR`, or one that is installed.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use vobiz_cdr::postgres::installed;

use super::support::{
    children_of, fill_with, home, names_in, nobody_is_left_in, postgres_on, psql_with, rows_with, with,
};
use crate::support::process::run;
use crate::support::wait::{in_the_end, until};

/// Older and newer programs, each with the version.
struct Two {
    old: (u32, PathBuf),
    new: (u32, PathBuf),
}

/// Two versions; `None`, said on stderr, where there is but one.
async fn two() -> Option<Two> {
    let mut all = installed().await;
    for name in ["PG_BIN_DIR", "TEST_PG_OTHER_BIN_DIR"] {
        let Some(bin_dir) = std::env::var_os(name).map(PathBuf::from) else { continue };
        let text =
            run(Command::new(bin_dir.join("postgres")).arg("--version").stdout(std::process::Stdio::piped()));
        let major = text.stdout.split_whitespace().nth(2).unwrap().split('.').next().unwrap();
        all.push((major.parse().unwrap(), bin_dir));
    }
    all.retain(|(major, _)| *major >= vobiz_cdr::postgres::OLDEST_MAJOR);
    let old = all.iter().min_by_key(|(major, _)| *major)?.clone();
    let new = all.iter().max_by_key(|(major, _)| *major)?.clone();
    if old.0 == new.0 {
        let text = "not tried: a move between two versions of Postgres; set TEST_PG_OTHER_BIN_DIR to the programs of another";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
        return None;
    }
    Some(Two { old, new })
}

impl Two {
    /// The command, with the old version's programs and the new one's named.
    fn upgrade(&self, data_dir: &Path) -> Command {
        let mut command = with(Some(&self.old.1), postgres_on(data_dir, &["upgrade", "--to-bin-dir"]));
        command.arg(&self.new.1);
        command
    }

    /// The programs for the cluster that is in force by its name.
    fn in_force(&self, data_dir: &Path) -> &Path {
        let new = data_dir.join(format!("pgdata-{}", self.new.0));
        if new.exists() { &self.new.1 } else { &self.old.1 }
    }
}

#[tokio::test]
async fn the_data_moves_with_roles_settings_and_other_databases() {
    let Some(two) = two().await else { return };
    in_the_end("the test ends", async {
        let home = home();
        let (old, new) = (Some(two.old.1.as_path()), Some(two.new.1.as_path()));
        fill_with(old, home.path());
        for sql in [
            "create role reader login password 'secret'; grant usage on schema vobiz to reader",
            "alter role reader set statement_timeout = '7s'; alter database vobiz set work_mem = '9MB'",
            "create database notes",
            "alter system set log_min_duration_statement = '123ms'",
            "alter system set archive_mode = 'on'",
            "alter system set archive_command = '/bin/true'",
        ] {
            psql_with(old, home.path(), sql);
        }
        let cluster = home.path().join(format!("pgdata-{}", two.old.0));
        let conf = cluster.join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).unwrap();
        text.push_str("\ndeadlock_timeout = 1234ms\n");
        fs::write(&conf, text).unwrap();
        let hba = fs::read_to_string(cluster.join("pg_hba.conf")).unwrap() + "# mine\n";
        fs::write(cluster.join("pg_hba.conf"), &hba).unwrap();
        let before = rows_with(old, home.path());

        let upgraded = run(&mut two.upgrade(home.path()));
        let said = &upgraded.stderr;
        assert!(upgraded.status.success(), "{said}");
        for words in
            ["are the same on both sides", "remove it once you are content", "archive_mode is off", "Next:"]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
        let (newer, aside) = (format!("pgdata-{}", two.new.0), format!("pgdata-{}.old", two.old.0));
        let clusters: Vec<String> =
            names_in(home.path()).into_iter().filter(|name| name.starts_with("pgdata")).collect();
        assert_eq!(clusters, [aside.clone(), newer.clone()]);
        assert!(said.contains(&aside), "{said}");
        nobody_is_left_in(home.path()).await;

        assert!(rows_with(new, home.path()) == before, "row for row");
        for (sql, answer) in [
            (
                "select rolcanlogin, rolconfig from pg_roles where rolname = 'reader'",
                "t|{statement_timeout=7s}",
            ),
            ("select has_schema_privilege('reader', 'vobiz', 'usage')", "t"),
            ("show work_mem", "9MB"),
            ("show log_min_duration_statement", "123ms"),
            ("show deadlock_timeout", "1234ms"),
            ("show archive_mode", "off"),
            ("show archive_command", "(disabled)"),
            ("show data_checksums", "on"),
            ("show default_transaction_read_only", "off"),
            ("select count(*) from pg_database where datname = 'notes'", "1"),
            ("select count(*) > 0 from pg_stats where schemaname = 'vobiz'", "t"),
        ] {
            assert_eq!(psql_with(new, home.path(), sql).trim_end(), answer, "{sql}");
        }
        assert_eq!(fs::read_to_string(home.path().join(&newer).join("pg_hba.conf")).unwrap(), hba);

        let again = run(&mut two.upgrade(home.path()));
        assert_eq!(again.status.code(), Some(1));
        assert!(again.stderr.contains("nothing newer is here"), "{}", again.stderr);
        let old_programs = run(&mut with(old, postgres_on(home.path(), &["psql", "--", "-c", "select 1"])));
        assert!(
            old_programs.stderr.contains(&format!("belongs to Postgres {}", two.new.0)),
            "{}",
            old_programs.stderr
        );
    })
    .await;
}

#[tokio::test]
async fn killed_at_any_moment_the_old_database_or_the_complete_new_one_is_in_force() {
    let Some(two) = two().await else { return };
    let home = home();
    fill_with(Some(&two.old.1), home.path());
    let before = rows_with(Some(&two.old.1), home.path());
    let newer = home.path().join(format!("pgdata-{}", two.new.0));
    let (mut kills, mut delay) = (0, Duration::from_millis(60));
    loop {
        let mut child = two.upgrade(home.path()).spawn().unwrap();
        let begun = Instant::now();
        let done = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > delay {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let clusters = names_in(home.path());
        let complete = |name: &&String| name.starts_with("pgdata-") && !name.contains('.');
        assert!(clusters.iter().filter(complete).count() > 0, "{clusters:?}");
        let in_force = two.in_force(home.path());
        assert!(rows_with(Some(in_force), home.path()) == before, "after {delay:?}: {clusters:?}");
        if newer.exists() {
            assert!(done.is_none_or(|status| status.success()));
            break;
        }
        assert!(done.is_none(), "it ended by itself without having moved the data");
        // In longer steps where everything takes longer.
        (kills, delay) = (kills + 1, delay + (delay / 8).max(Duration::from_millis(220)));
    }
    assert!(kills >= 2, "it was killed in the middle, {kills} times");
    // An initdb that outlived us may have been adding files faster than they were removed. Now it is gone, too.
    nobody_is_left_in(home.path()).await;
    assert!(rows_with(Some(two.in_force(home.path())), home.path()) == before);
    let names = names_in(home.path());
    assert!(!names.iter().any(|name| name.contains(".new")), "the next start sweeps it: {names:?}");
}

#[tokio::test]
async fn what_cannot_move_is_refused_before_anything_is_made() {
    let home = home();
    fill_with(None, home.path());
    let before = names_in(home.path());
    // Programs of the same version are no upgrade.
    let bin_dir = match std::env::var_os("PG_BIN_DIR") {
        Some(bin_dir) => PathBuf::from(bin_dir),
        None => installed().await[0].1.clone(),
    };
    let mut same = postgres_on(home.path(), &["upgrade", "--to-bin-dir"]);
    let same = run(same.arg(bin_dir));
    assert_eq!(same.status.code(), Some(1));
    assert!(same.stderr.contains("nothing newer is here"), "{}", same.stderr);
    let mut absent = postgres_on(home.path(), &["upgrade", "--to-bin-dir"]);
    let absent = run(absent.arg(home.path()));
    assert!(absent.stderr.contains("postgres and initdb are not in it"), "{}", absent.stderr);
    assert_eq!(names_in(home.path()), before);

    let Some(two) = two().await else { return };
    let (home, elsewhere) = (self::home(), self::home());
    let old = Some(two.old.1.as_path());
    fill_with(old, home.path());
    let space = elsewhere.path().join("space");
    fs::create_dir(&space).unwrap();
    let cluster = home.path().join(format!("pgdata-{}", two.old.0));
    let owner = fs::metadata(cluster).unwrap().uid();
    chown(&space, Some(owner), None).unwrap();
    psql_with(old, home.path(), &format!("create tablespace elsewhere location '{}'", space.display()));
    let refused = run(&mut two.upgrade(home.path()));
    assert!(refused.stderr.contains("tablespaces (elsewhere)"), "{}", refused.stderr);
    assert!(!home.path().join(format!("pgdata-{}", two.new.0)).exists());
}

#[tokio::test]
async fn an_upgrade_that_fails_leaves_the_old_database_in_force() {
    let Some(two) = two().await else { return };
    let home = home();
    let old = Some(two.old.1.as_path());
    fill_with(old, home.path());
    // A file that only the old cluster has: with this setting the new server does not start, and that is found out in
    // the last step before it is in force.
    let cluster = home.path().join(format!("pgdata-{}", two.old.0));
    let conf = cluster.join("postgresql.conf");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{text}\nhba_file = 'mine.conf'\n")).unwrap();
    fs::copy(cluster.join("pg_hba.conf"), cluster.join("mine.conf")).unwrap();
    let owner = fs::metadata(&cluster).unwrap().uid();
    chown(cluster.join("mine.conf"), Some(owner), None).unwrap();
    let before = names_in(home.path());
    let failed = run(&mut two.upgrade(home.path()));
    assert_eq!(failed.status.code(), Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("mine.conf"), "{}", failed.stderr);
    assert_eq!(names_in(home.path()), before);
    nobody_is_left_in(home.path()).await;
    assert_eq!(psql_with(old, home.path(), "select count(*) from vobiz.cdr_queue"), "2000\n");
}

#[tokio::test]
async fn an_older_dump_restores_into_a_newer_version_and_not_the_other_way() {
    let Some(two) = two().await else { return };
    let (older, newer, files) = (home(), home(), tempfile::tempdir().unwrap());
    let (old, new) = (Some(two.old.1.as_path()), Some(two.new.1.as_path()));
    fill_with(old, older.path());
    // As in a database of another operator: with an owner and with privileges that are not here.
    psql_with(
        old,
        older.path(),
        "create role stranger; grant select on all tables in schema vobiz to stranger",
    );
    psql_with(
        old,
        older.path(),
        "alter table vobiz.cdr owner to stranger; alter schema vobiz owner to stranger",
    );
    let file = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let dump = |bin_dir, home: &Path, name: &str| {
        let dumped = run(&mut with(bin_dir, postgres_on(home, &["dump", &file(name)])));
        assert!(dumped.status.success(), "{}", dumped.stderr);
    };
    let restore = |bin_dir, home: &Path, name: &str| {
        run(&mut with(bin_dir, postgres_on(home, &["restore", &file(name)])))
    };
    dump(old, older.path(), "older");
    let restored = restore(new, newer.path(), "older");
    assert!(restored.status.success(), "{}", restored.stderr);
    assert!(rows_with(new, newer.path()) == rows_with(old, older.path()), "row for row");

    dump(new, newer.path(), "newer");
    let elsewhere = home();
    let refused = restore(old, elsewhere.path(), "newer");
    // The format is not new with every version; where the older programs read it, they may have it.
    if refused.status.success() {
        assert!(rows_with(old, elsewhere.path()) == rows_with(new, newer.path()));
    } else {
        assert!(refused.stderr.contains("PG_BIN_DIR"), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn servers_that_outlive_a_killed_upgrade_are_stopped_by_the_next_start() {
    let Some(two) = two().await else { return };
    if !Path::new("/proc/self/cwd").exists() {
        return;
    }
    in_the_end("the test ends", async {
        let home = home();
        let old = Some(two.old.1.as_path());
        fill_with(old, home.path());
        let mut child = two.upgrade(home.path()).spawn().unwrap();
        let copy_runs = || {
            let name = names_in(home.path()).into_iter().find(|name| name.contains(".new-"));
            let file = name.map(|name| home.path().join(name).join("postmaster.pid"));
            file.is_some_and(|file| fs::read_to_string(file).is_ok_and(|text| text.contains("ready")))
        };
        until("the server of the copy runs", async || copy_runs()).await;
        for watcher in children_of(child.id(), "(sh)") {
            kill_process(watcher, Signal::KILL).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(psql_with(old, home.path(), "select count(*) from vobiz.cdr_queue"), "2000\n");
        assert!(!names_in(home.path()).iter().any(|name| name.contains(".new")));
        nobody_is_left_in(home.path()).await;
    })
    .await;
}
