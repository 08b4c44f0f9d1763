//! Passwords and tokens change while the service runs.

use std::net::SocketAddr;

use vobiz_cdr::db;
use vobiz_cdr::postgres::{Postgres, PostgresOptions};
use vobiz_cdr::simulator::{CallSpec, Simulator};

use super::{serve, settings};
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::Callback;
use crate::support::process::free_port;
use crate::support::running::page;
use crate::support::wait::{until, until_is};
use crate::support::world::{options, pool};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_read_from_its_file_when_the_old_one_is_refused_and_at_a_sighup() {
    let folder = tempfile::Builder::new().prefix("vobiz-cdr-rotated.").tempdir().unwrap();
    let postgres = Postgres::start(PostgresOptions {
        data_dir: folder.path().join("data"),
        bin_dir: std::env::var_os("PG_BIN_DIR").map(Into::into),
        settings: Vec::new(),
    })
    .await
    .unwrap();
    let admin_url = postgres.url("vobiz");
    db::create_database(&admin_url, "vobiz").await.unwrap();
    let admin = pool(&admin_url);
    let run = async |sql: &str| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&admin).await.unwrap();
    };
    run("create role rotated superuser login password 'one'").await;
    // Of this role alone a password is asked.
    let cluster: String = sqlx::query_scalar("show hba_file").fetch_one(&admin).await.unwrap();
    let rules = std::fs::read_to_string(&cluster).unwrap();
    std::fs::write(&cluster, format!("local all rotated scram-sha-256\n{rules}")).unwrap();
    run("select pg_reload_conf()").await;

    let mut url = reqwest::Url::parse(&admin_url).unwrap();
    let mut url_with = |password: &str| {
        if url.host_str().is_none_or(str::is_empty) {
            url.set_host(Some("localhost")).unwrap();
        }
        url.set_username("rotated").unwrap();
        url.set_password(Some(password)).unwrap();
        url.to_string()
    };
    let file = folder.path().join("url");
    let vobiz = Simulator::start(options()).await.unwrap();
    let (port, api) = (free_port(), vobiz.api_url());
    std::fs::write(&file, url_with("one")).unwrap();
    let mut settings = settings("", &api, ("CDR_MIGRATE", "true"));
    settings[0] = ("DATABASE_URL_FILE", file.to_str().unwrap());
    let (mut serve, said) = serve(&[], port, &settings);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let callback = async |call_id: &str| Callback::hangup(call_id).by_v3(super::TOKEN).send(address).await;
    until_is("callbacks are taken", 200, async || callback("first").await).await;
    let said_count = |word: &str| said.lock().unwrap().iter().filter(|line| line.contains(word)).count();

    // Nobody tells the service: it finds out at its next connection.
    std::fs::write(&file, url_with("two")).unwrap();
    run("alter role rotated password 'two'").await;
    run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated'").await;
    until_is("callbacks are taken again", 200, async || callback("second").await).await;
    until("it says so", async || said_count("reloaded: DATABASE_URL") >= 1).await;

    // A mistake in the file changes nothing; the right one counts at a SIGHUP, before the old one is refused.
    std::fs::write(&file, url_with("wrong")).unwrap();
    serve.signal("HUP");
    until("the mistake is said", async || said_count("the new DATABASE_URL does not work") == 1).await;
    assert_eq!(callback("third").await, 200);
    let act = "the new DATABASE_URL does not work, the old one stays";
    acts_until(&serve.ops, act, true).await;
    let reloaded = said_count("reloaded: DATABASE_URL");
    run("alter role rotated password 'three'").await;
    std::fs::write(&file, url_with("three")).unwrap();
    serve.signal("HUP");
    until("it is reloaded", async || said_count("reloaded: DATABASE_URL") > reloaded).await;
    acts_until(&serve.ops, act, false).await;
    run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated'").await;
    until_is("callbacks are taken", 200, async || callback("fourth").await).await;
    serve.terminate();
    assert!(serve.wait().success());
    assert_eq!(said_count("rotated:"), 0, "no password is in the log");
    admin.close().await;
    postgres.stop().await.unwrap();
}

