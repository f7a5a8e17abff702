//! Contents of blobs, compared.

use std::time::Duration;

use super::tree::Tree;
use crate::cancel::Cancel;
use crate::clients::ssh::{Input, Limit};
use crate::error::{Kind, Result};
use crate::zimbra::blob::{Digest, FileName};

/// Files of one command; bounds what is kept in memory.
const BATCH: usize = 10_000;

/// The script is fixed; the directory is its argument, the names its input.
const SUMS: &str = "cd -- \"$1\" && exec xargs -0 -r sha256sum --";

/// The SHA-256 of files as they lie on the volume, in the order of `files`; none of a file that cannot be read. For a blob that
/// is not compressed it is the digest in its row.
///
/// Fails with [`Kind::NotFound`] when the directory is not there, as [`Tree::has`] does, and as the shell does.
pub fn checksums(tree: &Tree, files: &[FileName], cancel: &Cancel) -> Result<Vec<Option<Digest>>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let dir = tree.volume.message_dir(tree.mailbox);
    if !tree.has(&dir, cancel)? {
        return Err(tree.error(Kind::NotFound, format!("{dir} is not there")));
    }
    let mut found = Vec::with_capacity(files.len());
    for batch in files.chunks(BATCH) {
        let paths: Vec<String> = batch.iter().map(|file| file.path(&tree.volume.bits)).collect();
        found.extend(sums(tree, &dir, &paths, cancel)?);
    }
    Ok(found)
}

/// The SHA-256 of files below `dir`, which was checked to be a directory of `tree`; paths are of plain characters. None of a
/// file that cannot be read, which mostly is not there any more.
pub(super) fn sums(tree: &Tree, dir: &str, paths: &[String], cancel: &Cancel) -> Result<Vec<Option<Digest>>> {
    let argv = ["sh", "-c", SUMS, "sh", dir];
    let list: Vec<u8> = paths.iter().flat_map(|path| path.bytes().chain([0])).collect();
    // A blob may be large, and the disk slow.
    let bytes = list.len() as u64 + 100 * paths.len() as u64;
    let limit = Limit { total: None, idle: Some(Duration::from_secs(600)), bytes };
    let output = tree.shell.run(&argv, Input::Bytes(list), limit, cancel)?;
    // xargs says 123 when sha256sum could not read a file; which ones are missing from its list.
    if !matches!(output.status, 0 | 123) {
        return Err(tree.shell.failure(&argv, &output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().peekable();
    let mut found = Vec::with_capacity(paths.len());
    for path in paths {
        let of_path = lines.next_if(|line| line.split_once("  ").is_some_and(|(_, said)| said == path));
        let digest = of_path.map(|line| {
            let digest = line.split_once("  ").and_then(|(hex, _)| Digest::from_hex(hex));
            digest.ok_or_else(|| tree.error(Kind::Peer, format!("sha256sum said {line:?} of {path} in {dir}")))
        });
        found.push(digest.transpose()?);
    }
    match lines.next() {
        Some(line) => Err(tree.error(Kind::Peer, format!("sha256sum said {line:?} in {dir}, which nobody asked"))),
        None if output.status == 0 && found.contains(&None) => {
            Err(tree.error(Kind::Peer, format!("sha256sum left out files in {dir}")))
        }
        None => Ok(found),
    }
}

/// The files whose contents are not the same on both sides; both are read at once.
///
/// Fails with [`Kind::NotFound`] when one is not there, and as [`checksums`] does.
pub fn unequal(source: &Tree, dest: &Tree, files: &[FileName], cancel: &Cancel) -> Result<Vec<FileName>> {
    let compared = compare(source, dest, files, cancel)?;
    match compared.gone.first() {
        Some(file) => Err(source.error(Kind::NotFound, format!("blob {file} of volume {}: is gone", source.volume.id))),
        None => Ok(compared.unequal),
    }
}

/// What a comparison of files found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Files with the same bytes on both sides.
    pub equal: Vec<FileName>,
    /// Files with other bytes.
    pub unequal: Vec<FileName>,
    /// Files that cannot be read at the source: users delete while they are compared.
    pub gone: Vec<FileName>,
}

/// Compares files by content; both sides are read at once.
///
/// Fails with [`Kind::NotFound`] when one that the source has is not at the destination, and as [`checksums`] does.
pub fn compare(source: &Tree, dest: &Tree, files: &[FileName], cancel: &Cancel) -> Result<Compared> {
    let mut compared = Compared::default();
    for batch in files.chunks(BATCH) {
        let (here, there) = both(|| checksums(source, batch, cancel), || checksums(dest, batch, cancel))?;
        for (&file, sums) in batch.iter().zip(here.iter().zip(&there)) {
            match sums {
                (None, _) => compared.gone.push(file),
                (Some(_), None) => {
                    let message = format!("blob {file} of volume {}: is not there", dest.volume.id);
                    return Err(dest.error(Kind::NotFound, message));
                }
                (here, there) if here == there => compared.equal.push(file),
                _ => compared.unequal.push(file),
            }
        }
    }
    Ok(compared)
}

/// Does two things at once, one on each store.
pub(super) fn both<T: Send>(
    source: impl FnOnce() -> Result<T> + Send,
    dest: impl FnOnce() -> Result<T>,
) -> Result<(T, T)> {
    std::thread::scope(|scope| {
        let source = scope.spawn(source);
        let dest = dest();
        match source.join() {
            Ok(source) => Ok((source?, dest?)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
