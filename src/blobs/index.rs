//! The search index of a mailbox: few files, some of them large, that change.

use std::collections::BTreeMap;

use super::tree::Tree;
use crate::cancel::Cancel;
use crate::clients::ssh::Limit;
use crate::error::Result;
use crate::parallel::both;

/// The files of an index with their sizes and times, to see whether two are the same or one stands still.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexList(BTreeMap<String, String>);

impl IndexList {
    /// Reads it; empty where there is no index. What rsync does not copy is left out.
    pub fn read(tree: &Tree, cancel: &Cancel) -> Result<Self> {
        let dir = tree.volume.index_dir(tree.mailbox);
        let each = ["-mindepth", "1", "-type", "f", "-printf", "%s %T@\\t%P\\0"];
        // An index has dozens of files; 16 MiB of names are not one.
        let limit = Limit { bytes: 16 << 20, ..Limit::default() };
        let said = tree.find(&dir, &each, limit, cancel)?.unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let entries = said.split_terminator('\0').filter_map(|entry| entry.split_once('\t'));
        let files = entries.filter(|(_, path)| plain(path)).map(|(entry, path)| (path.to_owned(), entry.to_owned()));
        Ok(Self(files.collect()))
    }

    /// Whether it has a file.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Whether there is more than the list of segments and the lock, which are all that an index of no item has.
    pub fn holds_items(&self) -> bool {
        self.0.keys().any(|path| !path.starts_with("segments") && path != "write.lock")
    }

    /// The files that this list has and the other has not or otherwise.
    pub fn beyond(&self, other: &Self) -> Vec<String> {
        self.0.iter().filter(|(path, entry)| other.0.get(*path) != Some(entry)).map(|(path, _)| path.clone()).collect()
    }
}

/// The lists of both sides, read at once.
pub fn index_lists(source: &Tree, dest: &Tree, cancel: &Cancel) -> Result<(IndexList, IndexList)> {
    both(|| IndexList::read(source, cancel), || IndexList::read(dest, cancel))
}

fn plain(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
}