/// Waits until `/status` says something, or no longer says it.
async fn acts_until(ops: &str, act: &str, said: bool) {
    let ops: SocketAddr = ops.parse().unwrap();
    until_is(act, said, async || page(ops, "/status").await.1.contains(act)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_mistakes_is_said_until_it_is_mended() {
    let database = Database::new().await;
    let vobiz = Simulator::start(options()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("accounts.toml");
    super::write_accounts(&file, &[(ACCOUNT, super::TOKEN)]);
    let (port, api) = (free_port(), vobiz.api_url());
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("VOBIZ_API_URL", &api),
        ("VOBIZ_ACCOUNTS_FILE", file.to_str().unwrap()),
        ("CDR_CALLBACK_URL", super::SIGNED_FOR),
    ];
    let (mut serve, _) = serve(&[], port, &settings);
    let act = "SIGHUP: not reloaded, the old settings stay: ";
    for mistake in ["[[account]]\nauth_id = \"MA_", "[[account]]\nauth_token = \"no id\"\n"] {
        std::fs::write(&file, mistake).unwrap();
        serve.signal("HUP");
        acts_until(&serve.ops, act, true).await;
        super::write_accounts(&file, &[(ACCOUNT, super::TOKEN)]);
        serve.signal("HUP");
        acts_until(&serve.ops, act, false).await;
    }
    serve.terminate();
    assert!(serve.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_in_a_variable_is_said_to_stay_as_it_is() {
    let database = Database::new().await;
    let vobiz = Simulator::start(options()).await.unwrap();
    let (port, api) = (free_port(), vobiz.api_url());
    let (mut serve, said) = serve(&[], port, &settings(&database.url, &api, ("CDR_SWEEP_INTERVAL", "1h")));
    serve.signal("HUP");
    until("it is said", async || {
        said.lock().unwrap().iter().any(|line| line.contains("DATABASE_URL stands in a variable or a flag"))
    })
    .await;
    serve.terminate();
    assert!(serve.wait().success());
}

/// The answers to the old token come when the new one is in force.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_late_to_an_old_token_does_not_pause_the_new_one() {
    let database = Database::new().await;
    let vobiz = Simulator::start(options()).await.unwrap();
    vobiz.set_token(ACCOUNT, "tok_newer_90a1");
    let way = ChaosProxy::before(&vobiz.api_url()).await;
    way.black_hole();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("accounts.toml");
    super::write_accounts(&file, &[(ACCOUNT, super::TOKEN)]);
    let port = free_port();
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("VOBIZ_API_URL", &way.url),
        ("VOBIZ_ACCOUNTS_FILE", file.to_str().unwrap()),
        ("CDR_CALLBACK_URL", super::SIGNED_FOR),
        ("CDR_FIRST_FETCH_DELAY", "0s"),
    ];
    let (mut serve, said) = serve(&[], port, &settings);
    let call = vobiz.place_call(CallSpec::default()).call_id;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(Callback::hangup(&call).by_v3(super::TOKEN).send(address).await, 200);
    until_is("a request with the old token is under way", 1, async || {
        database.count("select count(*) from vobiz.account where next_slot > registered_at").await
    })
    .await;
    super::write_accounts(&file, &[(ACCOUNT, "tok_newer_90a1")]);
    serve.signal("HUP");
    let is_said = |word: &str| said.lock().unwrap().iter().any(|line| line.contains(word));
    until("it is reloaded", async || is_said("reloaded: accounts")).await;
    assert_eq!(vobiz.stats().total_requests(), 0);
    way.restore();
    until_is("the call is stored", 1, async || database.count("select count(*) from vobiz.cdr").await).await;
    // What is in hand comes to its end.
    serve.terminate();
    assert!(serve.wait().success());
    assert!(!is_said("account paused"), "{:?}", said.lock().unwrap());
    database.every_certain_call_is_somewhere().await;
}
