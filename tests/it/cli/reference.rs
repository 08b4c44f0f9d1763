//! docs/reference.md says what the program says: every flag, variable and default of `--help`, every metric, and nothing else.

use std::collections::BTreeSet;
use std::fs;

use vobiz_cdr::watch::metrics::{CALLBACK_RESULTS, CONNECTION_REASONS, FETCH_OUTCOMES, LIST_FLOWS};

use crate::support::process::{program, run};

/// One option: as `--help` prints it, or as a row of the page says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Flag {
    name: String,
    variable: String,
    /// `NAME_FILE` is read too: a secret, whose value help does not show.
    file: bool,
    default: String,
}

/// A command and what its `--help` says.
struct Help {
    command: String,
    flags: BTreeSet<Flag>,
}

/// The program's own help and that of all its subcommands.
fn helps(command: &[&str], found: &mut Vec<Help>) {
    // The short form: the long one repeats `[default: …]` in explanations.
    let help = run(program(&[command, &["-h"]].concat())
        .env_remove("CDR_OPS_LISTEN")
        .env_remove("PG_BIN_DIR")
        .env_remove("LOG_FORMAT"));
    let text = help.stdout;
    found.push(Help {
        command: ["vobiz-cdr"].iter().chain(command).copied().collect::<Vec<_>>().join(" "),
        flags: flags(&text),
    });
    let verbs = text.split_once("\nCommands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
    // A line that goes on from the one before is indented further.
    let verbs =
        verbs.lines().filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    for verb in verbs.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help") {
        helps(&[command, &[verb]].concat(), found);
    }
}

fn flags(help: &str) -> BTreeSet<Flag> {
    let mut texts: Vec<String> = Vec::new();
    for line in help.lines() {
        let option = ["      ", "  -h, ", "  -V, "].iter().find_map(|margin| line.strip_prefix(margin));
        match (option.filter(|text| text.starts_with("--")), texts.last_mut()) {
            (Some(text), _) => texts.push(text.to_owned()),
            (None, Some(last)) if line.starts_with("       ") => *last += line,
            // What follows is no option.
            _ => texts.push(String::new()),
        }
    }
    let within = |text: &str, from: &str| {
        text.split_once(from).map(|(_, rest)| rest.split(']').next().unwrap_or_default().to_owned())
    };
    let flag = |text: &String| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let variable = within(&text, "[env: ").unwrap_or_default();
        Flag {
            name: text.split_whitespace().next().unwrap_or_default().to_owned(),
            file: !variable.is_empty() && !variable.ends_with('='),
            variable: variable.trim_end_matches('=').to_owned(),
            default: within(&text, "[default: ").unwrap_or_default(),
        }
    };
    let ours = |flag: &Flag| flag.name.starts_with("--") && !["--help", "--version"].contains(&&*flag.name);
    texts.iter().map(flag).filter(ours).collect()
}

/// A section of the page, its heading without the marks.
struct Section<'a> {
    heading: &'a str,
    lines: Vec<&'a str>,
}

fn sections(page: &str) -> Vec<Section<'_>> {
    let mut sections = vec![Section { heading: "", lines: Vec::new() }];
    for line in page.lines() {
        if line.starts_with('#') {
            sections.push(Section { heading: line.trim_start_matches(['#', ' ']), lines: Vec::new() });
        } else {
            sections.last_mut().unwrap().lines.push(line);
        }
    }
    sections
}

impl Section<'_> {
    /// Cells of its table rows that begin with something in code, without the marks.
    fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.lines.iter().filter(|line| line.starts_with("| `")).map(|line| {
            line.replace("\\|", "/")
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().replace('`', ""))
                .collect::<Vec<_>>()
        })
    }

    fn flags(&self) -> BTreeSet<Flag> {
        let first = |cell: &str| cell.split_whitespace().next().unwrap_or_default().to_owned();
        self.rows()
            .filter(|cells| cells[0].starts_with("--"))
            .map(|cells| match cells.len() {
                5 => Flag {
                    name: first(&cells[0]),
                    variable: cells[1].clone(),
                    file: cells[2] == "yes",
                    default: cells[3].clone(),
                },
                _ => Flag {
                    name: first(&cells[0]),
                    variable: String::new(),
                    file: false,
                    default: cells[1].clone(),
                },
            })
            .collect()
    }
}

