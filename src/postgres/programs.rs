//! Which server programs to run: `postgres` and `initdb`, of the version that wrote the data, or else the first of the
//! newest that is new enough. Looks, and never installs.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::OLDEST_MAJOR;
use super::account::SystemUser;
use super::error::{StartError, in_words};
use super::folder::Cluster;

/// A folder with server programs, and the version they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) bin_dir: PathBuf,
    pub(super) major: u32,
}

impl Programs {
    pub(super) fn postgres(&self) -> PathBuf {
        self.bin_dir.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.bin_dir.join("initdb")
    }

    /// A client program beside the server, or the one in PATH: they are not always installed together.
    pub(super) fn client(&self, name: &'static str) -> PathBuf {
        let beside = self.bin_dir.join(name);
        if beside.is_file() { beside } else { PathBuf::from(name) }
    }

    /// `psql` beside the server, or whatever the owner's shell finds: it is not always installed together.
    pub(super) fn psql(&self) -> PathBuf {
        self.client("psql")
    }
}

/// The programs in the one folder the owner named.
pub(super) async fn find_in(
    account: &SystemUser,
    bin_dir: &Path,
    cluster: Option<&Cluster>,
) -> Result<Programs, StartError> {
    if !holds_programs(bin_dir) {
        return Err(StartError::NoProgramsIn { bin_dir: bin_dir.to_owned() });
    }
    find(account, &[bin_dir.to_owned()], cluster).await
}

/// The first of `candidates` that will do: for existing data only its own version, else any that is new enough.
pub(super) async fn find(
    account: &SystemUser,
    candidates: &[PathBuf],
    cluster: Option<&Cluster>,
) -> Result<Programs, StartError> {
    let mut others = Vec::new();
    let mut broken = None;
    for bin_dir in candidates.iter().filter(|dir| holds_programs(dir)) {
        let major = match version(account, bin_dir).await {
            Ok(major) => major,
            // One broken installation should not hide a good one further down, but it says more than "nothing found".
            Err(error) => {
                broken.get_or_insert(error);
                continue;
            }
        };
        let programs = Programs { bin_dir: bin_dir.clone(), major };
        let fits = cluster.is_none_or(|cluster| cluster.major == major);
        if fits && major >= OLDEST_MAJOR {
            return Ok(programs);
        }
        others.push(programs);
    }
    Err(match (broken, cluster) {
        (Some(error), _) if others.is_empty() => error,
        (_, Some(cluster)) => StartError::OtherMajor {
            data: cluster.path.clone(),
            major: cluster.major,
            found: in_words(&others),
        },
        (_, None) if others.is_empty() => StartError::NoPrograms,
        (_, None) => StartError::TooOld { found: in_words(&others) },
    })
}

/// Everything that works among `candidates`, in their order, each folder once.
pub(super) async fn all(account: &SystemUser, candidates: &[PathBuf]) -> Vec<Programs> {
    let mut found: Vec<Programs> = Vec::new();
    for bin_dir in candidates.iter().filter(|dir| holds_programs(dir)) {
        if found.iter().any(|programs| programs.bin_dir == *bin_dir) {
            continue;
        }
        if let Ok(major) = version(account, bin_dir).await {
            found.push(Programs { bin_dir: bin_dir.clone(), major });
        }
    }
    found
}

/// The folders to look through on this machine.
pub(super) fn here() -> Vec<PathBuf> {
    candidates(Path::new("/"), std::env::var_os("PATH").as_deref())
}

/// Where distributions put server programs, best first. `root` is `/`, except in a test.
pub(super) fn candidates(root: &Path, path: Option<&OsStr>) -> Vec<PathBuf> {
    // Debian; SUSE; the PGDG packages of RHEL; RHEL's own; Alpine; Homebrew on Apple silicon and on Intel.
    let mut found = newest_first(&root.join("usr/lib/postgresql"), "", "bin");
    found.extend(newest_first(&root.join("usr/lib"), "postgresql", "bin"));
    found.extend(newest_first(&root.join("usr"), "pgsql-", "bin"));
    found.push(root.join("usr/bin"));
    found.extend(newest_first(&root.join("usr/libexec"), "postgresql", ""));
    found.extend(newest_first(&root.join("opt/homebrew/opt"), "postgresql", "bin"));
    found.extend(newest_first(&root.join("usr/local/opt"), "postgresql", "bin"));
    // A relative folder in PATH would mean another program in every working folder.
    found.extend(path.into_iter().flat_map(std::env::split_paths).filter(|dir| dir.is_absolute()));
    found
}

/// The folders `<parent>/<prefix><number>/<below>`, highest number first; one without a number comes last.
fn newest_first(parent: &Path, prefix: &str, below: &str) -> Vec<PathBuf> {
    let mut numbered: Vec<(f64, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let number = name.strip_prefix(prefix)?.trim_start_matches('@');
            // "9.6" is a version too, and must not come before 15.
            let number = if number.is_empty() { 0.0 } else { number.parse().ok()? };
            Some((number, parent.join(&name).join(below)))
        })
        .collect();
    numbered.sort_by(|a, b| b.0.total_cmp(&a.0));
    numbered.into_iter().map(|(_, dir)| dir).collect()
}

