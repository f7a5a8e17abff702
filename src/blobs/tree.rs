//! The directory of one mailbox on one volume of a store.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::clients::rsync::Place;
use crate::clients::ssh::{Input, Limit, Output, Shell};
use crate::error::{Error, Kind, Result};
use crate::zimbra::blob::FileName;
use crate::zimbra::volume::Volume;

/// The directory of one mailbox on one volume of a store.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Where the store is.
    pub shell: Shell,
    /// One of its volumes.
    pub volume: Volume,
    /// The mailbox's id on this store.
    pub mailbox: u32,
}

/// What is free on a file system for who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes.
    pub bytes: u64,
    /// Files; `None` where the file system has no such limit.
    pub files: Option<u64>,
}

/// Removes files of a directory by their names; the script is fixed, the names are its input.
const REMOVE: &str = "cd -- \"$dir\" && exec xargs -0 -r rm -f --";

/// Syncs files of a directory by their names; the script is fixed, the names are its input.
const SYNC: &str = "cd -- \"$1\" && exec xargs -0 -r sync --";

/// Goes on where all directories up to `--` are directories, with the last as `$dir`.
const GUARD: &str = "until [ \"$1\" = -- ]; do if [ -L \"$1\" ] || ! [ -d \"$1\" ]; then exit 9; fi; dir=$1; shift; \
                     done; shift; ";

/// The status of [`GUARD`] where one of them is not.
const NOT_THERE: i32 = 9;

/// A disk may take its time to write back.
fn patient() -> Limit {
    Limit { total: Some(Duration::from_secs(600)), ..Limit::default() }
}

impl Tree {
    /// The place of its blobs, for rsync.
    pub fn messages(&self) -> Place {
        Place::new(self.shell.clone(), self.volume.message_dir(self.mailbox))
    }

    /// The place of its search index, for rsync.
    pub fn index(&self) -> Place {
        Place::new(self.shell.clone(), self.volume.index_dir(self.mailbox))
    }

    /// Whether `dir`, a directory of this tree, is there.
    ///
    /// Fails with [`Kind::Refused`] when it, or one of those above it up to the volume, is a link or a file.
    pub fn has(&self, dir: &str, cancel: &Cancel) -> Result<bool> {
        let paths = self.way_to(dir)?;
        let mut argv = vec!["find"];
        argv.extend(paths.iter().map(String::as_str));
        argv.extend(["-maxdepth", "0", "-printf", "%y %p\\0"]);
        // Its status only tells that one of them is not there.
        let said = self.run(&argv, Input::None, cancel)?;
        let said = String::from_utf8_lossy(&said.stdout);
        let mut found = 0;
        for entry in said.split_terminator('\0') {
            match entry.strip_prefix("d ") {
                Some(_) => found += 1,
                None => {
                    return Err(self.error(Kind::Refused, format!("{entry}: not a directory, but a link or a file")));
                }
            }
        }
        Ok(found == paths.len())
    }

    /// What `find` with an expression prints of `dir`; `None` when it is not there.
    ///
    /// Fails as [`Tree::has`] does.
    pub(super) fn find(
        &self,
        dir: &str,
        expression: &[&str],
        limit: Limit,
        cancel: &Cancel,
    ) -> Result<Option<Vec<u8>>> {
        let mut said = Vec::new();
        let found = self.find_each(dir, expression, limit, cancel, &mut |piece| said.extend_from_slice(piece))?;
        Ok(found.then_some(said))
    }

    /// The same piece by piece; says whether `dir` is there.
    pub(super) fn find_each(
        &self,
        dir: &str,
        expression: &[&str],
        limit: Limit,
        cancel: &Cancel,
        on_piece: &mut dyn FnMut(&[u8]),
    ) -> Result<bool> {
        let argv = self.inside(dir, "exec find \"$dir\" \"$@\"", expression)?;
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let output = self.shell.stream(&argv, Input::None, limit, cancel, &mut |piece| {
            on_piece(piece);
            Ok(())
        })?;
        match output.status {
            0 => Ok(true),
            _ if !self.was_there(dir, &output, cancel)? => Ok(false),
            _ => Err(self.shell.failure(&["find"], &output)),
        }
    }

    /// The command for a script, which is fixed, with `dir` as `$dir` and arguments as `$@`. Where [`Tree::has`] and another
    /// would be two commands it is one, each of which takes a store 20 ms of processor time; [`Tree::was_there`] judges it.
    pub(super) fn inside(&self, dir: &str, script: &str, arguments: &[&str]) -> Result<Vec<String>> {
        let mut argv: Vec<String> = ["sh", "-c", &format!("{GUARD}{script}"), "sh"].map(String::from).into();
        argv.extend(self.way_to(dir)?);
        argv.push("--".to_owned());
        argv.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Ok(argv)
    }

    /// Whether `dir` was there when a command of [`Tree::inside`] began.
    ///
    /// Fails as [`Tree::has`] does.
    pub(super) fn was_there(&self, dir: &str, output: &Output, cancel: &Cancel) -> Result<bool> {
        if output.status == NOT_THERE {
            self.has(dir, cancel)?;
        }
        Ok(output.status != NOT_THERE)
    }

