//! Who the server runs as, and how its programs are started. Postgres refuses root, so as root we step down for every
//! program of it; as an ordinary user everything stays ours.

use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::error::StartError;

/// Who may run the server where we are root, the best first: an account of its own, of which no other program reads the calls; that of
/// every Postgres; that of whatever has none.
pub(super) const SYSTEM_USERS: [&str; 3] = ["vobiz-cdr", "postgres", "nobody"];

/// The account that owns the data and runs the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SystemUser {
    name: String,
    /// User and group to become; `None` when we already are who we should be.
    step_down: Option<(u32, u32)>,
}

impl SystemUser {
    /// For the data in `cluster`, if there is any: its owner, since Postgres opens only what belongs to it.
    pub(super) async fn choose(cluster: Option<&Path>) -> Result<SystemUser, StartError> {
        let owner = match cluster {
            Some(path) => {
                let metadata = path.metadata().map_err(StartError::file("look at", path))?;
                Some((path, metadata.uid(), metadata.gid()))
            }
            None => None,
        };
        let we = rustix::process::geteuid();
        if !we.is_root() {
            return match owner {
                Some((folder, owner, _)) if owner != we.as_raw() => {
                    Err(StartError::Owner { folder: folder.to_owned(), owner })
                }
                _ => Ok(SystemUser::ours()),
            };
        }
        // Data of root's is a copy made as root: it is handed to the account we choose, by `own_all`.
        if let Some((_, uid, gid)) = owner.filter(|(_, uid, _)| *uid != 0) {
            return Ok(SystemUser { name: format!("#{uid}"), step_down: Some((uid, gid)) });
        }
        for name in SYSTEM_USERS {
            if let Some(ids) = look_up(name).await.filter(|(uid, _)| *uid != 0) {
                return Ok(SystemUser { name: name.to_owned(), step_down: Some(ids) });
            }
        }
        Err(StartError::NoAccount)
    }

    /// The account this process already has.
    pub(super) fn ours() -> SystemUser {
        SystemUser { name: "ourselves".to_owned(), step_down: None }
    }

    /// A program that runs as this account: out of reach of Ctrl-C (we stop the server ourselves, and in order), with
    /// nothing of our environment. That keeps our tokens out of its reach, and `PGPORT`, `PGOPTIONS` or
    /// `NOTIFY_SOCKET` (the server would tell systemd that *we* are ready) from meaning anything to it.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        for name in ["PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        if let Some((uid, gid)) = self.step_down {
            // Setting a uid also drops the supplementary groups: std does that by itself.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// A few lines of shell that run as this account.
    pub(super) fn shell(&self, script: &str) -> Command {
        let mut command = self.command(Path::new("/bin/sh"));
        command.arg("-c").arg(script).arg("sh");
        command
    }

    /// Gives one file or folder to this account.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        match self.step_down {
            // Never through a link: a planted link must not hand over what it points to.
            Some((uid, gid)) => lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Gives a folder and all that is in it to this account, if it is not this account's already.
    pub(super) fn own_all(&self, folder: &Path) -> io::Result<()> {
        let Some((uid, _)) = self.step_down else { return Ok(()) };
        if folder.symlink_metadata()?.uid() == uid {
            return Ok(());
        }
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.own_all(&entry.path())?;
            } else {
                self.own(&entry.path())?;
            }
        }
        // The folder comes last, so that a run that was cut short is seen as undone.
        self.own(folder)
    }

    /// Names the folder that bars this account's way to `target`, if one does. The kernel is asked, as that account:
    /// mode bits alone do not know of access lists.
    pub(super) async fn check_way(&self, target: &Path) -> Result<(), StartError> {
        if self.step_down.is_none() {
            return Ok(());
        }
        let mut folders: Vec<&Path> = target.ancestors().collect();
        folders.reverse();
        let mut shell =
            self.shell(r#"for folder; do [ -x "$folder" ] || { printf %s "$folder"; exit; }; done"#);
        let output =
            shell.args(&folders).output().await.map_err(StartError::program(Path::new("/bin/sh")))?;
        if output.stdout.is_empty() {
            return Ok(());
        }
        let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).into_owned());
        Err(StartError::Barred { user: self.name.clone(), folder, target: target.to_owned() })
    }

    #[cfg(test)]
    fn stepping_down_to(&self) -> Option<(u32, u32)> {
        self.step_down
    }
}

/// User and group id of an account, by `id`, which also knows the accounts that are not in `/etc/passwd`.
pub(super) async fn look_up(name: &str) -> Option<(u32, u32)> {
    let ask = async |flag: &str| -> Option<u32> {
        let output = Command::new("id").arg(flag).arg(name).stdin(Stdio::null()).output().await.ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    Some((ask("-u").await?, ask("-g").await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_server_never_runs_as_root() {
        let account = SystemUser::choose(None).await.unwrap();
        let output = account.shell("id -u; id -G").output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (uid, groups) = text.trim().split_once('\n').unwrap();
        assert_ne!(uid, "0");
        if rustix::process::geteuid().is_root() {
            let (_, gid) = account.stepping_down_to().unwrap();
            assert_eq!(groups, gid.to_string(), "root's groups are gone too");
        } else {
            assert_eq!(account, SystemUser::ours());
        }
    }

    #[tokio::test]
    async fn a_program_sees_nothing_of_our_environment() {
        let output = SystemUser::ours().shell("env").output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains("CARGO"), "{text}");
        assert!(text.contains("LC_ALL=C"), "{text}");
    }

    #[tokio::test]
    async fn an_unknown_account_is_not_found() {
        assert_eq!(look_up("no-such-account-here").await, None);
    }
}