fn holds_programs(dir: &Path) -> bool {
    dir.join("postgres").is_file() && dir.join("initdb").is_file()
}

async fn version(account: &SystemUser, bin_dir: &Path) -> Result<u32, StartError> {
    let program = bin_dir.join("postgres");
    // Asked as the server's account, so that programs it cannot reach are found out here, by name.
    let output = match account.command(&program).arg("--version").output().await {
        Ok(output) => output,
        Err(error) => {
            account.check_way(bin_dir).await?;
            return Err(StartError::Program { program, source: error });
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    major_of(&text).ok_or_else(|| StartError::Program {
        source: io::Error::other(format!(
            "--version says {:?} {:?}",
            text.trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        program,
    })
}

/// The major version in `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_is_read_from_every_spelling() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_of("postgres (PostgreSQL) 17devel"), Some(17));
        assert_eq!(major_of("postgres (PostgreSQL) 9.6.24"), Some(9));
        assert_eq!(major_of("bash: not found"), None);
        assert_eq!(major_of(""), None);
    }

    #[test]
    fn the_newest_of_a_place_comes_first_and_path_comes_last() {
        let root = tempfile::tempdir().unwrap();
        for dir in [
            "usr/lib/postgresql/9.6/bin",
            "usr/lib/postgresql/15/bin",
            "usr/lib/postgresql/17/bin",
            "usr/lib/postgresql/common",
            "usr/pgsql-16/bin",
            "opt/homebrew/opt/postgresql@18/bin",
            "opt/homebrew/opt/postgresql/bin",
        ] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        let found = candidates(root.path(), Some(OsStr::new("/somewhere/bin:relative/bin")));
        let expected: Vec<PathBuf> = [
            "usr/lib/postgresql/17/bin",
            "usr/lib/postgresql/15/bin",
            "usr/lib/postgresql/9.6/bin",
            "usr/pgsql-16/bin",
            "usr/bin",
            "opt/homebrew/opt/postgresql@18/bin",
            "opt/homebrew/opt/postgresql/bin",
            "/somewhere/bin",
        ]
        .iter()
        .map(|dir| root.path().join(dir))
        .collect();
        // SUSE's pattern also sees Debian's parent folder, without a number and without a `bin` of its own.
        let found: Vec<PathBuf> =
            found.into_iter().filter(|dir| *dir != root.path().join("usr/lib/postgresql/bin")).collect();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_machine_without_programs_is_told_every_remedy() {
        let empty = tempfile::tempdir().unwrap();
        let account = SystemUser::ours();
        let error = find(&account, &[empty.path().to_owned()], None).await.unwrap_err().to_string();
        for remedy in [
            "apt-get install postgresql",
            "dnf install postgresql-server",
            "brew install postgresql",
            "PG_BIN_DIR",
            "DATABASE_URL",
        ] {
            assert!(error.contains(remedy), "{remedy} is missing in: {error}");
        }
    }

    #[tokio::test]
    async fn programs_that_are_too_old_are_named() {
        let dir = tempfile::tempdir().unwrap();
        fake_programs(dir.path(), "postgres (PostgreSQL) 13.2");
        let error = find(&SystemUser::ours(), &[dir.path().to_owned()], None).await.unwrap_err();
        assert!(matches!(error, StartError::TooOld { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("Postgres 13 in") && message.contains("Postgres 15 is the oldest"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn existing_data_chooses_its_own_version_over_a_newer_one() {
        let (newer, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fake_programs(newer.path(), "postgres (PostgreSQL) 17.1");
        fake_programs(older.path(), "postgres (PostgreSQL) 16.3");
        let both = [newer.path().to_owned(), older.path().to_owned()];
        let cluster = |major| Cluster { path: PathBuf::from("/data").join(format!("pgdata-{major}")), major };

        let fresh = find(&SystemUser::ours(), &both, None).await.unwrap();
        assert_eq!((fresh.major, fresh.bin_dir.as_path()), (17, newer.path()));
        let kept = find(&SystemUser::ours(), &both, Some(&cluster(16))).await.unwrap();
        assert_eq!((kept.major, kept.bin_dir.as_path()), (16, older.path()));
        let message = find(&SystemUser::ours(), &both, Some(&cluster(15))).await.unwrap_err().to_string();
        assert!(message.contains("belongs to Postgres 15"), "{message}");
        assert!(message.contains("Postgres 17 in") && message.contains("postgres upgrade"), "{message}");
    }

    #[tokio::test]
    async fn a_broken_installation_does_not_hide_a_good_one() {
        let (broken, good) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fake_programs(broken.path(), "what?");
        fake_programs(good.path(), "postgres (PostgreSQL) 16.3");
        let both = [broken.path().to_owned(), good.path().to_owned()];
        assert_eq!(find(&SystemUser::ours(), &both, None).await.unwrap().major, 16);
        let error = find(&SystemUser::ours(), &both[..1], None).await.unwrap_err();
        assert!(matches!(error, StartError::Program { .. }), "{error}");
    }

    fn fake_programs(dir: &Path, version: &str) {
        use std::os::unix::fs::PermissionsExt;
        for name in ["postgres", "initdb"] {
            let program = dir.join(name);
            fs::write(&program, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}
