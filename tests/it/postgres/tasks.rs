//! `postgres psql`, `dump` and `restore`, as their user meets them: the built program on real servers.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use vobiz_cdr::postgres::Postgres;

use super::support::{
    ask, children_of, fill, home, names_in, nobody_is_left_in, options, pid, postgres_on, psql, rows,
};
use crate::support::process::{Finished, Serve, free_port, program, run};
use crate::support::wait::{in_the_end, until};

fn task(data_dir: &Path, arguments: &[&str]) -> Finished {
    run(&mut postgres_on(data_dir, arguments))
}

fn serve(data_dir: &Path) -> Serve {
    let port = free_port();
    Serve::start(
        port,
        &[
            ("CDR_DATA_DIR", data_dir.to_str().unwrap()),
            ("VOBIZ_AUTH_ID", "MA_TESTAB12"),
            ("VOBIZ_AUTH_TOKEN", "tok"),
            ("VOBIZ_API_URL", "http://127.0.0.1:9"),
            ("CDR_SIGNATURES", "off"),
        ],
    )
}

#[test]
fn a_dump_becomes_the_same_rows_in_another_folder() {
    let (home, elsewhere, files) = (home(), home(), tempfile::tempdir().unwrap());
    fill(home.path());
    let file = files.path().join("calls.dump");
    let file = file.to_str().unwrap();
    let dumped = task(home.path(), &["dump", file]);
    assert!(dumped.status.success(), "{}", dumped.stderr);
    assert!(dumped.stdout.is_empty() && dumped.stderr.contains("dumped database vobiz"), "{}", dumped.stderr);
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(names_in(files.path()), ["calls.dump"], "nothing partial is left");

    let again = task(home.path(), &["dump", file]);
    assert_eq!(again.status.code(), Some(1));
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    assert!(task(home.path(), &["dump", file, "--force"]).status.success());
    let piped = postgres_on(home.path(), &["dump"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout.starts_with(b"PGDMP"));

    // A first start has been there, as on a new machine.
    assert!(
        run(program(&["migrate", "apply", "--own"]).env("CDR_DATA_DIR", elsewhere.path())).status.success()
    );
    let restored = task(elsewhere.path(), &["restore", file]);
    assert!(restored.status.success(), "{}", restored.stderr);
    assert!(restored.stderr.contains("start `vobiz-cdr serve`"), "{}", restored.stderr);
    let (before, after) = (rows(home.path()), rows(elsewhere.path()));
    assert!(before.lines().count() > 2000, "{before}");
    assert!(before == after, "row for row");
    let databases = psql(elsewhere.path(), "select datname from pg_database where datname like 'vobiz%'");
    assert_eq!(databases, "vobiz\n");
    assert!(!names_in(elsewhere.path()).contains(&"restore.unfinished".to_owned()));

    let onto_data = task(home.path(), &["restore", file]);
    assert_eq!(onto_data.status.code(), Some(1));
    let said = onto_data.stderr;
    assert!(said.contains("vobiz.cdr_queue: 2000 rows") && said.contains("another folder"), "{said}");
    assert!(rows(home.path()) == before, "nothing was touched");
}

#[test]
fn beside_a_running_service_one_may_look_and_dump_but_not_restore() {
    let (home, files) = (home(), tempfile::tempdir().unwrap());
    fill(home.path());
    let file = files.path().join("calls.dump");
    let file = file.to_str().unwrap();
    let running = serve(home.path());
    assert_eq!(psql(home.path(), "select 1"), "1\n");
    let dumped = task(home.path(), &["dump", file]);
    assert!(dumped.status.success(), "{}", dumped.stderr);
    for verb in [&["restore", file][..], &["upgrade"]] {
        let refused = task(home.path(), verb);
        assert_eq!(refused.status.code(), Some(1), "{verb:?}");
        let said = &refused.stderr;
        // Where nothing newer is installed, that is said first.
        assert!(said.contains("another running vobiz-cdr") || said.contains("nothing newer"), "{said}");
    }
    drop(running);
    let elsewhere = self::home();
    let restored = task(elsewhere.path(), &["restore", file]);
    assert!(restored.status.success(), "{}", restored.stderr);
    assert_eq!(psql(elsewhere.path(), "select count(*) from vobiz.cdr_queue"), "2000\n");
}

#[test]
fn psql_has_its_arguments_its_exit_code_and_a_server_for_as_long_as_it_runs() {
    let home = home();
    for verb in [&["psql"][..], &["dump", "-"], &["upgrade"]] {
        let finished = task(home.path(), verb);
        assert_eq!(finished.status.code(), Some(1));
        assert!(finished.stderr.contains("there is no Postgres of our own in"), "{}", finished.stderr);
        assert_eq!(names_in(home.path()).len(), 0, "a mistyped folder gets no database");
    }
    fill(home.path());
    let finished = task(home.path(), &["psql", "--", "-v", "ON_ERROR_STOP=1", "-c", "select 1/0"]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert_eq!(task(home.path(), &["psql", "--", "--no-such-flag"]).status.code(), Some(1));
    let finished = task(home.path(), &["psql", "--", "-Atc", "select current_user, current_database()"]);
    assert_eq!(finished.stdout, "postgres|vobiz\n");
    let mut other =
        postgres_on(home.path(), &["psql", "--", "-d", "postgres", "-Atc", "select current_database()"]);
    let finished = run(other.env("PGHOST", "/nowhere").env("PGPORT", "1").env("PGSERVICE", "x"));
    assert_eq!(finished.stdout, "postgres\n", "the same server: {}", finished.stderr);
    let mut elsewhere = postgres_on(home.path(), &["psql"]);
    elsewhere.env_remove("CDR_DATA_DIR").env("DATABASE_URL", "postgres://elsewhere/calls");
    let finished = run(&mut elsewhere);
    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("DATABASE_URL is set"), "{}", finished.stderr);
}

#[tokio::test]
async fn ctrl_c_is_for_psql_and_we_outlive_it() {
    in_the_end("the test ends", async {
        let home = home();
        fill(home.path());
        let mut child = postgres_on(home.path(), &["psql", "--", "-Atc", "select pg_sleep(1.5), 'slept'"]);
        let child = child.spawn().unwrap();
        let psql_of = |child: &Child| children_of(child.id(), "(psql)");
        until("psql runs", async || !psql_of(&child).is_empty()).await;
        for signal in [Signal::INT, Signal::INT, Signal::QUIT] {
            kill_process(pid(child.id()), signal).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("slept"));

        // SIGTERM is for us, so it is passed on.
        let mut child = postgres_on(home.path(), &["psql", "--", "-c", "select pg_sleep(50)"]);
        let child = child.spawn().unwrap();
        until("psql runs", async || !psql_of(&child).is_empty()).await;
        kill_process(pid(child.id()), Signal::TERM).unwrap();
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(128 + 15));
        nobody_is_left_in(home.path()).await;
    })
    .await;
}

