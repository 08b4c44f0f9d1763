//! A dump of one database, in `pg_dump`'s custom format. Promises that a file with the name that was asked for is
//! complete and on the disk, and that it replaces nothing by accident.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::OFlags;

use super::PostgresOptions;
use super::client::OpenPostgres;
use super::error::TaskError;
use super::folder;

/// What a dump came to.
#[derive(Debug)]
pub struct Dumped {
    /// The version of the server it was taken from.
    pub major: u32,
    /// The size of the file.
    pub bytes: u64,
}

/// Dumps `database` into a file, which is refused if it exists, unless `force`. Works beside a running server.
pub async fn dump_to_file(
    options: &PostgresOptions,
    database: &str,
    file: &Path,
    force: bool,
) -> Result<Dumped, TaskError> {
    let partial = Partial::create(file, force)?;
    let output = partial.file.try_clone().map_err(TaskError::file("open", &partial.path))?;
    let major = dump(options, database, output.into()).await?;
    Ok(Dumped { major, bytes: partial.complete()? })
}

/// Dumps `database` to our own standard output.
pub async fn dump_to_stdout(options: &PostgresOptions, database: &str) -> Result<(), TaskError> {
    dump(options, database, Stdio::inherit()).await.map(drop)
}

async fn dump(options: &PostgresOptions, database: &str, output: Stdio) -> Result<u32, TaskError> {
    let reached = OpenPostgres::open(options, database).await?;
    let major = reached.major();
    let mut command = reached.tools.command("pg_dump");
    command.args(["--format=custom", "--no-password", "--dbname", &reached.url()]).stdout(output);
    let dumped = reached.tools.run("pg_dump", command).await;
    let released = reached.release().await;
    dumped?;
    // The dump is complete whichever way the server went.
    if let Err(error) = released {
        tracing::warn!(%error, "after the dump");
    }
    Ok(major)
}

/// `FILE.partial`, until it is complete. Dropping it before that removes it.
#[derive(Debug)]
struct Partial {
    path: PathBuf,
    /// Locked. The program that writes shares the lock, also when we are gone and it is not.
    file: File,
    target: PathBuf,
    force: bool,
    done: bool,
}

impl Partial {
    fn create(target: &Path, force: bool) -> Result<Partial, TaskError> {
        refuse_existing(target, force)?;
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        let path = PathBuf::from(name);
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = folder::open_own(&path, flags).map_err(TaskError::file("make", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TaskError::BeingWritten { partial: path }),
            Err(TryLockError::Error(error)) => return Err(TaskError::file("lock", &path)(error)),
        }
        // Between opening and locking it may have been completed, and have got its name: then it is not to be touched.
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let ours = file.metadata().map(inode).map_err(TaskError::file("look at", &path))?;
        if path.symlink_metadata().map(inode).ok() != Some(ours) {
            return Err(TaskError::BeingWritten { partial: path });
        }
        file.set_len(0).map_err(TaskError::file("empty", &path))?;
        Ok(Partial { path, file, target: target.to_owned(), force, done: false })
    }

    /// Onto the disk, and then to its name.
    fn complete(mut self) -> Result<u64, TaskError> {
        self.file.sync_all().map_err(TaskError::file("sync", &self.path))?;
        let bytes = self.file.metadata().map_err(TaskError::file("look at", &self.path))?.len();
        // The dump took its time; another process may have put a file there.
        refuse_existing(&self.target, self.force)?;
        fs::rename(&self.path, &self.target).map_err(TaskError::file("rename", &self.path))?;
        self.done = true;
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        folder::sync(parent.unwrap_or(Path::new(".")))?;
        Ok(bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done {
            // It is in nobody's way, and its name says what it is.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refuse_existing(target: &Path, force: bool) -> Result<(), TaskError> {
    // A link that leads nowhere is something, too.
    if !force && target.symlink_metadata().is_ok() {
        return Err(TaskError::Exists { file: target.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_has_its_name_only_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("calls.dump");
        let mut partial = Partial::create(&target, false).unwrap();
        partial.file.write_all(b"half").unwrap();
        assert!(!target.exists());
        drop(partial);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "what was cut short is gone");

        let mut partial = Partial::create(&target, false).unwrap();
        partial.file.write_all(b"whole").unwrap();
        assert!(matches!(Partial::create(&target, false), Err(TaskError::BeingWritten { .. })));
        assert_eq!(partial.complete().unwrap(), 5);
        assert_eq!(fs::read(&target).unwrap(), b"whole");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o600, "phone numbers are in it");
    }

    #[test]
    fn a_file_that_exists_is_replaced_only_on_demand() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("calls.dump");
        let partial = Partial::create(&target, false).unwrap();
        fs::write(&target, "appeared meanwhile").unwrap();
        assert!(matches!(partial.complete(), Err(TaskError::Exists { .. })));
        assert!(matches!(Partial::create(&target, false), Err(TaskError::Exists { .. })));
        Partial::create(&target, true).unwrap().complete().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"");
        assert!(!dir.path().join("calls.dump.partial").exists());
    }
}
