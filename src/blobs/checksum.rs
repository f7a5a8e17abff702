//! Contents of blobs, compared.

use std::time::Duration;

use super::tree::Tree;
use crate::cancel::Cancel;
use crate::clients::ssh::{Input, Limit};
use crate::error::{Kind, Result};
use crate::parallel::both;
use crate::zimbra::blob::{Digest, FileName};

/// Files of one command; bounds what is kept in memory.
const BATCH: usize = 10_000;

/// The names are its input. openssl takes a fifth of the processor time of sha256sum, where the processor knows SHA-256; one that does
/// not run must not make files look gone. Its status is the number of files that it could not read, or 128 and the signal that
/// killed it, after which its list is no answer: 255 ends xargs, with 124.
const SUMS: &str = "cd -- \"$dir\" || exit; \
                    openssl dgst -sha256 -r /dev/null >/dev/null 2>&1 || exec xargs -0 -r sha256sum --; \
                    exec xargs -0 -r sh -c 'openssl dgst -sha256 -r \"$@\"; \
                    case $? in 0) ;; 13[4-9]|143) exit 255 ;; *) exit 1 ;; esac' sh";

/// The SHA-256 of files as they lie on the volume, in the order of `files`; none of a file that cannot be read. For a blob that
/// is not compressed it is the digest in its row.
///
/// Fails with [`Kind::NotFound`] when the directory is not there, as [`Tree::has`] does, and as the shell does.
fn checksums(tree: &Tree, files: &[FileName], cancel: &Cancel) -> Result<Vec<Option<Digest>>> {
    let paths: Vec<String> = files.iter().map(|file| file.path(&tree.volume.bits)).collect();
    let list: Vec<u8> = paths.iter().flat_map(|path| path.bytes().chain([0])).collect();
    // A blob may be large, and the disk slow.
    let bytes = list.len() as u64 + 100 * paths.len() as u64;
    let limit = Limit { total: None, idle: Some(Duration::from_secs(600)), bytes };
    let dir = tree.volume.message_dir(tree.mailbox);
    let argv = tree.inside(&dir, SUMS, &[])?;
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let output = tree.shell.run(&argv, Input::Bytes(list), limit, cancel)?;
    if !tree.was_there(&dir, &output, cancel)? {
        return Err(tree.error(Kind::NotFound, format!("{dir} is not there")));
    }
    // xargs says 123 when a file could not be read; which ones are missing from the list.
    if !matches!(output.status, 0 | 123) {
        return Err(tree.shell.failure(&["xargs"], &output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().peekable();
    let mut found = Vec::with_capacity(paths.len());
    for path in &paths {
        let sum = lines.next_if(|line| name_of(line) == Some(path)).map(|line| {
            let digest = line.split_once(' ').and_then(|(hex, _)| Digest::from_hex(hex));
            digest.ok_or_else(|| tree.error(Kind::Peer, format!("{line:?} is no SHA-256 of {path} in {dir}")))
        });
        found.push(sum.transpose()?);
    }
    match lines.next() {
        Some(line) => {
            Err(tree.error(Kind::Peer, format!("{line:?} is no SHA-256 of a file in {dir} that was asked for")))
        }
        None if output.status == 0 && found.contains(&None) => {
            Err(tree.error(Kind::Peer, format!("files of {dir} have no SHA-256, without a word why")))
        }
        None => Ok(found),
    }
}

/// The same of a source whose directory may have gone with its files.
fn checksums_or_none(tree: &Tree, files: &[FileName], cancel: &Cancel) -> Result<Vec<Option<Digest>>> {
    match checksums(tree, files, cancel) {
        Err(error) if error.kind() == Kind::NotFound => Ok(vec![None; files.len()]),
        sums => sums,
    }
}

/// The file of a line as sha256sum and openssl print it.
fn name_of(line: &str) -> Option<&str> {
    let (_, name) = line.split_once(' ')?;
    name.strip_prefix([' ', '*'])
}

/// The files whose contents are not the same on both sides; both are read at once.
///
/// Fails with [`Kind::NotFound`] when one, or the directory, is not there, as [`Tree::has`] does, and as the shell does.
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
/// Fails with [`Kind::NotFound`] when one that the source has is not at the destination, and as [`unequal`] does.
pub fn compare(source: &Tree, dest: &Tree, files: &[FileName], cancel: &Cancel) -> Result<Compared> {
    let mut compared = Compared::default();
    for batch in files.chunks(BATCH) {
        let (here, there) = both(|| checksums_or_none(source, batch, cancel), || checksums(dest, batch, cancel))?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    /// What is said of three files, one of which is not there, with these programs: the status, and the names and sums.
    fn said(openssl: &str) -> (Option<i32>, bool, Vec<(String, Digest)>) {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for program in ["sh", "xargs", "sha256sum"] {
            symlink(format!("/usr/bin/{program}"), bin.join(program)).unwrap();
        }
        if !openssl.is_empty() {
            // By another process: one that this one starts meanwhile would hold the file open, and it could not be run.
            let make = ["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", openssl];
            assert!(Command::new("/usr/bin/sh").args(make).arg(bin.join("openssl")).status().unwrap().success());
        }
        std::fs::write(dir.path().join("one"), "1").unwrap();
        std::fs::write(dir.path().join("two"), "").unwrap();
        let script = format!("dir=$1; printf 'one\\0none\\0two\\0' | {{ {SUMS}; }}");
        let output =
            Command::new("/usr/bin/sh").args(["-c", &script, "sh"]).arg(dir.path()).env("PATH", &bin).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let sums = lines.lines().map(|line| {
            let (hex, _) = line.split_once(' ').unwrap();
            (name_of(line).unwrap().to_owned(), Digest::from_hex(hex).unwrap())
        });
        (output.status.code(), lines.contains('*'), sums.collect())
    }

    #[test]
    fn sums_are_the_same_with_openssl_and_without() {
        let (with, without) = (said("exec /usr/bin/openssl \"$@\""), said(""));
        assert_eq!((with.0, without.0), (Some(123), Some(123)));
        assert_eq!((with.1, without.1), (true, false), "each by its own program");
        assert_eq!(with.2, without.2);
        assert_eq!(with.2.len(), 2);
    }

    #[test]
    fn no_file_looks_gone_because_openssl_does_not_run() {
        assert_eq!(said("exit 127"), said(""));
        // Killed while it reads, as by a host without memory.
        let (status, ..) = said("case \"$*\" in */dev/null) exit 0 ;; esac; kill -9 $$");
        assert_eq!(status, Some(124));
    }
}
