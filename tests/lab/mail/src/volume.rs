//! Volumes and blobs: where a store keeps the files of a mailbox.
//!
//! Rows come from `zimbra.volume` and `zimbra.current_volumes`. Paths in those rows are absolute paths
//! inside the host; [`Volumes::read`] takes the directory that stands for `/opt/zimbra` where the caller
//! runs (the same path inside the host, another one outside).

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::alphabet::Alphabet;
use base64::engine::general_purpose::PAD;
use base64::engine::{Engine, GeneralPurpose};
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use mysql::prelude::Queryable;
use ring::digest as hash;

/// The user and group id of `zimbra` in the lab: owner of every blob.
pub const OWNER: u32 = 7900;

/// The home directory of Zimbra inside a host, the prefix of every volume's path.
pub const HOME: &str = "/opt/zimbra";

/// What a volume holds (`volume.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Type 1: new messages go to a primary volume.
    Primary,
    /// Type 2: hierarchical storage moves old messages to a secondary volume.
    Secondary,
    /// Type 10: the search index.
    Index,
}

impl Kind {
    fn of(number: i8) -> Option<Self> {
        match number {
            1 => Some(Self::Primary),
            2 => Some(Self::Secondary),
            10 => Some(Self::Index),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Index => "index",
        })
    }
}

/// How a volume spreads mailboxes and items over directories (`file_bits` and its three companions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Items in one directory, as a power of two.
    pub file: u32,
    /// Directories of items, as a power of two.
    pub file_group: u32,
    /// Mailboxes in one directory, as a power of two.
    pub mailbox: u32,
    /// Directories of mailboxes, as a power of two.
    pub mailbox_group: u32,
}

impl Default for Bits {
    fn default() -> Self {
        Self { file: 12, file_group: 8, mailbox: 12, mailbox_group: 8 }
    }
}

/// One row of `zimbra.volume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// `volume.id`; as text it is the locator of a blob.
    pub id: u8,
    /// What it holds.
    pub kind: Kind,
    /// `volume.name`.
    pub name: String,
    /// `volume.path` as the row has it.
    pub path: String,
    /// The same directory where the caller runs.
    pub root: PathBuf,
    /// How directories are spread.
    pub bits: Bits,
    /// Whether new blobs above the threshold are compressed.
    pub compress: bool,
    /// Blobs of more bytes than this are compressed, if any are.
    pub compression_threshold: u64,
}

/// What was written for one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The file.
    pub path: PathBuf,
    /// `blob_digest`: of the uncompressed bytes.
    pub digest: String,
    /// `size`: uncompressed bytes.
    pub size: u64,
    /// Whether the file is gzip.
    pub compressed: bool,
}

impl Volume {
    /// The directory of a mailbox on this volume, parent of `msg` and `index`.
    pub fn mailbox_dir(&self, mailbox: u32) -> PathBuf {
        let group = spread(mailbox, self.bits.mailbox, self.bits.mailbox_group);
        self.root.join(group.to_string()).join(mailbox.to_string())
    }

    /// The directory of a mailbox's blobs on this volume.
    pub fn msg_dir(&self, mailbox: u32) -> PathBuf {
        self.mailbox_dir(mailbox).join("msg")
    }

    /// The directory of a mailbox's search index on this volume.
    pub fn index_dir(&self, mailbox: u32) -> PathBuf {
        self.mailbox_dir(mailbox).join("index").join("0")
    }

    /// The file of one blob.
    pub fn blob_path(&self, mailbox: u32, item: u32, mod_content: u32) -> PathBuf {
        let group = spread(item, self.bits.file, self.bits.file_group);
        self.msg_dir(mailbox).join(group.to_string()).join(format!("{item}-{mod_content}.msg"))
    }

    /// Writes a blob: into `incoming` first, then by rename to its place, owned by [`OWNER`], readable
    /// by owner and group. It is compressed when the volume says so.
    ///
    /// # Errors
    /// Whatever the file system refuses, with the path in the message.
    pub fn write_blob(&self, mailbox: u32, item: u32, mod_content: u32, bytes: &[u8]) -> io::Result<Blob> {
        let size = bytes.len() as u64;
        let compressed = self.compress && size > self.compression_threshold;
        let path = self.blob_path(mailbox, item, mod_content);
        let incoming = self.root.join("incoming");
        make_dirs(&self.root, &incoming)?;
        let draft = incoming.join(draft_name());
        write_file(&draft, bytes, compressed).map_err(|e| at("write", &draft, &e))?;
        place(&self.root, &path, || fs::rename(&draft, &path))?;
        Ok(Blob { path, digest: digest(bytes), size, compressed })
    }

