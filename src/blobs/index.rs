//! The search index of a mailbox: few files, some of them large, that change.

use std::collections::{BTreeMap, BTreeSet};

use super::checksum::{both, sums};
use super::tree::Tree;
use crate::cancel::Cancel;
use crate::clients::rsync::Transfer;
use crate::clients::ssh::Limit;
use crate::error::Result;

/// A copy of the index that makes the destination's equal, and sends only what changed in large files. The index
/// knows no mailbox id, so it may be copied as it is; it is whole only while the mailbox is frozen.
pub fn copy_index(source: &Tree, dest: &Tree) -> Transfer {
    Transfer { delete: true, whole: false, ..Transfer::new(source.index(), dest.index()) }
}

/// What differs between the two: names that one side does not have, or whose length or content is not the same;
/// and whatever is neither a file nor a directory. Names are escaped.
///
/// Fails as [`Tree::has`] and the shell do.
pub fn index_difference(source: &Tree, dest: &Tree, cancel: &Cancel) -> Result<Vec<String>> {
    let (mut here, mut there) = both(|| files(source, cancel), || files(dest, cancel))?;
    let mut differing: BTreeSet<String> = BTreeSet::new();
    for list in [&mut here, &mut there] {
        // Odd names are shown, never sent to a command.
        list.retain(|path, entry| {
            plain(path) && entry.starts_with("f ") || !differing.insert(path.escape_debug().to_string())
        });
    }
    let all: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    let (same, other): (Vec<&String>, Vec<_>) = all.into_iter().partition(|path| here.get(*path) == there.get(*path));
    differing.extend(other.into_iter().cloned());
    let same: Vec<String> = same.into_iter().cloned().collect();
    if !same.is_empty() {
        let read = |tree: &Tree| sums(tree, &tree.volume.index_dir(tree.mailbox), &same, cancel);
        let (a, b) = both(|| read(source), || read(dest))?;
        differing.extend(same.iter().zip(a.iter().zip(&b)).filter(|(_, (a, b))| a != b).map(|(path, _)| path.clone()));
    }
    Ok(differing.into_iter().collect())
}

/// The files of an index with their sizes and times, to see whether two are the same or one stands still.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexList(BTreeMap<String, String>);

impl IndexList {
    /// Reads it; empty where there is no index. What rsync does not copy is left out.
    pub fn read(tree: &Tree, cancel: &Cancel) -> Result<Self> {
        let mut files = listed(tree, "%y %s %T@\\t%P\\0", cancel)?;
        files.retain(|path, entry| plain(path) && entry.starts_with("f "));
        Ok(Self(files))
    }

    /// Whether it has a file.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
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

/// Everything in the index but directories: path to `type size`.
fn files(tree: &Tree, cancel: &Cancel) -> Result<BTreeMap<String, String>> {
    listed(tree, "%y %s\\t%P\\0", cancel)
}

fn listed(tree: &Tree, format: &str, cancel: &Cancel) -> Result<BTreeMap<String, String>> {
    let dir = tree.volume.index_dir(tree.mailbox);
    let each = ["-mindepth", "1", "!", "-type", "d", "-printf", format];
    // An index has dozens of files; 16 MiB of names are not one.
    let limit = Limit { bytes: 16 << 20, ..Limit::default() };
    let said = tree.find(&dir, &each, limit, cancel)?.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let entries = said.split_terminator('\0').filter_map(|entry| entry.split_once('\t'));
    Ok(entries.map(|(entry, path)| (path.to_owned(), entry.to_owned())).collect())
}

fn plain(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b))
}
