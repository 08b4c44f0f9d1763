//! Whether nobody else can put other data in the place of ours: whose the data folder is, who may write there, and whose the links are
//! on the way to it.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::account::{SYSTEM_USERS, look_up};
use super::error::StartError;

/// Links on one way at most, as the kernel has it.
const MOST_LINKS: usize = 40;

/// Users whose folders and links we go by: root, and us; to root also the accounts that the server runs as, and the user who became root.
#[derive(Debug)]
pub(super) struct Trusted(BTreeSet<u32>);

impl Trusted {
    /// Asks who they are.
    pub(super) async fn find() -> Self {
        let we = rustix::process::geteuid();
        let mut trusted = BTreeSet::from([0, we.as_raw()]);
        if we.is_root() {
            for name in SYSTEM_USERS {
                trusted.extend(look_up(name).await.map(|(uid, _)| uid));
            }
            trusted.extend(std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok()));
        }
        Self(trusted)
    }

    /// Refuses a way that another user can bend: by a link of that user's, or by renaming in a folder that all may write to. What is not
    /// there yet is ours to make.
    pub(super) fn check_way(&self, target: &Path) -> Result<(), StartError> {
        let mut left: VecDeque<OsString> = parts(target).collect();
        let (mut way, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = left.pop_front() {
            if part == ".." {
                way.pop();
                continue;
            }
            way.push(&part);
            let found = match way.symlink_metadata() {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(StartError::file("look at", &way)(error)),
            };
            if found.is_symlink() {
                links += 1;
                if !self.0.contains(&found.uid()) {
                    let why = format!("{} is a link of the user with id {}", way.display(), found.uid());
                    return Err(untrusted(target, why));
                }
                if links > MOST_LINKS {
                    return Err(untrusted(target, "its links lead in a circle".to_owned()));
                }
                let to = fs::read_link(&way).map_err(StartError::file("read", &way))?;
                if to.is_absolute() {
                    way = PathBuf::from("/");
                } else {
                    way.pop();
                }
                for part in parts(&to).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(part);
                }
            } else if !left.is_empty() && may_be_renamed_in(found.permissions().mode()) {
                let why = format!("every user may rename what is in {}", way.display());
                return Err(untrusted(target, why));
            }
        }
        Ok(())
    }

    /// Refuses the folder itself where it is another user's, or all may write to it.
    pub(super) fn check_folder(&self, folder: &Path) -> Result<(), StartError> {
        let found = folder.metadata().map_err(StartError::file("look at", folder))?;
        if !self.0.contains(&found.uid()) {
            return Err(StartError::Owner { folder: folder.to_owned(), owner: found.uid() });
        }
        if found.permissions().mode() & 0o002 != 0 {
            let why = "every user may write to it: chmod o-w, or name a folder in it".to_owned();
            return Err(untrusted(folder, why));
        }
        Ok(())
    }
}

/// Written to by all, and without the bit that leaves to each what is each one's.
fn may_be_renamed_in(mode: u32) -> bool {
    mode & 0o1002 == 0o002
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

fn untrusted(folder: &Path, why: String) -> StartError {
    StartError::Untrusted { folder: folder.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    fn ours() -> Trusted {
        Trusted(BTreeSet::from([0, rustix::process::geteuid().as_raw()]))
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        ours().check_folder(dir.path()).unwrap();
        for mode in [0o777, 0o1777, 0o702] {
            set_mode(dir.path(), mode);
            let error = ours().check_folder(dir.path()).unwrap_err().to_string();
            assert!(error.contains("every user may write to it"), "{error}");
        }
        // Of a folder below, only who may rename it is asked.
        let below = dir.path().join("a/b");
        set_mode(dir.path(), 0o777);
        fs::create_dir_all(&below).unwrap();
        let error = ours().check_way(&below).unwrap_err().to_string();
        assert!(error.contains("every user may rename"), "{error}");
        set_mode(dir.path(), 0o1777);
        ours().check_way(&below).unwrap();
        ours().check_way(&dir.path().join("not/there")).unwrap();
    }

    #[test]
    fn links_are_followed_where_they_are_ours_and_lead_somewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (real, open) = (dir.path().join("real"), dir.path().join("open"));
        fs::create_dir_all(real.join("data")).unwrap();
        fs::create_dir_all(open.join("data")).unwrap();
        set_mode(&open, 0o777);
        symlink(&real, dir.path().join("absolute")).unwrap();
        symlink("real/../real", dir.path().join("relative")).unwrap();
        symlink("open", dir.path().join("astray")).unwrap();
        symlink("circle", dir.path().join("circle")).unwrap();
        for fine in ["absolute/data", "relative/data", "real/../real/data"] {
            ours().check_way(&dir.path().join(fine)).unwrap();
        }
        for (bad, why) in [("astray/data", "every user may rename"), ("circle/data", "in a circle")] {
            let error = ours().check_way(&dir.path().join(bad)).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn what_is_another_users_is_refused() {
        if !rustix::process::geteuid().is_root() {
            println!("only root can make something another user's");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (data, link) = (dir.path().join("data"), dir.path().join("link"));
        fs::create_dir(&data).unwrap();
        symlink(&data, &link).unwrap();
        ours().check_way(&link.join("below")).unwrap();
        lchown(&link, Some(4242), None).unwrap();
        for through in [link.clone(), link.join("below")] {
            let error = ours().check_way(&through).unwrap_err().to_string();
            assert!(error.contains("is a link of the user with id 4242"), "{error}");
        }
        lchown(&data, Some(4242), None).unwrap();
        let error = ours().check_folder(&data).unwrap_err();
        assert!(matches!(error, StartError::Owner { owner: 4242, .. }), "{error}");
    }
}
