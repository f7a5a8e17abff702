//! The blobs that are on a store.

use std::time::Duration;

use super::tree::Tree;
use crate::cancel::Cancel;
use crate::clients::ssh::Limit;
use crate::error::{Kind, Result};
use crate::zimbra::blob::{BlobName, FileName};
use crate::zimbra::volume::Bits;

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// Its name.
    pub name: FileName,
    /// Its length; a compressed blob is shorter than its row says.
    pub bytes: u64,
}

/// The blobs of a mailbox on one volume: 24 bytes of memory each, sorted, so that names can be asked for in any
/// order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    files: Vec<File>,
    /// How many entries are not blobs at their place: leftovers such as `*.bak`, links, devices.
    pub odd: u64,
    /// The first of these, escaped.
    pub odd_samples: Vec<String>,
}

/// Longest path below a mailbox's directory of blobs that is kept while it is read.
const PATH: usize = 4096;

const SAMPLES: usize = 20;

impl Tree {
    /// Lists the blobs of the mailbox on this volume; none when it has no directory there. Files that come and go
    /// meanwhile may be in it or not.
    ///
    /// Fails with [`Kind::Refused`] when a link stands for the directory or one above it.
    pub fn list(&self, cancel: &Cancel) -> Result<Listing> {
        let dir = self.volume.message_dir(self.mailbox);
        let mut reader = Reader::new(self.volume.bits);
        let each = ["-ignore_readdir_race", "-mindepth", "1", "-printf", "%y %s %P\\0"];
        let limit = Limit::idle(Duration::from_secs(300));
        self.find_each(&dir, &each, limit, cancel, &mut |piece| reader.take(piece))?;
        if !reader.entry.is_empty() {
            return Err(self.error(Kind::Peer, format!("list of {dir} ends within a name")));
        }
        let mut listing = reader.listing;
        listing.files.sort_unstable();
        listing.files.shrink_to_fit();
        Ok(listing)
    }
}

impl Listing {
    /// The file that Zimbra reads for a blob, and its place in the list.
    pub fn find(&self, name: BlobName) -> Option<(usize, &File)> {
        let old = FileName { id: name.id, mod_content: None };
        self.get(name.into()).or_else(|| self.get(old))
    }

    /// A file by its name, and its place in the list.
    pub fn get(&self, name: FileName) -> Option<(usize, &File)> {
        let at = self.files.binary_search_by_key(&name, |file| file.name).ok()?;
        Some((at, &self.files[at]))
    }

    /// All files, by id and `mod_content`.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Bytes of all files; less on disk where files are hard links of one another.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Reads `type size path NUL` entries piece by piece.
struct Reader {
    bits: Bits,
    entry: Vec<u8>,
    listing: Listing,
}

impl Reader {
    fn new(bits: Bits) -> Self {
        Self { bits, entry: Vec::new(), listing: Listing::default() }
    }

    fn take(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|&b| b == 0) {
            self.keep(&rest[..end]);
            self.close();
            rest = &rest[end + 1..];
        }
        self.keep(rest);
    }

    fn keep(&mut self, part: &[u8]) {
        let room = PATH.saturating_sub(self.entry.len());
        self.entry.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn close(&mut self) {
        match self.file() {
            Some(file) => self.listing.files.push(file),
            // The directories of items; anything deeper is odd by its files.
            None if self.entry.starts_with(b"d ") && !self.entry.contains(&b'/') => {}
            None => {
                self.listing.odd += 1;
                if self.listing.odd_samples.len() < SAMPLES {
                    let entry = String::from_utf8_lossy(&self.entry).chars().take(200).collect::<String>();
                    self.listing.odd_samples.push(entry.escape_debug().to_string());
                }
            }
        }
        self.entry.clear();
    }

    fn file(&self) -> Option<File> {
        let entry = std::str::from_utf8(&self.entry).ok()?;
        let (bytes, path) = entry.strip_prefix("f ")?.split_once(' ')?;
        Some(File { name: FileName::parse(path, &self.bits)?, bytes: bytes.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_whatever_the_pieces() {
        let text = b"d 4096 0\0f 12 0/7-3.msg\0f 5 0/7.msg\0l 3 0/8-1.msg\0f 1 0/9-1.msg\n\0f 9 1/9-1.msg\0d 1 0/x\0f 1 0/\xff\0";
        for size in [1, 5, 1000] {
            let mut reader = Reader::new(Bits::default());
            text.chunks(size).for_each(|chunk| reader.take(chunk));
            let names: Vec<String> = reader.listing.files.iter().map(|f| format!("{} {}", f.name, f.bytes)).collect();
            assert_eq!(names, ["7-3.msg 12", "7.msg 5"]);
            assert_eq!(reader.listing.odd, 5, "{:?}", reader.listing.odd_samples);
        }
    }
}