#[test]
fn the_reference_has_every_flag_variable_and_default_of_every_command() {
    let page = fs::read_to_string("docs/reference.md").unwrap();
    let sections = sections(&page);
    let section = |heading: &str| {
        let found = sections.iter().find(|section| section.heading == heading);
        found.unwrap_or_else(|| panic!("docs/reference.md has no heading {heading:?}"))
    };
    let mut settings: BTreeSet<Flag> = BTreeSet::new();
    for group in ["Database", "Vobiz", "Service", "Ops", "Logs", "Settings from a file"] {
        settings.extend(section(group).flags());
    }
    let mut helps_found = Vec::new();
    helps(&[], &mut helps_found);
    let mut commands: BTreeSet<String> = BTreeSet::new();
    for Help { command, flags } in helps_found {
        // The program itself has only what each command has.
        let mut said = section("Logs").flags();
        said.extend(section("Settings from a file").flags());
        if command != "vobiz-cdr" {
            let section = section(&command);
            said.extend(section.flags());
            // `Settings: [Group](#group), --flag.`
            // A verb has the settings of its command as well.
            let of_command = sections
                .iter()
                .find(|s| command.rsplit_once(' ').is_some_and(|(whole, _)| s.heading == whole));
            let named = [Some(section), of_command.filter(|s| s.heading != "vobiz-cdr")]
                .into_iter()
                .flatten()
                .filter_map(|section| section.lines.iter().find_map(|line| line.strip_prefix("Settings: ")))
                .flat_map(|line| line.trim_end_matches('.').split(", "));
            for name in named.filter(|name| !name.is_empty()) {
                match name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                    Some((group, _)) => {
                        said.extend(sections.iter().filter(|s| s.heading == group).flat_map(Section::flags));
                    }
                    None => said
                        .extend(settings.iter().filter(|flag| flag.name == name.trim_matches('`')).cloned()),
                }
            }
        }
        let lacking: Vec<_> = flags.difference(&said).collect();
        let stale: Vec<_> = said.difference(&flags).collect();
        assert!(
            lacking.is_empty() && stale.is_empty(),
            "docs/reference.md and `{command} --help` differ: the page lacks {lacking:#?}, and says what is not so: {stale:#?}"
        );
        commands.insert(command);
    }
    let gone =
        sections.iter().map(|s| s.heading).find(|h| h.starts_with("vobiz-cdr ") && !commands.contains(*h));
    assert_eq!(gone, None, "docs/reference.md has a command that is gone");
}

/// Names and labels of the metrics, as `src/watch/metrics.rs` registers them: a vector without a sample shows nowhere else.
fn metrics() -> BTreeSet<(String, String)> {
    let source = fs::read_to_string("src/watch/metrics.rs").unwrap();
    let mut starts: Vec<usize> = ["counters(", "gauges(", "histogram(", "opts("]
        .iter()
        .flat_map(|word| source.match_indices(word).map(move |(at, _)| at + word.len()))
        .filter(|at| source[*at..].trim_start().starts_with('"'))
        .collect();
    starts.sort_unstable();
    let ends = starts.iter().skip(1).copied().chain([source.len()]);
    let quoted = |text: &str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let text = &source[*start..end];
            let labels = text.split_once("&[\"").map_or(String::new(), |(_, rest)| {
                quoted(&format!("\"{}", rest.split(']').next().unwrap())).join(", ")
            });
            (format!("vobiz_cdr_{}", quoted(text)[0]), labels)
        })
        .collect()
}

#[test]
fn the_reference_has_every_metric_with_its_labels() {
    let page = fs::read_to_string("docs/reference.md").unwrap();
    let sections = sections(&page);
    let rows: Vec<Vec<String>> =
        sections.iter().find(|section| section.heading == "Metrics").unwrap().rows().collect();
    let said: BTreeSet<(String, String)> =
        rows.iter().map(|cells| (cells[0].clone(), cells[2].clone())).collect();
    assert_eq!(said, metrics(), "docs/reference.md on the left, src/watch/metrics.rs on the right");
    for (metric, values) in [
        ("callbacks_total", &CALLBACK_RESULTS[..]),
        ("connections_closed_total", &CONNECTION_REASONS[..]),
        ("fetch_total", &FETCH_OUTCOMES[..]),
        ("list_pages_total", &LIST_FLOWS[..]),
    ] {
        let row = rows.iter().find(|cells| cells[0] == format!("vobiz_cdr_{metric}")).unwrap();
        for value in values {
            assert!(row[3].contains(value), "{metric} has the value {value}");
        }
    }
}
