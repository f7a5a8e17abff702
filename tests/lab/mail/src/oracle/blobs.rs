//! Blobs: the files that rows name, what is in them, and files that no row names.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

use super::mailbox::Home;
use super::report::Report;
use crate::volume::{self, OWNER, Volumes, digest};
use crate::{Error, Result};

/// The tables whose rows name blobs, and what their item's id is called.
const TABLES: [(&str, &str); 4] =
    [("mail_item", "id"), ("mail_item_dumpster", "id"), ("revision", "item_id"), ("revision_dumpster", "item_id")];

const THREADS: usize = 2;

/// A blob as a row names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) item: u32,
    pub(super) mod_content: u32,
    pub(super) locator: String,
    pub(super) digest: String,
    pub(super) size: u64,
}

/// A blob as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    /// SHA-256 of the file.
    pub(super) raw: String,
    /// SHA-256 of its uncompressed bytes.
    pub(super) plain: String,
    /// Whether that agrees with the row's digest and size.
    pub(super) right: bool,
    /// Length, time of change in nanoseconds, and inode: the file is the same while they are.
    pub(super) state: (u64, i64, u64),
}

/// Blobs by `<item>-<mod_content>@<volume>`; `None` is missing.
pub(super) type Blobs = BTreeMap<String, Option<Found>>;

impl Named {
    fn key(&self) -> String {
        format!("{}-{}@{}", self.item, self.mod_content, self.locator)
    }

    /// The name without the volume, whose id differs between stores.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.item, self.mod_content)
    }
}

/// The blobs that a mailbox's rows name.
pub(super) fn named(conn: &mut mysql::Conn, home: &Home) -> Result<Vec<Named>> {
    let mut all = Vec::new();
    for (table, id) in TABLES {
        let query = format!(
            "SELECT {id}, mod_content, IFNULL(locator, ''), blob_digest, size FROM mboxgroup{}.{table} \
             WHERE mailbox_id = {} AND blob_digest IS NOT NULL",
            home.group, home.id
        );
        all.extend(conn.query_map(query, |(item, mod_content, locator, digest, size)| Named {
            item,
            mod_content,
            locator,
            digest,
            size,
        })?);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Reads the blobs of a mailbox.
pub(super) fn hash(volumes: &Volumes, mailbox: u32, named: &[Named]) -> Result<Blobs> {
    let found = in_parts(named, |blob| {
        let found = match path(volumes, mailbox, blob) {
            Some(path) => found(&path, blob),
            None => Ok(None),
        };
        found.map(|found| (blob.key(), found))
    });
    found.into_iter().map(|found| found.map_err(Error::from)).collect()
}

fn in_parts<'n, T: Send>(named: &'n [Named], work: impl Fn(&'n Named) -> T + Sync) -> Vec<T> {
    let part = named.len().div_ceil(THREADS).max(1);
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> =
            named.chunks(part).map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("reading a blob does not panic")).collect()
    })
}

fn path(volumes: &Volumes, mailbox: u32, blob: &Named) -> Option<PathBuf> {
    let volume = volumes.at(&blob.locator)?;
    Some(volume.blob_path(mailbox, blob.item, blob.mod_content))
}

fn found(path: &Path, blob: &Named) -> io::Result<Option<Found>> {
    let meta = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    let bytes = fs::read(path)?;
    let raw = digest(&bytes);
    let plain = match volume::inflate(bytes, blob.size) {
        Ok(plain) => plain,
        Err(e) => {
            return Ok(Some(Found { raw, plain: format!("broken gzip: {e}"), right: false, state: state(&meta) }));
        }
    };
    let sha1 = blob.digest.len() == 28;
    let plain_digest = digest(&plain);
    let right = plain.len() as u64 == blob.size
        && if sha1 { volume::legacy_digest(&plain) } else { plain_digest.clone() } == blob.digest;
    Ok(Some(Found { raw, plain: plain_digest, right, state: state(&meta) }))
}

fn state(meta: &Metadata) -> (u64, i64, u64) {
    (meta.len(), meta.mtime() * 1_000_000_000 + meta.mtime_nsec(), meta.ino())
}

