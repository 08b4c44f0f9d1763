//! The file that a list is written into: the whole new one, or what was there before.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// A file that takes its name when it is whole.
pub(super) struct OutFile {
    /// What is written, and the name that it takes; none where it is written into what is there, a pipe or a terminal.
    beside: Option<(NamedTempFile, PathBuf)>,
    file: File,
}

impl OutFile {
    /// Begins it. Nothing happens to a file of that name yet.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let found = match fs::metadata(path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut target = path.to_owned();
        if let Some(found) = &found {
            // Also where nothing but its folder may be written it is not ours to replace.
            let file = File::options().write(true).open(path)?;
            if !found.is_file() {
                return Ok(Self { beside: None, file });
            }
            // A link stays one.
            target = fs::canonicalize(path)?;
        }
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        // Phone numbers: who else may read them is for their owner to say.
        let for_its_owner = Permissions::from_mode(0o600);
        let beside = Builder::new().prefix(".vobiz-cdr-").permissions(for_its_owner).tempfile_in(folder)?;
        if let Some(found) = found {
            beside.as_file().set_permissions(found.permissions())?;
        }
        Ok(Self { file: beside.reopen()?, beside: Some((beside, target)) })
    }

    /// What to write into.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// All was written: it takes its name.
    pub(super) fn end(self) -> io::Result<()> {
        if let Some((file, target)) = self.beside {
            self.file.sync_all()?;
            file.persist(target).map_err(|error| error.error)?;
        }
        Ok(())
    }
}

/// Whether two names are those of one file.
pub(super) fn is_one_file(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}