    /// Gives a blob that exists a second name in a mailbox, as delivery to several recipients and copies
    /// inside a mailbox do. `existing` must be on this volume. What lies there already was left by a mailboxd that died
    /// before it committed, and whose numbers are given out again.
    ///
    /// # Errors
    /// Whatever the file system refuses, with the path in the message.
    pub fn link_blob(&self, existing: &Path, mailbox: u32, item: u32, mod_content: u32) -> io::Result<PathBuf> {
        let path = self.blob_path(mailbox, item, mod_content);
        place(&self.root, &path, || match fs::hard_link(existing, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path).and_then(|()| fs::hard_link(existing, &path))
            }
            linked => linked,
        })?;
        Ok(path)
    }
}

/// A store's volumes and which of them are current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volumes {
    /// Every row of `zimbra.volume`, by id.
    pub all: Vec<Volume>,
    /// `current_volumes.message_volume_id`.
    pub message: u8,
    /// `current_volumes.secondary_message_volume_id`.
    pub secondary: Option<u8>,
    /// `current_volumes.index_volume_id`.
    pub index: u8,
}

impl Volumes {
    /// Reads the volumes of a store. `home` is the directory that is `/opt/zimbra` to the store, seen
    /// from where the caller runs.
    ///
    /// # Errors
    /// What the server says, or a row this lab does not know (an unknown type, negative bits).
    pub fn read(conn: &mut impl Queryable, home: &Path) -> mysql::Result<Self> {
        type Row = (u8, i8, String, String, [i16; 4], bool, u64);
        let rows: Vec<mysql::Row> = conn.query(
            "SELECT id, type, name, path, file_bits, file_group_bits, mailbox_bits, mailbox_group_bits, \
             compress_blobs, compression_threshold FROM zimbra.volume ORDER BY id",
        )?;
        let all = rows
            .into_iter()
            .map(|row| {
                let (id, kind, name, path, a, b, c, d, compress, threshold) =
                    mysql::from_row_opt(row).map_err(|e| unreadable(&format!("row of zimbra.volume: {e}")))?;
                let row: Row = (id, kind, name, path, [a, b, c, d], compress, threshold);
                volume(row, home)
            })
            .collect::<mysql::Result<Vec<_>>>()?;
        let current: Option<(u8, Option<u8>, u8)> = conn.query_first(
            "SELECT message_volume_id, secondary_message_volume_id, index_volume_id FROM zimbra.current_volumes",
        )?;
        let (message, secondary, index) = current.ok_or_else(|| unreadable("zimbra.current_volumes has no row"))?;
        let volumes = Self { all, message, secondary, index };
        return match [Some(message), secondary, Some(index)].into_iter().flatten().find(|id| volumes.get(*id).is_none())
        {
            Some(id) => Err(unreadable(&format!("current volume {id} has no row"))),
            None => Ok(volumes),
        };

        fn volume(row: Row, home: &Path) -> mysql::Result<Volume> {
            let (id, kind, name, path, bits, compress, compression_threshold) = row;
            let bad = |what: &str| unreadable(&format!("volume {id}: {what}"));
            let mut unsigned = [0; 4];
            for (to, from) in unsigned.iter_mut().zip(bits) {
                *to = u32::try_from(from).map_err(|_| bad("negative bits"))?;
            }
            let [file, file_group, mailbox, mailbox_group] = unsigned;
            Ok(Volume {
                id,
                kind: Kind::of(kind).ok_or_else(|| bad(&format!("unknown type {kind}")))?,
                root: under(home, &path),
                name,
                path,
                bits: Bits { file, file_group, mailbox, mailbox_group },
                compress,
                compression_threshold,
            })
        }
    }

    /// The volume with this id.
    pub fn get(&self, id: u8) -> Option<&Volume> {
        self.all.iter().find(|volume| volume.id == id)
    }

    /// The volume a blob's locator names.
    pub fn at(&self, locator: &str) -> Option<&Volume> {
        self.get(locator.parse().ok()?)
    }

