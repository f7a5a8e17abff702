//! What the user of a store may read and write of its volumes.

use std::time::Duration;

use super::tree::Tree;
use crate::cancel::Cancel;
use crate::clients::ssh::{Input, Limit, Shell};
use crate::error::Result;
use crate::zimbra::volume::Volume;

/// How many paths are named.
const SHOWN: usize = 3;
/// Bytes of paths that are kept.
const KEPT: usize = 16 * 1024;

/// Files and directories of the kinds that are copied, which cannot be read.
const BARRED: &[&str] = &[
    "(",
    "-type",
    "f",
    "!",
    "-readable",
    "-o",
    "-type",
    "d",
    "(",
    "!",
    "-readable",
    "-o",
    "!",
    "-executable",
    ")",
    ")",
    "!",
    "-name",
    "*[!A-Za-z0-9._-]*",
];

impl Tree {
    /// Some files and directories of `dir`, or on the way to it, that the store's user cannot read. Files that come and go
    /// meanwhile are none of them.
    ///
    /// Fails as [`Tree::has`] does.
    pub fn unreadable(&self, dir: &str, cancel: &Cancel) -> Result<Vec<String>> {
        let barred = self.still_unreadable(&self.way_to(dir)?, cancel)?;
        if !barred.is_empty() {
            return Ok(barred);
        }
        let mut each = vec!["-ignore_readdir_race"];
        each.extend(BARRED);
        each.extend(["-printf", "%p\\0", "-prune"]);
        let mut said: Vec<u8> = Vec::new();
        let limit = Limit::idle(Duration::from_secs(300));
        self.find_each(dir, &each, limit, cancel, &mut |piece| {
            let room = KEPT.saturating_sub(said.len());
            said.extend_from_slice(&piece[..piece.len().min(room)]);
        })?;
        // What vanished after it was listed could not be read either.
        self.still_unreadable(&paths(&said), cancel)
    }

    fn still_unreadable(&self, paths: &[String], cancel: &Cancel) -> Result<Vec<String>> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let mut argv = vec!["find"];
        argv.extend(paths.iter().map(String::as_str));
        argv.extend(["-maxdepth", "0"]);
        argv.extend(BARRED);
        argv.extend(["-printf", "%p\\0"]);
        // Its status only tells that one of them is not there.
        let said = self.shell.run(&argv, Input::None, Limit::default(), cancel)?;
        Ok(self::paths(&said.stdout).into_iter().take(SHOWN).collect())
    }
}

/// Whether a volume can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writable {
    /// It can.
    Yes,
    /// Its directory is not there.
    Missing,
    /// This directory of it cannot.
    No(String),
}

/// Whether the store's user can make directories of mailboxes on a volume.
pub fn writable(shell: &Shell, volume: &Volume, cancel: &Cancel) -> Result<Writable> {
    let path = match volume.path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    // The volume's own directory, which may be a link, and those of groups of mailboxes: not a file system's `lost+found`.
    let argv = [
        "find",
        "-H",
        path,
        "-maxdepth",
        "1",
        "-type",
        "d",
        "(",
        "-samefile",
        path,
        "-o",
        "-name",
        "[0-9]*",
        ")",
        "(",
        "!",
        "-writable",
        "-o",
        "!",
        "-executable",
        ")",
        "-printf",
        "%p\\0",
    ];
    let said = shell.run(&argv, Input::None, Limit::default(), cancel)?;
    if let Some(barred) = paths(&said.stdout).into_iter().next() {
        return Ok(Writable::No(barred));
    }
    match shell.run(&["test", "-d", path], Input::None, Limit::default(), cancel)?.status {
        0 => Ok(Writable::Yes),
        _ => Ok(Writable::Missing),
    }
}

/// The whole paths of a list, each with a NUL behind it.
fn paths(list: &[u8]) -> Vec<String> {
    let whole = list.iter().rposition(|&b| b == 0).map_or(0, |end| end + 1);
    list[..whole]
        .split(|&b| b == 0)
        .filter(|path| !path.is_empty())
        .map(|p| String::from_utf8_lossy(p).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_count() {
        assert_eq!(paths(b"/a\0/b\0/c"), ["/a", "/b"]);
        assert_eq!(paths(b"/cut"), Vec::<String>::new());
    }
}
