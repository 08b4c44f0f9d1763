//! Where the server listens: a unix socket in a folder that only root and the server's account can enter. And the
//! address to connect to, as a URL that sqlx and psql read alike.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::account::SystemUser;
use super::error::StartError;
use super::folder;
use super::leftovers::{self, PidFile};

/// What a socket address holds besides its closing zero byte: 108 on Linux, 104 on macOS and the BSDs.
const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// Never listened on; it only names the socket.
const PORT: u16 = 5432;
/// Short, and open to the server's account, neither of which can be said of `TMPDIR`.
const SHORT_PARENT: &str = "/tmp";
const SHORT_PREFIX: &str = "vobiz-cdr-";

/// The folder of the socket.
#[derive(Debug, Clone)]
pub(super) struct Socket {
    pub(super) folder: PathBuf,
    /// A folder under `/tmp` that lives as long as the server, since the data folder's path is too long (or otherwise
    /// unfit).
    pub(super) short_lived: bool,
}

impl Socket {
    /// Makes the folder ready, in the data folder if the path allows.
    pub(super) fn prepare(account: &SystemUser, data_dir: &Path) -> Result<Socket, StartError> {
        let usual = usual_folder(data_dir);
        if fits(&usual) {
            make_or_close(&usual).map_err(StartError::file("make", &usual))?;
            account.own(&usual).map_err(StartError::file("hand over", &usual))?;
            return Ok(Socket { folder: usual, short_lived: false });
        }
        Socket::prepare_short(account)
    }

    /// Makes a folder for one run only: where the usual one does not do, or another server has it.
    pub(super) fn prepare_short(account: &SystemUser) -> Result<Socket, StartError> {
        // The name cannot be guessed and making it fails if it exists, so nobody else can have put it there.
        let name = format!("{SHORT_PREFIX}{:016x}", rand::random::<u64>());
        let short = Path::new(SHORT_PARENT).join(name);
        folder::make(&short, 0o700).map_err(StartError::file("make", &short))?;
        account.own(&short).map_err(StartError::file("hand over", &short))?;
        Ok(Socket { folder: short, short_lived: true })
    }

    /// Where a server that another process started listens, by its own word.
    pub(super) fn of_running(file: &PidFile) -> Option<Socket> {
        let folder = file.socket_folder.clone().filter(|_| file.is_ready() && leftovers::exists(file.pid))?;
        // The process that started it removes it.
        Some(Socket { folder, short_lived: false })
    }

    /// Removes a folder that was made for one run only.
    pub(super) fn clear(&self) {
        if self.short_lived {
            remove_short(&self.folder);
        }
    }

    /// Port and folder, for the server's command line.
    pub(super) fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("listen_addresses", String::new()),
            ("port", PORT.to_string()),
            // It is read as a list, where only quotes keep spaces together.
            (
                "unix_socket_directories",
                format!("\"{}\"", self.folder.display().to_string().replace('"', "\"\"")),
            ),
            ("unix_socket_permissions", "0700".to_owned()),
        ]
    }

    /// The address of one database. The socket's folder is a parameter, because a URL's host cannot be a path; port and
    /// sslmode are there so that no `PGPORT` or `PGSSLMODE` in the environment means anything.
    pub(super) fn url(&self, database: &str) -> String {
        let folder = percent_encoded(self.folder.as_os_str().as_bytes());
        let database = percent_encoded(database.as_bytes());
        format!("postgres://postgres@localhost:{PORT}/{database}?host={folder}&sslmode=disable")
    }
}

impl Socket {
    /// The same for a person's psql, as the environment it starts with: `-d` and `\c` then change the database and not
    /// the server. `None` is a variable that would lead elsewhere, or ask for a proof that a socket cannot give.
    pub(super) fn environment(&self, database: &str) -> [(&'static str, Option<OsString>); 9] {
        [
            ("PGHOST", Some(self.folder.clone().into())),
            ("PGPORT", Some(PORT.to_string().into())),
            ("PGUSER", Some("postgres".into())),
            ("PGDATABASE", Some(database.into())),
            ("PGSSLMODE", Some("disable".into())),
            ("PGHOSTADDR", None),
            ("PGSERVICE", None),
            ("PGREQUIREAUTH", None),
            ("PGCHANNELBINDING", None),
        ]
    }
}

/// Its mode is our whole access control, so it is set even if the folder is there already. A link is not followed.
fn make_or_close(folder: &Path) -> io::Result<()> {
    match folder.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::set_permissions(folder, fs::Permissions::from_mode(0o700)),
        Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
        Err(_) => folder::make(folder, 0o700),
    }
}