#[test]
fn a_file_that_is_no_dump_of_ours_is_refused_before_anything_is_made() {
    let (home, other, files) = (home(), home(), tempfile::tempdir().unwrap());
    fill(other.path());
    let file = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    fs::write(file("text"), "select 1;").unwrap();
    fs::write(file("cut"), "PGDMP").unwrap();
    let mut schema_only = postgres_on(other.path(), &["psql", "--", "-c", "drop table vobiz.cdr cascade"]);
    assert!(run(&mut schema_only).status.success());
    assert!(task(other.path(), &["dump", &file("without")]).status.success());
    for (name, why) in [
        ("text", "cannot be restored"),
        ("cut", "cannot be restored"),
        ("without", "it has no TABLE vobiz cdr in it"),
        ("", "it is a folder"),
        ("absent", "could not open"),
    ] {
        let refused = task(home.path(), &["restore", &file(name)]);
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(refused.stderr.contains(why), "{name}: {}", refused.stderr);
    }
    assert_eq!(names_in(home.path()).len(), 0);
}

#[test]
fn a_restore_that_fails_leaves_no_database() {
    let (home, elsewhere, files) = (home(), home(), tempfile::tempdir().unwrap());
    fill(home.path());
    // Like many a function of an analyst, it only works with a search_path, which no dump has.
    for sql in [
        "create function public.spoil(text) returns boolean language plpgsql
         as $$ begin return exists (select from cdr); end $$",
        "create table public.spoilt (word text check (public.spoil(word)))",
        "set search_path = vobiz; insert into public.spoilt values ('x')",
    ] {
        psql(home.path(), sql);
    }
    let file = files.path().join("calls.dump");
    assert!(task(home.path(), &["dump", file.to_str().unwrap()]).status.success());
    let failed = task(elsewhere.path(), &["restore", file.to_str().unwrap()]);
    assert_eq!(failed.status.code(), Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("pg_restore failed"), "{}", failed.stderr);
    let databases =
        ["psql", "--", "-d", "postgres", "-Atc", "select datname from pg_database where datname ~ 'vobiz'"];
    let databases = task(elsewhere.path(), &databases);
    assert_eq!((databases.stdout.as_str(), databases.status.code()), ("", Some(0)), "{}", databases.stderr);
    assert!(!names_in(elsewhere.path()).contains(&"restore.unfinished".to_owned()));
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_nothing_behind_after_the_next_start() {
    in_the_end("the test ends", async {
        let (home, elsewhere, files) = (home(), home(), tempfile::tempdir().unwrap());
        fill(home.path());
        let file = files.path().join("calls.dump");
        assert!(task(home.path(), &["dump", file.to_str().unwrap()]).status.success());
        let mut child = postgres_on(elsewhere.path(), &["restore", file.to_str().unwrap()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let note = elsewhere.path().join("restore.unfinished");
        until("the restore has begun", async || {
            fs::read_to_string(&note).is_ok_and(|names| names.contains("_restoring_"))
        })
        .await;
        // From here on only pg_restore goes on: the end of the restore cannot come before the kill.
        kill_process(pid(child.id()), Signal::STOP).unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(note.exists(), "it was in the middle");
        nobody_is_left_in(elsewhere.path()).await;
        let postgres = Postgres::start(options(elsewhere.path())).await.unwrap();
        assert_eq!(
            ask(&postgres, "select count(*)::text from pg_database where datname ~ 'vobiz'").await,
            "0"
        );
        assert!(!note.exists());
        postgres.stop().await.unwrap();
        assert!(task(elsewhere.path(), &["restore", file.to_str().unwrap()]).status.success());
        assert!(rows(home.path()) == rows(elsewhere.path()));
    })
    .await;
}
