//! What an owner has set on a cluster moves with it to the next version: who may come in (`pg_hba.conf`,
//! `pg_ident.conf`) as it is, and of the settings those that differ from what a new cluster has.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::OFlags;

use super::client::Tools;
use super::error::TaskError;
use super::folder::{self, Cluster};

/// Where the data is, is known to nobody but us.
const NOT_MOVED: [&str; 1] = ["data_directory"];

/// A setting of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ServerSetting {
    value: String,
    /// Made by `alter system`, so that it can be undone by it.
    by_alter_system: bool,
}

type Settings = BTreeMap<String, ServerSetting>;

/// The settings that are to move, as lines for the new cluster's files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    lines: Vec<String>,
    lines_of_alter_system: Vec<String>,
    /// What did not move, or did not move as it was, and what to do about it.
    pub(super) notes: Vec<String>,
}

/// Compares both servers, which are running.
pub(super) async fn compare(
    old: (&Tools, &str),
    new: (&Tools, &str),
    new_major: u32,
) -> Result<Carried, TaskError> {
    let known = new.0.ask(new.1, "select name from pg_catalog.pg_settings;").await?;
    Ok(choose(&read(old.0, old.1).await?, &read(new.0, new.1).await?, &known, new_major))
}

async fn read(tools: &Tools, url: &str) -> Result<Settings, TaskError> {
    // A later line wins, and `alter system` is read last.
    let script = r"
        select name, sourcefile like '%postgresql.auto.conf', replace(setting, E'\n', ' ')
          from pg_catalog.pg_file_settings where name is not null and setting is not null order by seqno;
    ";
    let lines = tools.ask(url, script).await?;
    let settings = lines.iter().filter_map(|line| {
        let mut columns = line.splitn(3, '\t');
        let (name, auto, value) = (columns.next()?, columns.next()?, columns.next()?);
        Some((name.to_lowercase(), ServerSetting { value: value.to_owned(), by_alter_system: auto == "t" }))
    });
    Ok(settings.collect())
}

fn choose(old: &Settings, new: &Settings, known: &[String], new_major: u32) -> Carried {
    let mut carried = Carried::default();
    for (name, setting) in old {
        if NOT_MOVED.contains(&name.as_str()) || new.get(name).is_some_and(|new| new.value == setting.value) {
            continue;
        }
        // A name with a dot is an extension's, known once that is loaded.
        if !name.contains('.') && !known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            carried.notes.push(format!("Postgres {new_major} has no setting {name}; it was left out"));
            continue;
        }
        let mut value = setting.value.as_str();
        if name == "archive_mode" && value != "off" {
            // The new cluster's log begins anew, under names that the old one's archive holds already.
            carried.notes.push(
                "archive_mode is off in the new cluster: its WAL must not mix with the old one's. Point archive_command at \
                 an empty folder, set archive_mode = on, start again, and take a new base backup"
                    .to_owned(),
            );
            value = "off";
        }
        let line = format!("{name} = '{}'", value.replace('\'', "''"));
        if setting.by_alter_system {
            carried.lines_of_alter_system.push(line);
        } else {
            carried.lines.push(line);
        }
    }
    carried
}

impl Carried {
    /// Writes them into the new cluster, together with the files that say who may come in. No server may be running
    /// there; on return all is on the disk.
    pub(super) async fn write(&self, tools: &Tools, old: &Cluster, new: &Cluster) -> Result<(), TaskError> {
        // As the server's account: what its files lead to is not for root to read to it. And into the files that initdb
        // made, which have the right mode.
        let mut shell = tools.account.shell(
            r#"set -e
               for name in pg_hba.conf pg_ident.conf; do
                   if [ -e "$1/$name" ]; then cat "$1/$name" > "$2/$name"; fi
               done"#,
        );
        shell.args([&old.path, &new.path]).stdout(Stdio::piped()).stderr(Stdio::piped());
        tools.run("sh", shell).await?;
        let header = format!("\n# From the cluster of Postgres {}:\n", old.major);
        let files = [
            ("pg_hba.conf", &[][..]),
            ("pg_ident.conf", &[]),
            ("postgresql.conf", &self.lines),
            ("postgresql.auto.conf", &self.lines_of_alter_system),
        ];
        for (name, lines) in files {
            let path = new.path.join(name);
            append(&path, &header, lines).map_err(TaskError::file("write", &path))?;
            tools.account.own(&path).map_err(TaskError::file("hand over", &path))?;
        }
        Ok(())
    }
}

fn append(path: &Path, header: &str, lines: &[String]) -> io::Result<()> {
    let mut file = folder::open_own(path, OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND)?;
    if !lines.is_empty() {
        file.write_all(format!("{header}{}\n", lines.join("\n")).as_bytes())?;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: &[(&str, &str, bool)]) -> Settings {
        let setting =
            |value: &str, by_alter_system| ServerSetting { value: value.to_owned(), by_alter_system };
        all.iter().map(|(name, value, auto)| ((*name).to_owned(), setting(value, *auto))).collect()
    }

    #[test]
    fn what_the_owner_set_moves_and_what_initdb_set_stays() {
        let old = settings(&[
            ("max_connections", "100", false),
            ("work_mem", "64MB", true),
            ("log_line_prefix", "it's %m", false),
            ("vacuum_defer_cleanup_age", "7", false),
            ("auto_explain.log_min_duration", "1s", false),
            ("data_directory", "/elsewhere", false),
        ]);
        let new = settings(&[("max_connections", "100", false)]);
        let known = ["max_connections", "work_mem", "log_line_prefix", "data_directory"].map(str::to_owned);
        let carried = choose(&old, &new, &known, 16);
        assert_eq!(carried.lines, ["auto_explain.log_min_duration = '1s'", "log_line_prefix = 'it''s %m'"]);
        assert_eq!(carried.lines_of_alter_system, ["work_mem = '64MB'"]);
        assert_eq!(carried.notes.len(), 1);
        assert!(carried.notes[0].contains("has no setting vacuum_defer_cleanup_age"));
    }

    #[test]
    fn the_new_log_never_goes_into_the_old_ones_archive() {
        let old = settings(&[("archive_mode", "on", true), ("archive_command", "cp %p /wal/%f", true)]);
        let known = ["archive_mode", "archive_command"].map(str::to_owned);
        let carried = choose(&old, &Settings::new(), &known, 16);
        assert_eq!(
            carried.lines_of_alter_system,
            ["archive_command = 'cp %p /wal/%f'", "archive_mode = 'off'"]
        );
        assert!(carried.notes[0].contains("base backup"));
    }
}
