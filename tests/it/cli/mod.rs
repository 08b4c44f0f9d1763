//! What a person types: help and settings here, and a file for each subcommand.

mod account;
mod backfill;
mod dead_letters;
mod demo;
mod env_file;
mod export;
mod migrate;
mod reconcile;
mod recover;
mod reference;
mod reparse;
mod report;
mod serve;
mod simulate;
mod status;
mod verify;

use crate::support::process::{program, run};

#[test]
fn help_shows_every_subcommand_and_no_secret() {
    let help = run(program(&["--help"]).env("VOBIZ_AUTH_TOKEN", "hidden-token"));
    assert!(help.status.success());
    for word in [
        "serve",
        "demo",
        "simulate",
        "migrate",
        "healthcheck",
        "status",
        "dead-letters",
        "reparse",
        "verify",
        "reconcile",
        "backfill",
        "recover",
        "report",
        "export",
        "postgres",
    ] {
        assert!(help.stdout.contains(word), "{word}");
    }
    let serve = run(program(&["serve", "--help"]).env("VOBIZ_AUTH_TOKEN", "hidden-token"));
    assert!(serve.stdout.contains("VOBIZ_AUTH_TOKEN") && !serve.stdout.contains("hidden-token"));
}

/// Names of all settings that `serve --help` shows, each with its default where it has one.
fn settings() -> Vec<(String, Option<String>)> {
    let help = run(&mut program(&["serve", "--help"])).stdout;
    // Help breaks its lines, also between `[env:` and the name.
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    flat.split("[env: ")
        .skip(1)
        .map(|rest| {
            let name = rest.split(['=', ']']).next().unwrap_or_default().to_owned();
            // The default, if any, stands right behind the name.
            let behind = rest.split_once(']').map_or("", |(_, behind)| behind.trim_start());
            let default = behind.strip_prefix("[default: ").and_then(|rest| rest.split(']').next());
            (name, default.map(str::to_owned))
        })
        .collect()
}

#[test]
fn the_example_environment_shows_every_setting_at_its_default_and_no_other() {
    let known = settings();
    assert!(known.len() > 20, "{known:?}");
    let example = std::fs::read_to_string(format!("{}/.env.example", env!("CARGO_MANIFEST_DIR"))).unwrap();
    // A setting with its value, or one that is commented out.
    let shown = example.lines().filter_map(|line| line.trim_start_matches("# ").split_once('='));
    let shown: Vec<_> = shown.filter(|(name, _)| !name.contains(' ')).collect();
    for (name, default) in &known {
        assert!(shown.iter().any(|(shown, _)| shown == name), "{name} is not in .env.example");
        if let Some(default) = default {
            assert!(
                example.contains(&format!("{name}={default}\n")),
                "{name}={default} is not in .env.example"
            );
        }
    }
    for (name, _) in shown {
        assert!(
            known.iter().any(|(known, _)| known == name),
            ".env.example shows {name}, which is no setting"
        );
    }
}
