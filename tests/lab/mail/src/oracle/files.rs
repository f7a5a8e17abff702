//! Directories as they are: walked, hashed, and compared.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::blobs::bad_file;
use super::report::Report;
use crate::Result;
use crate::volume::{OWNER, digest};

/// Everything below a directory, without following links; nothing when it is absent.
pub(super) fn walk(dir: &Path) -> Result<Vec<(PathBuf, Metadata)>> {
    let mut all = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let meta = match entry.metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                meta => meta?,
            };
            if meta.is_dir() {
                open.push(entry.path());
            }
            all.push((entry.path(), meta));
        }
    }
    Ok(all)
}

/// A hash of names, lengths, owners, modes, times and inodes below a directory: it stays while nothing
/// there is touched.
pub(super) fn fingerprint(dir: &Path) -> Result<String> {
    let mut lines: Vec<String> = walk(dir)?
        .into_iter()
        .filter(|(_, meta)| !meta.is_dir())
        .map(|(path, meta)| {
            format!(
                "{} {} {}:{} {:o} {}.{} {}\n",
                path.display(),
                meta.len(),
                meta.uid(),
                meta.gid(),
                meta.mode(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ino()
            )
        })
        .collect();
    lines.sort_unstable();
    Ok(digest(lines.concat().as_bytes()))
}

/// Compares the search index of two stores by names and content; the destination's must be zimbra's. A
/// server adds segments, named by number, when it indexes what waits.
pub(super) fn compare_index(report: &mut Report, source: &Path, dest: &Path) -> Result<()> {
    let what = "index";
    let (old, new) = (contents(source)?, contents(dest)?);
    for (name, bytes) in &old {
        match new.get(name) {
            None => report.differ(format!("I3 {what} {}: no file", name.display())),
            Some(other) if other != bytes => {
                report.differ(format!("I3 {what} {}: content differs", name.display()));
            }
            Some(_) => {}
        }
    }
    for name in new.keys().filter(|name| !old.contains_key(*name)) {
        if is_segment(name) {
            report.note(format!("{what} {}: indexed since", name.display()));
            continue;
        }
        report.differ(format!("I3 {what} {}: not at the source", name.display()));
    }
    for (path, meta) in walk(dest)? {
        let bad = if meta.is_dir() { bad_dir(&meta) } else { bad_file(&meta) };
        if let Some(bad) = bad {
            report.differ(format!("I3 {what} {}: {bad}", path.display()));
        }
    }
    Ok(())
}

fn is_segment(name: &Path) -> bool {
    let name = name.to_str().and_then(|name| name.strip_prefix('_'));
    // A whole segment, or what a lock made mailboxd flush of one.
    let number = name.and_then(|name| name.strip_suffix(".cfs").or_else(|| name.strip_suffix(".fdt")));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()))
}

/// Checks the directories of a mailbox: zimbra's, and writable by nobody else.
pub(super) fn check_dirs(report: &mut Report, dir: &Path) -> Result<()> {
    for (path, meta) in walk(dir)? {
        if let Some(bad) = Some(&meta).filter(|meta| meta.is_dir()).and_then(bad_dir) {
            report.differ(format!("I3 directory {}: {bad}", path.display()));
        }
    }
    Ok(())
}

fn bad_dir(meta: &Metadata) -> Option<String> {
    let mode = meta.mode() & 0o7777;
    if (meta.uid(), meta.gid()) != (OWNER, OWNER) {
        Some(format!("owned by {}:{}", meta.uid(), meta.gid()))
    } else if mode & 0o700 != 0o700 || mode & 0o7022 != 0 {
        Some(format!("mode {mode:04o}"))
    } else {
        None
    }
}

fn contents(dir: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut all = BTreeMap::new();
    for (path, meta) in walk(dir)? {
        if !meta.is_dir() {
            let name = path.strip_prefix(dir).unwrap_or(&path).to_owned();
            all.insert(name, digest(&fs::read(&path)?));
        }
    }
    Ok(all)
}
