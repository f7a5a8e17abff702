//! The blobs that the rows name, against what both stores have.

use std::collections::BTreeMap;
use std::io::Read;

use super::listing::Listing;
use crate::clients::ssh::Input;
use crate::error::Result;
use crate::zimbra::blob::{BlobName, FileName};
use crate::zimbra::volume::{Bits, Mapping};

/// A blob that a row of the source names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expected {
    /// Which.
    pub name: BlobName,
    /// The source's volume that its locator names.
    pub volume: u8,
}

/// What keeps the destination from having every blob that the rows name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Names that were compared.
    pub expected: u64,
    /// Bytes of their files on the source.
    pub bytes: u64,
    /// Not on the source either.
    pub lost: Vec<Expected>,
    /// To copy, by the source's volume: the destination has no such file, or one of another length. Sorted.
    pub copy: BTreeMap<u8, Vec<FileName>>,
    /// On the destination, by its volume, but named by no row. Sorted.
    pub extra: BTreeMap<u8, Vec<FileName>>,
}

impl Difference {
    /// Whether the destination has every blob, and no other.
    pub fn is_none(&self) -> bool {
        self.lost.is_empty() && self.copy.is_empty() && self.extra.is_empty()
    }

    /// How many files are to copy.
    pub fn to_copy(&self) -> usize {
        self.copy.values().map(Vec::len).sum()
    }
}

/// Compares. `expected` may come in any order and name a blob twice; listings are by volume id of their own
/// store, a volume without one counts as empty.
///
/// Fails with what `expected` fails with.
pub fn difference(
    expected: impl IntoIterator<Item = Result<Expected>>,
    source: &BTreeMap<u8, Listing>,
    dest: &BTreeMap<u8, Listing>,
    mapping: &Mapping,
) -> Result<Difference> {
    let mut result = Difference::default();
    let mut named: BTreeMap<u8, Vec<bool>> =
        dest.iter().map(|(&id, list)| (id, vec![false; list.files().len()])).collect();
    for blob in expected {
        let blob = blob?;
        result.expected += 1;
        let Some((_, file)) = source.get(&blob.volume).and_then(|list| list.find(blob.name)) else {
            result.lost.push(blob);
            continue;
        };
        result.bytes += file.bytes;
        let target = mapping.get(blob.volume);
        let there = target.and_then(|id| Some((id, dest.get(&id)?.get(file.name)?)));
        if let Some((id, (at, _))) = there
            && let Some(named) = named.get_mut(&id)
        {
            named[at] = true;
        }
        if there.is_none_or(|(_, (_, there))| there.bytes != file.bytes) {
            result.copy.entry(blob.volume).or_default().push(file.name);
        }
    }
    for names in result.copy.values_mut() {
        names.sort_unstable();
        names.dedup();
    }
    result.lost.sort_unstable();
    result.lost.dedup();
    for (id, named) in named {
        let Some(list) = dest.get(&id) else { continue };
        let extra: Vec<FileName> =
            list.files().iter().zip(named).filter(|(_, named)| !named).map(|(file, _)| file.name).collect();
        if !extra.is_empty() {
            result.extra.insert(id, extra);
        }
    }
    Ok(result)
}

/// The list of these files that rsync and `xargs` read: paths below a mailbox's directory of blobs, each with a
/// NUL.
pub fn names(files: Vec<FileName>, bits: Bits) -> Input {
    Input::From(Box::new(Names { files: files.into_iter(), bits, line: Vec::new(), at: 0 }))
}

struct Names {
    files: std::vec::IntoIter<FileName>,
    bits: Bits,
    line: Vec<u8>,
    at: usize,
}

impl Read for Names {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut n = 0;
        while n < buffer.len() {
            if self.at == self.line.len() {
                let Some(file) = self.files.next() else { break };
                self.line = file.path(&self.bits).into_bytes();
                self.line.push(0);
                self.at = 0;
            }
            let part = (&self.line[self.at..]).read(&mut buffer[n..])?;
            self.at += part;
            n += part;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_complete_whatever_the_reads() {
        let file = |id, mod_content| FileName { id, mod_content };
        let list = vec![file(1, Some(2)), file(4097, None), file(70000, Some(8))];
        let Input::From(mut reader) = names(list, Bits::default()) else { panic!("a reader") };
        let mut out = Vec::new();
        let mut small = [0; 3];
        while let n @ 1.. = reader.read(&mut small).unwrap() {
            out.extend_from_slice(&small[..n]);
        }
        assert_eq!(out, b"0/1-2.msg\x001/4097.msg\x0017/70000-8.msg\0");
    }
}