    /// The current volume for new messages.
    pub fn current_message(&self) -> &Volume {
        self.get(self.message).expect("read() refuses a current volume without a row")
    }

    /// The current secondary volume, if the store has one.
    pub fn current_secondary(&self) -> Option<&Volume> {
        self.secondary.and_then(|id| self.get(id))
    }

    /// The current index volume.
    pub fn current_index(&self) -> &Volume {
        self.get(self.index).expect("read() refuses a current volume without a row")
    }
}

/// `blob_digest` of these (uncompressed) bytes: SHA-256, base64 with `,` for `/`, 44 characters.
pub fn digest(bytes: &[u8]) -> String {
    encoded(hash::digest(&hash::SHA256, bytes).as_ref())
}

/// `blob_digest` as servers before 8.0 wrote it: SHA-1 in the same encoding, 28 characters.
pub fn legacy_digest(bytes: &[u8]) -> String {
    encoded(hash::digest(&hash::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

/// The uncompressed bytes of a blob file. `size` is the item's: a file of just that length is plain,
/// any other is gzip if it starts as gzip does.
///
/// # Errors
/// A file that cannot be read, or gzip that is broken.
pub fn read_blob(path: &Path, size: u64) -> io::Result<Vec<u8>> {
    let raw = fs::read(path).map_err(|e| at("read", path, &e))?;
    inflate(raw, size).map_err(|e| at("decompress", path, &e))
}

/// The uncompressed bytes of a blob whose file holds `raw`, by the rule of [`read_blob`].
///
/// # Errors
/// Gzip that is broken.
pub fn inflate(raw: Vec<u8>, size: u64) -> io::Result<Vec<u8>> {
    if raw.len() as u64 == size || !raw.starts_with(&[0x1f, 0x8b]) {
        return Ok(raw);
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(raw.as_slice()).read_to_end(&mut plain)?;
    Ok(plain)
}

/// Makes `dir` and what is missing between it and `root`, owned by [`OWNER`], mode 0750.
///
/// # Errors
/// Whatever the file system refuses, with the path in the message.
pub fn make_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent()
        && dir != root
    {
        make_dirs(root, parent)?;
    }
    match DirBuilder::new().mode(0o750).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| chown(dir, Some(OWNER), Some(OWNER))).map_err(|e| at("make", dir, &e)),
    }
}

/// Writes a file as Zimbra would: a new file, owned by [`OWNER`], mode 0640.
///
/// # Errors
/// Whatever the file system refuses.
pub fn write_file(path: &Path, bytes: &[u8], compressed: bool) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    if compressed {
        let mut gzip = GzEncoder::new(&mut file, flate2::Compression::fast());
        gzip.write_all(bytes)?;
        gzip.finish()?;
    } else {
        file.write_all(bytes)?;
    }
    own(&file)
}

fn own(file: &File) -> io::Result<()> {
    std::os::unix::fs::fchown(file, Some(OWNER), Some(OWNER))
}

/// Does `put`, which creates `path`, making the directory first when it is missing.
fn place(root: &Path, path: &Path, put: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let done = match put() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let dir = path.parent().expect("a blob path has directories");
            make_dirs(root, dir)?;
            put()
        }
        done => done,
    };
    done.map_err(|e| at("place", path, &e))
}

/// The directory number of an id: the bits above the lowest `bits`, of which `group_bits` are kept.
fn spread(id: u32, bits: u32, group_bits: u32) -> u32 {
    let high = id.checked_shr(bits).unwrap_or(0);
    let mask = 1u32.checked_shl(group_bits).map_or(u32::MAX, |power| power - 1);
    high & mask
}

/// Where a path inside the host is, when `home` is its `/opt/zimbra`.
fn under(home: &Path, path: &str) -> PathBuf {
    match Path::new(path).strip_prefix(HOME) {
        Ok(rest) => home.join(rest),
        Err(_) => PathBuf::from(path),
    }
}

fn encoded(digest: &[u8]) -> String {
    let alphabet = Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,")
        .expect("64 different printable characters");
    GeneralPurpose::new(&alphabet, PAD).encode(digest)
}

fn draft_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{count}.msg", std::process::id())
}

fn at(what: &str, path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("{}: cannot {what}: {e}", path.display()))
}

