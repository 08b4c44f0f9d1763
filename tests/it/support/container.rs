//! A Postgres in a container for the tests of a run: `TEST_POSTGRES=docker`, and `TEST_POSTGRES_IMAGE` for another than
//! `postgres:17`. Where no container can be had, that is said once, and the run goes on with a Postgres of our own.
//!
//! The container belongs to a helper, which is this test binary once more in a process of its own. It removes the container
//! when our end of its standard input closes: at the end of the run, however we end, also by kill -9.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt, TestcontainersError};

/// Tells the helper which image to run.
const HOLD: &str = "VOBIZ_CDR_TEST_CONTAINER";
const HELPER: &str = "support::container::a_helper_process_holds_a_container_until_its_input_ends";

/// The address of a Postgres in a container; nothing where none is asked for, or can be had.
pub(super) fn postgres() -> Option<String> {
    match env::var("TEST_POSTGRES").as_deref() {
        Ok("docker") => {}
        Ok("") | Err(_) => return None,
        Ok(other) => panic!("TEST_POSTGRES={other}: write docker, or leave it out for a Postgres of our own"),
    }
    let image = env::var("TEST_POSTGRES_IMAGE").unwrap_or_else(|_| "postgres:17".to_owned());
    let held = if env::var_os("NEXTEST").is_some() {
        Err("nextest runs every test in a process of its own, each with its container: use cargo test".into())
    } else {
        hold(&image)
    };
    match held {
        Ok(url) => {
            say(&format!("Postgres of these tests: {image} in a container"));
            Some(url)
        }
        Err(why) => {
            say(&format!("no container for these tests, they run on a Postgres of our own: {why}"));
            None
        }
    }
}

/// To a person, past the test harness, which swallows what `eprintln!` says in a test that passes.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn hold(image: &str) -> Result<String, String> {
    let mut helper = Command::new(env::current_exe().unwrap());
    helper.args(["--exact", HELPER, "--nocapture"]).env(HOLD, image);
    // A group of its own: Ctrl-C ends us, and then it ends in order.
    helper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut helper = helper.spawn().unwrap();
    let mut lines = BufReader::new(helper.stdout.take().unwrap()).lines().map_while(Result::ok);
    let answer = lines.find_map(|line| match line.split_once(' ')? {
        ("url", url) => Some(Ok(url.to_owned())),
        ("none", why) => Some(Err(why.to_owned())),
        _ => None,
    });
    // Both pipes stay open for as long as we live: its input, which it waits on, and its output, since the harness says
    // after a minute that the helper is slow, and ends it if nobody listens.
    std::mem::forget((helper, lines));
    answer.unwrap_or_else(|| Err("its helper ended".to_owned()))
}

#[tokio::test]
async fn a_helper_process_holds_a_container_until_its_input_ends() {
    let Ok(image) = env::var(HOLD) else { return };
    let (container, line) = match start(&image).await {
        Ok((container, url)) => (Some(container), format!("url {url}")),
        Err(error) => (None, format!("none {}", error.to_string().replace('\n', " "))),
    };
    // The run that asked may be gone already; the container must go all the same. (The harness has begun a line of its own.)
    #[expect(clippy::disallowed_methods, reason = "the run that asked may be gone")]
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "\n{line}");
    let Some(container) = container else { return };
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = ended.await;
    container.rm().await.unwrap();
}

async fn start(image: &str) -> Result<(ContainerAsync<GenericImage>, String), TestcontainersError> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    // The port is open to the network of this machine.
    let password = uuid::Uuid::new_v4().simple().to_string();
    let container = GenericImage::new(name, tag)
        .with_exposed_port(5432.tcp())
        // On stderr once: the server that only initialises the data folder says it on stdout.
        .with_wait_for(WaitFor::message_on_stderr("database system is ready to accept connections"))
        .with_env_var("POSTGRES_PASSWORD", &password)
        // UTF-8 and bytewise order, like the Postgres of our own, whatever the image thinks of it.
        .with_env_var("LANG", "C.UTF-8")
        .with_cmd(["postgres", "-c", "max_connections=300"])
        .start()
        .await?;
    let (host, port) = (container.get_host().await?, container.get_host_port_ipv4(5432.tcp()).await?);
    Ok((container, format!("postgres://postgres:{password}@{host}:{port}/postgres")))
}
