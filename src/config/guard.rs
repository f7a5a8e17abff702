//! Files that decide or hold secrets: who may have written them, and who may read them.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Context, Error, Kind, Result};
use crate::secret::Secret;

const MAX_SECRET: u64 = 4096;

/// An open file and what was found when it was opened. Looking at the open file and not at its name leaves no
/// moment in which it could be exchanged.
#[derive(Debug)]
pub struct Opened {
    path: PathBuf,
    file: File,
    metadata: Metadata,
}

/// Opens a regular file to read it; fails with [`Kind::Config`].
pub fn open(path: &Path) -> Result<Opened> {
    // Without NONBLOCK a named pipe would hang here until somebody writes.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let opening = || format!("{}: opening", path.display());
    let file = options.open(path).context(Kind::Config, opening)?;
    let metadata = file.metadata().context(Kind::Config, opening)?;
    if !metadata.is_file() {
        return Err(Error::new(Kind::Config, format!("{}: is not a file", path.display())));
    }
    Ok(Opened { path: path.to_owned(), file, metadata })
}

impl Opened {
    /// The file itself.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Fails with [`Kind::Config`] unless only root, Zimbra's user and who runs this can have written it.
    pub fn must_be_trusted(&self) -> Result<()> {
        let shown = self.path.display();
        if !trusted_owner(self.metadata.uid()) {
            let message = format!("{shown}: belongs to user {}, not to root, zimbra or you", self.metadata.uid());
            return Err(Error::new(Kind::Config, message).hint(format!("chown root {shown}")));
        }
        if self.metadata.mode() & 0o022 != 0 {
            return Err(
                Error::new(Kind::Config, format!("{shown}: others can write it")).hint(format!("chmod go-w {shown}"))
            );
        }
        self.check_parents()
    }

    /// As [`must_be_trusted`](Self::must_be_trusted), and nobody else can read it either.
    pub fn must_be_private(&self) -> Result<()> {
        let shown = self.path.display();
        if self.metadata.mode() & 0o077 != 0 {
            let message = format!("{shown}: holds a secret, and others can read it");
            return Err(Error::new(Kind::Config, message).hint(format!("chmod 600 {shown}")));
        }
        self.must_be_trusted()
    }

    /// In a directory that everybody can write and that is not sticky, anybody can put another file in place.
    fn check_parents(&self) -> Result<()> {
        let looking = || format!("{}: looking at its directories", self.path.display());
        let real = fs::canonicalize(&self.path).context(Kind::Config, looking)?;
        for parent in real.ancestors().skip(1) {
            let mode = fs::metadata(parent).context(Kind::Config, looking)?.mode();
            if mode & 0o002 != 0 && mode & 0o1000 == 0 {
                let (path, parent) = (self.path.display(), parent.display());
                let message = format!("{path}: everybody can exchange it, since {parent} is writable by all");
                return Err(Error::new(Kind::Config, message).hint(format!("chmod o-w {parent}")));
            }
        }
        Ok(())
    }
}

/// Reads a secret out of a private file, without the line end; fails with [`Kind::Config`].
pub fn read_secret(path: &Path) -> Result<Secret> {
    let mut opened = open(path)?;
    opened.must_be_private()?;
    let mut text = String::new();
    let reading = || format!("{}: reading a secret", path.display());
    opened.file().take(MAX_SECRET).read_to_string(&mut text).context(Kind::Config, reading)?;
    one_line(&text)
        .ok_or_else(|| Error::new(Kind::Config, format!("{}: is not one line with a secret", path.display())))
}

/// Checks that a key is private, without reading it; fails with [`Kind::Config`].
pub fn check_key(path: &Path) -> Result<()> {
    open(path)?.must_be_private()
}

/// The secret of a text of one line.
pub(super) fn one_line(text: &str) -> Option<Secret> {
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    (!line.is_empty() && !line.contains(['\n', '\0'])).then(|| Secret::new(line))
}

/// Makes a directory that only its owner can enter, with those above it, where it is not there; fails with
/// [`Kind::Config`] for one in which others can write.
pub fn make_dir(path: &Path) -> Result<()> {
    let shown = path.display();
    let making = || format!("{shown}: making the directory");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).context(Kind::Config, making)?;
    let metadata = fs::metadata(path).context(Kind::Config, making)?;
    if !trusted_owner(metadata.uid()) {
        let message = format!("{shown}: belongs to user {}, not to root, zimbra or you", metadata.uid());
        return Err(Error::new(Kind::Config, message));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(
            Error::new(Kind::Config, format!("{shown}: others can write in it")).hint(format!("chmod 700 {shown}"))
        );
    }
    Ok(())
}

fn trusted_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw() || Some(uid) == uid_of("zimbra")
}

/// The number of a user of this host.
pub(super) fn uid_of(name: &str) -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split(':').nth(1)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn modes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "hunter2\n").unwrap();
        for (bits, private, trusted) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o640, false, true),
            (0o604, false, true),
            (0o644, false, true),
            (0o620, false, false),
            (0o602, false, false),
        ] {
            mode(&path, bits);
            let opened = open(&path).unwrap();
            assert_eq!(opened.must_be_private().is_ok(), private, "{bits:o}");
            assert_eq!(opened.must_be_trusted().is_ok(), trusted, "{bits:o}");
        }
        mode(&path, 0o600);
        assert_eq!(read_secret(&path).unwrap().expose(), "hunter2");
        mode(dir.path(), 0o777);
        assert!(check_key(&path).unwrap_err().advice().unwrap().starts_with("chmod o-w "));
        mode(dir.path(), 0o1777);
        assert!(check_key(&path).is_ok());
    }

    #[test]
    fn directories_are_made_private_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/zlm");
        make_dir(&path).unwrap();
        for made in [&path, &dir.path().join("state")] {
            assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700, "{}", made.display());
        }
        for (bits, fine) in [(0o750, true), (0o770, false), (0o707, false)] {
            mode(&path, bits);
            assert_eq!(make_dir(&path).is_ok(), fine, "{bits:o}");
        }
        let error = make_dir(&path).unwrap_err();
        assert_eq!(error.advice().unwrap(), format!("chmod 700 {}", path.display()));
    }

    #[test]
    fn only_files_with_one_line() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).is_err());
        for wrong in ["", "\n", "a\nb\n"] {
            assert!(one_line(wrong).is_none(), "{wrong:?}");
        }
        assert_eq!(one_line("a b\r\n").unwrap().expose(), "a b");
    }
}