    /// The directories from the volume's to `dir`.
    pub(super) fn way_to(&self, dir: &str) -> Result<Vec<String>> {
        self.check()?;
        let above = self.volume.path.trim_end_matches('/');
        let inside = dir.strip_prefix(above).filter(|inside| inside.starts_with('/'));
        let inside =
            inside.ok_or_else(|| self.error(Kind::Usage, format!("{dir} is not on volume {}", self.volume.id)))?;
        let mut paths: Vec<String> = Vec::new();
        for part in inside.split('/').skip(1) {
            paths.push(format!("{}/{part}", paths.last().map_or(above, String::as_str)));
        }
        Ok(paths)
    }

    /// Removes the mailbox's directory from the volume; says whether it was there. `dir` must be what this tree
    /// has as the mailbox's directory: a path that came from elsewhere, a journal for one, is not trusted.
    ///
    /// Fails with [`Kind::Refused`] on any other path, and as [`Tree::has`] does. Links in it are removed, what
    /// they point to is not; other file systems below it stay.
    pub fn remove(&self, dir: &str, cancel: &Cancel) -> Result<bool> {
        let own = self.volume.mailbox_dir(self.mailbox);
        if dir != own || self.mailbox == 0 {
            return Err(self.error(
                Kind::Refused,
                format!("{dir:?} is not the directory of mailbox {}, which is {own}", self.mailbox),
            ));
        }
        if !self.has(dir, cancel)? {
            return Ok(false);
        }
        let long = Limit { total: None, ..Limit::default() };
        self.shell.expect(&["rm", "-rf", "--one-file-system", "--", dir], Input::None, long, cancel)?;
        if self.has(dir, cancel)? {
            return Err(self.error(Kind::Io, format!("{dir}: something of it stays")));
        }
        Ok(true)
    }

    /// Removes some of the mailbox's blobs; one that is not there is no error, nor is their directory.
    ///
    /// Fails as [`Tree::has`] does, and as the shell does.
    pub fn remove_files(&self, files: &[FileName], cancel: &Cancel) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let list: Vec<u8> =
            files.iter().flat_map(|file| file.path(&self.volume.bits).into_bytes().into_iter().chain([0])).collect();
        let dir = self.volume.message_dir(self.mailbox);
        let argv = self.inside(&dir, REMOVE, &[])?;
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let long = Limit { total: None, ..Limit::default() };
        let output = self.shell.run(&argv, Input::Bytes(list), long, cancel)?;
        match output.status {
            0 => Ok(()),
            _ if !self.was_there(&dir, &output, cancel)? => Ok(()),
            _ => Err(self.shell.failure(&["rm"], &output)),
        }
    }

    /// What is free on the volume's file system for the user of the store.
    pub fn free_space(&self, cancel: &Cancel) -> Result<Space> {
        self.check()?;
        let argv = ["stat", "-f", "-c", "%a %S %d %c", "--", &self.volume.path];
        let said = self.shell.expect(&argv, Input::None, Limit::default(), cancel)?;
        let said = String::from_utf8_lossy(&said);
        let numbers: Option<Vec<u64>> = said.split_whitespace().map(|word| word.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[blocks, size, free, all]) => {
                Ok(Space { bytes: blocks.saturating_mul(size), files: (all > 0).then_some(free) })
            }
            _ => Err(self.error(Kind::Peer, format!("stat said {said:?} of {}", self.volume.path))),
        }
    }

    /// Makes everything written so far on the volume's file system survive a crash of the store.
    pub fn sync(&self, cancel: &Cancel) -> Result<()> {
        self.check()?;
        self.shell.expect(&["sync", "-f", "--", &self.volume.path], Input::None, patient(), cancel)?;
        Ok(())
    }

    /// Makes some blobs survive a crash of the store: these files, and the directories that name them.
    ///
    /// Fails as the shell does, also when one of them is not there.
    pub fn sync_files(&self, files: &[FileName], cancel: &Cancel) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        self.check()?;
        let paths: Vec<String> = files.iter().map(|file| file.path(&self.volume.bits)).collect();
        let dirs: BTreeSet<&str> = paths.iter().filter_map(|path| path.split_once('/')).map(|(dir, _)| dir).collect();
        let names = paths.iter().map(String::as_str).chain(dirs).chain(["."]);
        let list: Vec<u8> = names.flat_map(|name| name.bytes().chain([0])).collect();
        let argv = ["sh", "-c", SYNC, "sh", &self.volume.message_dir(self.mailbox)];
        self.shell.expect(&argv, Input::Bytes(list), patient(), cancel).map(drop)
    }

    /// Makes the search index, as it is now, survive a crash of the store.
    pub fn sync_index(&self, cancel: &Cancel) -> Result<()> {
        let dir = self.volume.index_dir(self.mailbox);
        let each = ["(", "-type", "f", "-o", "-type", "d", ")", "-exec", "sync", "--", "{}", "+"];
        self.find(&dir, &each, patient(), cancel).map(drop)
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.volume.objection() {
            Some(why) => Err(self.error(Kind::Refused, why)),
            None => Ok(()),
        }
    }

    pub(super) fn error(&self, kind: Kind, what: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("{}: {what}", self.shell))
    }

    fn run(&self, argv: &[&str], input: Input, cancel: &Cancel) -> Result<Output> {
        self.shell.run(argv, input, Limit::default(), cancel)
    }
}