/// The socket's folder when the path is short enough.
pub(super) fn usual_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("socket")
}

/// Removes what a server that was killed has left in a socket folder. Only for a server that is known to be gone.
pub(super) fn clear_stale(folder: &Path) -> Result<(), StartError> {
    for name in [format!(".s.PGSQL.{PORT}"), format!(".s.PGSQL.{PORT}.lock")] {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StartError::file("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes the short folder of a run that was killed, if it is one of ours: the name comes from a file in the data
/// folder, and is not to be trusted further than that.
pub(super) fn clear_stale_short(folder: &Path, owner: u32) {
    let named_by_us = folder.parent() == Some(Path::new(SHORT_PARENT))
        && folder.file_name().is_some_and(|name| name.as_bytes().starts_with(SHORT_PREFIX.as_bytes()));
    let made_by_us = folder.symlink_metadata().is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == owner && metadata.permissions().mode() & 0o777 == 0o700
    });
    if named_by_us && made_by_us {
        remove_short(folder);
    }
}

/// Never more than the socket and the folder: a folder with anything else in it stays.
fn remove_short(folder: &Path) {
    if let Err(error) = clear_stale(folder) {
        tracing::debug!(%error, "the socket stays");
    }
    if let Err(error) = fs::remove_dir(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(folder = %folder.display(), %error, "the socket folder stays");
    }
}

/// Whether a socket can be there, and be spoken of: psql reads a comma in a host as the start of a second host.
fn fits(folder: &Path) -> bool {
    !folder.as_os_str().as_bytes().contains(&b',')
        && folder.join(format!(".s.PGSQL.{PORT}")).as_os_str().len() <= LONGEST_PATH
}

/// Everything but letters, digits and `-._~` as `%XX`.
fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// A word a shell takes as it is.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@:+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_plain_text_whatever_the_folder_is_called() {
        let socket = Socket { folder: PathBuf::from("/a b/c&d?é"), short_lived: false };
        assert_eq!(
            socket.url("my db"),
            "postgres://postgres@localhost:5432/my%20db?host=%2Fa%20b%2Fc%26d%3F%C3%A9&sslmode=disable"
        );
    }

    #[test]
    fn a_socket_path_of_the_longest_length_still_fits() {
        // "/" + "/.s.PGSQL.5432" are 15 bytes.
        let folder = |length: usize| PathBuf::from(format!("/{}", "x".repeat(length)));
        assert!(fits(&folder(LONGEST_PATH - 15)));
        assert!(!fits(&folder(LONGEST_PATH - 14)));
        assert!(!fits(Path::new("/a,b")), "psql would see two hosts");
    }

    #[test]
    fn a_shell_takes_the_words_as_they_are() {
        assert_eq!(shell_word("/usr/bin/psql"), "/usr/bin/psql");
        assert_eq!(shell_word("a&b c"), "'a&b c'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn only_a_short_folder_of_ours_is_removed() {
        let uid = rustix::process::geteuid().as_raw();
        let elsewhere = tempfile::tempdir().unwrap();
        clear_stale_short(elsewhere.path(), uid);
        assert!(elsewhere.path().exists(), "another name");

        let ours = Socket::prepare(&SystemUser::ours(), &PathBuf::from("/").join("x".repeat(100))).unwrap();
        assert!(ours.short_lived);
        clear_stale_short(&ours.folder, uid + 1);
        assert!(ours.folder.exists(), "another owner");
        fs::write(ours.folder.join("kept"), "").unwrap();
        clear_stale_short(&ours.folder, uid);
        assert!(ours.folder.exists(), "something of another's is in it");
        fs::remove_file(ours.folder.join("kept")).unwrap();
        clear_stale_short(&ours.folder, uid);
        assert!(!ours.folder.exists());
    }
}
