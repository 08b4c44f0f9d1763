//! `simulate`: a Vobiz to develop against, until it is told to stop.

use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Duration;

use vobiz_cdr::vobiz::http_client;

use crate::support::process::{program, run};

#[tokio::test]
async fn it_makes_the_calls_that_were_asked_for_lists_them_and_ends_on_sigterm() {
    let arguments = ["simulate", "--listen", "127.0.0.1:0", "--calls", "3", "--per-second", "1000"];
    let mut command = program(&arguments);
    command.env("LOG_FORMAT", "json");
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = |words: &str| -> serde_json::Value {
        let line = lines.find(|line| line.contains(words)).unwrap_or_else(|| panic!("it never said {words}"));
        serde_json::from_str(&line).unwrap()
    };
    let api = said("a simulated Vobiz answers")["api"].as_str().unwrap().to_owned();
    said("all calls are made");
    let client = http_client(Duration::from_secs(60)).unwrap();
    let page = client
        .get(format!("{api}/api/v1/Account/MA_SIMULATE/cdr"))
        .header("X-Auth-ID", "MA_SIMULATE")
        .header("X-Auth-Token", "tok_simulated_main");
    let page: serde_json::Value =
        serde_json::from_slice(&page.send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(page["data"].as_array().map(Vec::len), Some(3), "{page}");
    let ended = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(ended.success());
    said("stopped");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_fault_that_there_is_not_and_a_share_that_is_none_are_refused() {
    for (fault, words) in [
        ("late", "write NAME=SHARE"),
        ("late=2", "no share from 0 to 1"),
        ("weather=0.5", "there is no fault \"weather\""),
    ] {
        let refused = run(&mut program(&["simulate", "--listen", "127.0.0.1:0", "--fault", fault]));
        assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(words), "{fault}: {}", refused.stderr);
    }
}
