//! Makes a cluster: UTF-8, bytewise order, checksums, one superuser `postgres` without a password, reachable through
//! the unix socket only. Promises that a cluster with its final name is complete, and on the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::account::SystemUser;
use super::error::StartError;
use super::folder::{self, Cluster};
use super::leftovers::{self, PidFile};
use super::programs::Programs;

/// It takes half a second; a disk that is this slow would not serve us anyway.
const INITDB_TIMEOUT: Duration = Duration::from_secs(180);

/// Makes the cluster for these programs. Built under another name and renamed at the end: an initdb that is cut short
/// leaves a folder that looks finished (`PG_VERSION` is among the first files it writes).
pub(super) async fn make(
    account: &SystemUser,
    programs: &Programs,
    data_dir: &Path,
) -> Result<Cluster, StartError> {
    let new = make_unfinished(account, programs, data_dir).await?;
    finish(&new, data_dir)
}

/// A cluster for these programs that nobody takes for one yet: it is empty, or being filled.
pub(super) async fn make_unfinished(
    account: &SystemUser,
    programs: &Programs,
    data_dir: &Path,
) -> Result<Cluster, StartError> {
    // A name of its own for every attempt: an initdb whose starter was killed may still be writing to the last one.
    let new = data_dir.join(format!("pgdata-{}.new-{:08x}", programs.major, rand::random::<u32>()));
    folder::make(&new, 0o700).map_err(StartError::file("make", &new))?;
    account.own(&new).map_err(StartError::file("hand over", &new))?;

    let outcome = initdb(account, programs, &new).await;
    if let Err(error) = outcome {
        // What is left is swept at the next start at the latest.
        let _ = fs::remove_dir_all(&new);
        return Err(error);
    }
    Ok(Cluster { path: new, major: programs.major })
}

/// Gives a cluster its name, and with it, where it is the newest, its force. No server may be running on it.
pub(super) fn finish(new: &Cluster, data_dir: &Path) -> Result<Cluster, StartError> {
    let path = folder::cluster_path(data_dir, new.major);
    fs::rename(&new.path, &path).map_err(StartError::file("rename", &new.path))?;
    // A power cut must not undo the name of data that was committed since.
    folder::sync(data_dir)?;
    Ok(Cluster { path, major: new.major })
}

async fn initdb(account: &SystemUser, programs: &Programs, folder: &Path) -> Result<(), StartError> {
    account.check_way(folder).await?;
    let program = programs.initdb();
    let mut command = account.command(&program);
    command.arg("--pgdata").arg(folder);
    command.args([
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C",
        "--data-checksums",
        "--no-instructions",
    ]);
    // A process that gets to the socket may come in, and only root and the server's own account get there. Over TCP nobody
    // may, so that an owner who switches TCP on has to say who.
    command.args(["--auth-local=trust", "--auth-host=reject"]);
    command.kill_on_drop(true);
    let output = tokio::time::timeout(INITDB_TIMEOUT, command.output())
        .await
        .unwrap_or_else(|_| Err(io::Error::other(format!("not done after {} s", INITDB_TIMEOUT.as_secs()))))
        .map_err(StartError::program(&program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(StartError::Initdb {
        folder: folder.to_owned(),
        lines: folder::last_lines(&String::from_utf8_lossy(&said)),
    })
}

/// Removes what attempts that were cut short have left: an initdb, or a copy that an upgrade was filling. What it was
/// copied from is in force still, so there is nothing in it to lose.
pub(super) async fn sweep_unfinished(account: &SystemUser, data_dir: &Path) -> Result<(), StartError> {
    for folder in unfinished(data_dir).map_err(StartError::file("list", data_dir))? {
        // The server of an upgrade that was killed; its watcher is at it, or was killed too.
        if PidFile::read(&folder).is_ok_and(|file| file.is_some_and(|file| file.is_a_servers()))
            && let Err(error) = leftovers::clear(account, &folder, data_dir).await
        {
            tracing::warn!(folder = %folder.display(), %error, "an unfinished database folder is in use");
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&folder) {
            // An orphaned initdb may be adding files faster than we remove them. It is in nobody's way there.
            tracing::warn!(folder = %folder.display(), %error, "an unfinished database folder could not be removed");
        }
    }
    Ok(())
}

fn unfinished(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(is_unfinished) {
            found.push(data_dir.join(name));
        }
    }
    Ok(found)
}

/// `pgdata-<number>.new` and `pgdata-<number>.new-<anything>`, and nothing that could be a copy that the owner keeps.
fn is_unfinished(name: &str) -> bool {
    let Some((number, rest)) = name.strip_prefix("pgdata-").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    number.parse::<u32>().is_ok() && (rest == "new" || rest.starts_with("new-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unfinished_clusters_are_swept() {
        for name in ["pgdata-15.new", "pgdata-15.new-0badcafe"] {
            assert!(is_unfinished(name), "{name}");
        }
        for name in
            ["pgdata-15", "pgdata-15.newer", "pgdata-15.bak", "pgdata-x.new", "pgdata.new", "x.new", ""]
        {
            assert!(!is_unfinished(name), "{name}");
        }
    }
}