fn unreadable(what: &str) -> mysql::Error {
    mysql::Error::IoError(io::Error::new(io::ErrorKind::InvalidData, what))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use proptest::prelude::*;

    use super::*;

    fn volume(root: &Path, bits: Bits) -> Volume {
        Volume {
            id: 3,
            kind: Kind::Secondary,
            name: "hsm".into(),
            path: "/opt/zimbra/hsm".into(),
            root: root.into(),
            bits,
            compress: true,
            compression_threshold: 4096,
        }
    }

    #[test]
    fn paths_use_masks() {
        let v = volume(Path::new("/v"), Bits::default());
        assert_eq!(v.blob_path(7, 257, 100), Path::new("/v/0/7/msg/0/257-100.msg"));
        assert_eq!(v.blob_path((1 << 20) + 5000, (1 << 20) + 4096, 2), Path::new("/v/1/1053576/msg/1/1052672-2.msg"),);
        assert_eq!(v.index_dir(4096), Path::new("/v/1/4096/index/0"));
    }

    #[test]
    fn digests_are_those_of_zimbra() {
        // Known values of the empty string, with ',' for '/'.
        assert_eq!(digest(b""), "47DEQpj8HBSa+,TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(legacy_digest(b""), "2jmj7l5rSw0yVb,vlWAYkK,YBwk=");
    }

    #[test]
    fn a_home_elsewhere_moves_volumes_with_it() {
        assert_eq!(under(Path::new("/x"), "/opt/zimbra/store"), Path::new("/x/store"));
        assert_eq!(under(Path::new("/x"), "/opt/zimbra2/s"), Path::new("/opt/zimbra2/s"));
    }

    #[test]
    fn blobs_are_compressed_above_the_threshold_and_owned_by_zimbra() {
        let dir = tempfile::tempdir().unwrap();
        let v = volume(dir.path(), Bits::default());
        for (item, length) in [(1, 0), (2, 4096), (3, 4097), (4, 100_000)] {
            let bytes = vec![b'x'; length];
            let blob = v.write_blob(9, item, 1, &bytes).unwrap();
            let meta = fs::metadata(&blob.path).unwrap();
            assert_eq!(blob.compressed, length > 4096);
            assert_eq!(meta.len() == length as u64, !blob.compressed);
            assert_eq!((meta.uid(), meta.gid()), (OWNER, OWNER));
            assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
            assert_eq!(read_blob(&blob.path, blob.size).unwrap(), bytes);
            assert_eq!(blob.digest, digest(&bytes));
        }
        v.write_blob(10, 5000, 7, b"of a delivery that was never committed").unwrap();
        let linked = v.link_blob(&v.blob_path(9, 4, 1), 10, 5000, 7).unwrap();
        assert_eq!(fs::metadata(&linked).unwrap().nlink(), 2);
        let dirs = fs::metadata(v.msg_dir(10)).unwrap();
        assert_eq!((dirs.uid(), dirs.permissions().mode() & 0o7777), (OWNER, 0o750));
        assert_eq!(fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }

    #[test]
    fn a_document_that_is_gzip_itself_stays_as_it_is() {
        let raw = vec![0x1f, 0x8b, 1, 2, 3];
        assert_eq!(inflate(raw.clone(), 5).unwrap(), raw);
        assert!(inflate(raw, 6).is_err());
    }

    proptest! {
        #[test]
        fn directories_are_shift_and_mask(
            mailbox in any::<u32>(), item in any::<u32>(), mod_content in any::<u32>(),
            file in 0u32..40, file_group in 0u32..40, mb in 0u32..40, mb_group in 0u32..40,
        ) {
            let v = volume(
                Path::new("/v"),
                Bits { file, file_group, mailbox: mb, mailbox_group: mb_group },
            );
            let dir = |id: u32, bits: u32, group: u32| {
                (u128::from(id) >> bits) % (1u128 << group)
            };
            let expected = format!(
                "/v/{}/{mailbox}/msg/{}/{item}-{mod_content}.msg",
                dir(mailbox, mb, mb_group),
                dir(item, file, file_group),
            );
            prop_assert_eq!(v.blob_path(mailbox, item, mod_content), PathBuf::from(expected));
        }

        #[test]
        fn digests_are_file_name_safe(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (new, old) = (digest(&bytes), legacy_digest(&bytes));
            prop_assert_eq!((new.len(), old.len()), (44, 28));
            prop_assert!(!new.contains('/') && !old.contains('/'));
        }
    }
}
