//! The private directory of the sockets of one run.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::user::User;
use crate::error::{Context, Error, Kind, Result};

/// `ssh` binds a control socket under its name and 17 bytes more before it renames it, and a socket's path
/// holds 107 bytes.
const LONGEST: usize = 107 - 17 - "/0000.ctl".len();

/// A directory of mode 0700, removed when dropped.
#[derive(Debug)]
pub struct RunDir {
    dir: TempDir,
    user: Option<User>,
    serial: AtomicU32,
}

impl RunDir {
    /// Makes one. With a `user` it belongs to that user, and whatever uses its sockets runs as that user: a
    /// kept connection serves only children of its own user.
    ///
    /// Fails with [`Kind::Io`].
    pub fn new(user: Option<User>) -> Result<Self> {
        let here = std::env::temp_dir();
        // A long or odd TMPDIR would make paths that sockets, or rsync's splitting of its shell, cannot take.
        Self::under(if fits(&here) { &here } else { Path::new("/tmp") }, user)
    }

    fn under(parent: &Path, user: Option<User>) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("zlm-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .context(Kind::Io, || format!("directory for sockets in {}: creating", parent.display()))?;
        if !fits(dir.path()) {
            return Err(Error::new(Kind::Io, format!("{}: path is too long for a socket", dir.path().display())));
        }
        if let Some(user) = &user {
            chown(dir.path(), Some(user.uid), Some(user.gid))
                .context(Kind::Io, || format!("{}: giving it to {}", dir.path().display(), user.name))?;
        }
        Ok(Self { dir, user, serial: AtomicU32::new(0) })
    }

    /// The user that children around these sockets run as; `None` is the user of this process.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it that was not given out before.
    pub(super) fn fresh(&self, suffix: &str) -> PathBuf {
        let n = self.serial.fetch_add(1, Ordering::Relaxed);
        self.dir.path().join(format!("{n}.{suffix}"))
    }
}

fn fits(path: &Path) -> bool {
    path.to_str().is_some_and(|text| {
        text.len() + "/zlm-XXXXXX".len() <= LONGEST
            && text.starts_with('/')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_short_and_removed() {
        let dir = RunDir::new(None).unwrap();
        let path = dir.path().to_owned();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
        assert!(dir.fresh("ctl").as_os_str().len() + 17 < 104);
        assert_ne!(dir.fresh("ctl"), dir.fresh("ctl"));
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn odd_places_do_not_fit() {
        assert!(fits(Path::new("/var/tmp")));
        for odd in ["tmp", "/tmp/a b", "/tmp/%h", "/tmp/$(id)"] {
            assert!(!fits(Path::new(odd)), "{odd}");
        }
        assert!(!fits(Path::new(&"/long".repeat(20))));
    }
}