/// Checks that every blob that rows name at the destination is in its place, right, and zimbra's.
/// `source` has the source's blobs, for what was wrong there already.
pub(super) fn check_moved(
    report: &mut Report,
    volumes: &Volumes,
    mailbox: u32,
    named: &[Named],
    source: &BTreeMap<String, Option<Found>>,
) -> Result<()> {
    let before = by_name(source);
    let results = in_parts(named, |blob| (blob, check_one(volumes, mailbox, blob)));
    report.blobs += named.len() as u64;
    for (blob, result) in results {
        let at_source = before.get(blob.name().as_str()).copied();
        match result {
            Verdict::Fine(found) => {
                if let Some(Some(old)) = at_source
                    && old.plain != found.plain
                {
                    report.differ(format!("I3 blob {}: content differs from the source's", blob.key()));
                }
            }
            Verdict::Wrong(found) if at_source.flatten().is_some_and(|old| old.raw == found.raw) => {
                report.note(format!("blob {}: digest or size was wrong at the source", blob.key()));
            }
            Verdict::Wrong(_) => {
                report.differ(format!("I3 blob {}: digest or size is wrong", blob.key()));
            }
            Verdict::Missing if at_source == Some(None) => {
                report.note(format!("blob {}: missing at the source too", blob.key()));
            }
            Verdict::Missing => report.differ(format!("I3 blob {}: no file", blob.key())),
            Verdict::Bad(what) => report.differ(format!("I3 blob {}: {what}", blob.key())),
        }
    }
    Ok(())
}

fn by_name(blobs: &BTreeMap<String, Option<Found>>) -> BTreeMap<&str, Option<&Found>> {
    blobs.iter().map(|(key, found)| (key.split('@').next().unwrap_or(key), found.as_ref())).collect()
}

enum Verdict {
    Fine(Found),
    Wrong(Found),
    Missing,
    Bad(String),
}

fn check_one(volumes: &Volumes, mailbox: u32, blob: &Named) -> Verdict {
    let Some(path) = path(volumes, mailbox, blob) else {
        return Verdict::Bad("its locator names no volume".into());
    };
    match fs::symlink_metadata(&path).map(|meta| bad_file(&meta)) {
        Ok(Some(what)) => return Verdict::Bad(what),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Verdict::Bad(e.to_string()),
        _ => {}
    }
    match found(&path, blob) {
        Ok(Some(found)) if found.right => Verdict::Fine(found),
        Ok(Some(found)) => Verdict::Wrong(found),
        Ok(None) => Verdict::Missing,
        Err(e) => Verdict::Bad(e.to_string()),
    }
}

/// What is wrong with the file itself: it must be a plain file of zimbra's, written by nobody else.
pub(super) fn bad_file(meta: &Metadata) -> Option<String> {
    let mode = meta.mode() & 0o7777;
    if !meta.is_file() {
        Some("not a plain file".into())
    } else if (meta.uid(), meta.gid()) != (OWNER, OWNER) {
        Some(format!("owned by {}:{}", meta.uid(), meta.gid()))
    } else if mode & 0o600 != 0o600 || mode & !0o644 != 0 {
        Some(format!("mode {mode:04o}"))
    } else {
        None
    }
}

/// Checks that the blobs of `before` still lie on the store as they were.
pub(super) fn check_kept(report: &mut Report, volumes: &Volumes, mailbox: u32, before: &Blobs) {
    for (key, found) in before {
        let Some(old) = found else { continue };
        let path = key.split_once('@').and_then(|(name, locator)| {
            let (item, mod_content) = name.split_once('-')?;
            let volume = volumes.at(locator)?;
            Some(volume.blob_path(mailbox, item.parse().ok()?, mod_content.parse().ok()?))
        });
        let now = path.and_then(|path| Some((fs::symlink_metadata(&path).ok()?, path)));
        match now {
            None => report.differ(format!("I3 source blob {key}: gone")),
            Some((meta, _)) if state(&meta) == old.state => {}
            Some((_, path)) => match fs::read(&path) {
                Ok(bytes) if digest(&bytes) == old.raw => {}
                _ => report.differ(format!("I3 source blob {key}: changed")),
            },
        }
    }
}

/// Files in a mailbox's `msg` directories that no row names, as `<kind of volume>/<name>`.
pub(super) fn unnamed(volumes: &Volumes, mailbox: u32, named: &[Named]) -> Result<BTreeSet<(String, PathBuf)>> {
    // Paths compare part by part, plain strings much faster.
    let known: HashSet<OsString> =
        named.iter().filter_map(|blob| path(volumes, mailbox, blob)).map(PathBuf::into_os_string).collect();
    let mut all = BTreeSet::new();
    for volume in &volumes.all {
        let dir = volume.msg_dir(mailbox);
        for (path, meta) in super::files::walk(&dir)? {
            if !meta.is_dir() && !known.contains(path.as_os_str()) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                all.insert((format!("{}/{name}", volume.kind), path));
            }
        }
    }
    Ok(all)
}
