//! Volumes: the directories in which a store keeps blobs and indexes, and which of another store's take
//! their place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a volume holds (`volume.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Type 1: new messages go to the current primary volume.
    Primary,
    /// Type 2: hierarchical storage moves old messages to a secondary volume.
    Secondary,
    /// Type 10: the search index.
    Index,
}

impl Kind {
    /// The kind of a number of `volume.type`.
    pub fn of(number: i64) -> Option<Self> {
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

/// How a volume spreads mailboxes and items over directories, as powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bits {
    /// Items in one directory (`file_bits`).
    pub file: u8,
    /// Directories of items (`file_group_bits`).
    pub file_group: u8,
    /// Mailboxes in one directory (`mailbox_bits`).
    pub mailbox: u8,
    /// Directories of mailboxes (`mailbox_group_bits`).
    pub mailbox_group: u8,
}

impl Default for Bits {
    fn default() -> Self {
        Self { file: 12, file_group: 8, mailbox: 12, mailbox_group: 8 }
    }
}

impl Bits {
    /// The directory of items that holds this one.
    pub fn item_group(&self, item: u32) -> u32 {
        spread(item, self.file, self.file_group)
    }

    /// The directory of mailboxes that holds this one.
    pub fn mailbox_group(&self, mailbox: u32) -> u32 {
        spread(mailbox, self.mailbox, self.mailbox_group)
    }
}

/// Without the mask, ids from 2 to the power of both bits on would land in directories that Zimbra never reads.
fn spread(id: u32, bits: u8, group_bits: u8) -> u32 {
    let group = id.checked_shr(bits.into()).unwrap_or(0);
    group & 1u32.checked_shl(group_bits.into()).map_or(u32::MAX, |n| n - 1)
}

/// The class that keeps blobs as files.
const FILES: &str = "com.zimbra.cs.store.file.FileBlobStore";

/// One row of `zimbra.volume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// `id`; as text it is the locator of a blob.
    pub id: u8,
    /// `type`.
    pub kind: Kind,
    /// `name`.
    pub name: String,
    /// `path`, absolute. With `zimbra_relative_volume_path` the home directory stands before it; with
    /// `zimbraConfiguredServerIDForBlobDirEnabled` the server's id after it.
    pub path: String,
    /// The four columns of bits.
    pub bits: Bits,
    /// `compress_blobs`: whether new blobs above the threshold are compressed.
    pub compress: bool,
    /// `compression_threshold`, bytes.
    pub threshold: u64,
    /// `store_type`: 1 for files of this server, 2 for an external store.
    pub store_type: i64,
    /// `store_manager_class`; empty where the schema has no such column.
    pub manager_class: String,
}

impl Volume {
    /// The directory of a mailbox, parent of its `msg` and `index`.
    pub fn mailbox_dir(&self, mailbox: u32) -> String {
        format!("{}/{}/{mailbox}", self.path.trim_end_matches('/'), self.bits.mailbox_group(mailbox))
    }

    /// The directory of a mailbox's blobs.
    pub fn message_dir(&self, mailbox: u32) -> String {
        format!("{}/msg", self.mailbox_dir(mailbox))
    }

    /// The directory of a mailbox's search index.
    pub fn index_dir(&self, mailbox: u32) -> String {
        format!("{}/index/0", self.mailbox_dir(mailbox))
    }

    /// Why its blobs cannot be moved as files, if they cannot.
    pub fn objection(&self) -> Option<String> {
        let volume = format!("volume {} ({})", self.id, self.name);
        let by_class = !self.manager_class.is_empty() && self.manager_class != FILES;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let bits = [self.bits.file, self.bits.file_group, self.bits.mailbox, self.bits.mailbox_group];
        if self.store_type != 1 || by_class {
            Some(format!("{volume} is an external store ({})", self.manager_class))
        } else if !self.path.starts_with('/') || self.path.len() < 2 || !self.path.chars().all(plain) {
            Some(format!("{volume} has the path {:?}, which is not absolute or not plain", self.path))
        } else if self.path.split('/').any(|part| part == "..") {
            Some(format!("{volume} has the path {:?}, which goes up", self.path))
        } else if bits.iter().any(|&bits| bits > 31) {
            Some(format!("{volume} has more bits than an id"))
        } else {
            None
        }
    }
}

/// Reads a locator: the id of the volume that holds a blob.
///
/// # Errors
/// The reason: anything but digits is the locator of an external store.
pub fn locator(text: &str) -> Result<u8, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = if digits { text.parse().ok() } else { None };
    id.ok_or_else(|| format!("locator {text:?} is not a volume of files: the blob is in an external store"))
}

/// The row of `zimbra.current_volumes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// `message_volume_id`.
    pub message: u8,
    /// `secondary_message_volume_id`.
    pub secondary: Option<u8>,
    /// `index_volume_id`.
    pub index: u8,
}

/// Which volume of the destination takes the place of which of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping(BTreeMap<u8, u8>);

impl Mapping {
    /// The destination's volume for one of the source's.
    pub fn get(&self, source: u8) -> Option<u8> {
        self.0.get(&source).copied()
    }

    /// Every pair, source first, by the source's id.
    pub fn pairs(&self) -> impl Iterator<Item = (u8, u8)> + '_ {
        self.0.iter().map(|(&source, &dest)| (source, dest))
    }

    /// Whether several volumes of the source become this one. Then no copy of one of them may delete what it
    /// does not have: it would be the others' blobs.
    pub fn is_shared(&self, dest: u8) -> bool {
        self.0.values().filter(|&&d| d == dest).count() > 1
    }
}

/// Maps the volumes that a mailbox uses: primary to the destination's current message volume, secondary to its
/// current secondary one or, without one, to the message volume, index to the current index volume. `chosen`
/// pairs win over that.
///
/// `used` are the volumes named by the mailbox's locators and its `index_volume_id`, and the current ones of the
/// source, where new blobs may still go. Bits of mailboxes may differ, since each side computes its own
/// directory; bits of files must be equal, since a directory of blobs is copied as it is.
///
/// # Errors
/// Every reason against it.
pub fn map_volumes(
    source: &[Volume],
    used: &BTreeSet<u8>,
    dest: &[Volume],
    current: &Current,
    chosen: &BTreeMap<u8, u8>,
) -> Result<Mapping, Vec<String>> {
    let (mut mapping, mut reasons) = (BTreeMap::new(), Vec::new());
    for id in chosen.keys().filter(|id| !used.contains(id)) {
        if !source.iter().any(|volume| volume.id == *id) {
            reasons.push(format!("source has no volume {id}, which was given a destination"));
        }
    }
    for &id in used {
        let Some(from) = source.iter().find(|volume| volume.id == id) else {
            reasons.push(format!("source has no volume {id}, which the mailbox uses"));
            continue;
        };
        let target = chosen.get(&id).copied().unwrap_or(match from.kind {
            Kind::Primary => current.message,
            Kind::Secondary => current.secondary.unwrap_or(current.message),
            Kind::Index => current.index,
        });
        let Some(to) = dest.iter().find(|volume| volume.id == target) else {
            reasons.push(format!("destination has no volume {target} for source volume {id}"));
            continue;
        };
        let before = reasons.len();
        reasons.extend(from.objection().map(|why| format!("source {why}")));
        reasons.extend(to.objection().map(|why| format!("destination {why}")));
        reasons.extend(mismatch(from, to));
        if reasons.len() == before {
            mapping.insert(id, target);
        }
    }
    if reasons.is_empty() {
        Ok(Mapping(mapping))
    } else {
        // Several volumes may share a destination, and its fault.
        let mut seen = BTreeSet::new();
        reasons.retain(|reason| seen.insert(reason.clone()));
        Err(reasons)
    }
}

fn mismatch(from: &Volume, to: &Volume) -> Option<String> {
    let pair = format!("source volume {} ({}) and destination volume {} ({})", from.id, from.name, to.id, to.name);
    let index = |volume: &Volume| volume.kind == Kind::Index;
    let files = |volume: &Volume| (volume.bits.file, volume.bits.file_group);
    if index(from) != index(to) {
        Some(format!("{pair}: one is an index volume, the other is not"))
    } else if !index(from) && files(from) != files(to) {
        Some(format!("{pair} spread files differently: bits {:?} and {:?}", files(from), files(to)))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn volume(id: u8, kind: Kind) -> Volume {
        Volume {
            id,
            kind,
            name: format!("v{id}"),
            path: format!("/opt/zimbra/v{id}"),
            bits: Bits::default(),
            compress: false,
            threshold: 4096,
            store_type: 1,
            manager_class: FILES.into(),
        }
    }

    fn stores() -> (Vec<Volume>, Vec<Volume>, Current) {
        let source = vec![volume(1, Kind::Primary), volume(2, Kind::Index), volume(3, Kind::Secondary)];
        let dest = vec![volume(1, Kind::Primary), volume(2, Kind::Index), volume(4, Kind::Secondary)];
        (source, dest, Current { message: 1, secondary: Some(4), index: 2 })
    }

    fn map(source: &[Volume], dest: &[Volume], current: &Current, chosen: &[(u8, u8)]) -> Result<Mapping, Vec<String>> {
        let used = source.iter().map(|v| v.id).collect();
        map_volumes(source, &used, dest, current, &chosen.iter().copied().collect())
    }

    #[test]
    fn directories_are_masked() {
        let v = Volume { path: "/store/".into(), ..volume(1, Kind::Primary) };
        assert_eq!(v.mailbox_dir(12), "/store/0/12");
        assert_eq!(v.message_dir(4096), "/store/1/4096/msg");
        assert_eq!(v.mailbox_dir(1 << 20), "/store/0/1048576");
        assert_eq!(v.index_dir((1 << 20) + 4096), "/store/1/1052672/index/0");
        assert_eq!(v.bits.item_group(257 << 12), 1);
    }

    proptest! {
        #[test]
        fn a_group_is_below_its_power_whatever_the_bits(id: u32, bits in 0u8..40, group in 0u8..40) {
            let n = spread(id, bits, group);
            prop_assert!(u64::from(n) < 1u64 << group);
            if bits < 32 && group >= 32 {
                prop_assert_eq!(n, id >> bits);
            }
        }

        #[test]
        fn only_small_numbers_are_locators(text in "\\PC{0,12}|[0-9]{1,4}") {
            match locator(&text) {
                Ok(id) => prop_assert!(text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u64>() == Ok(id.into())),
                Err(_) => prop_assert!(!text.bytes().all(|b| b.is_ascii_digit()) || text.is_empty() || text.parse::<u64>().unwrap() > 255),
            }
        }
    }

    #[test]
    fn external_locators_are_refused_with_the_reason() {
        for text in ["1@@s3://x", "+1", " 1", "256", "", "1 "] {
            assert!(locator(text).unwrap_err().contains("external"), "{text}");
        }
        assert_eq!(locator("3"), Ok(3));
    }

    #[test]
    fn each_kind_finds_its_like() {
        let (source, dest, current) = stores();
        let mapping = map(&source, &dest, &current, &[]).unwrap();
        assert_eq!(mapping.pairs().collect::<Vec<_>>(), [(1, 1), (2, 2), (3, 4)]);
        assert!(!mapping.is_shared(1));
        let mapping = map(&source, &dest, &Current { secondary: None, ..current }, &[]).unwrap();
        assert_eq!((mapping.get(3), mapping.is_shared(1)), (Some(1), true));
        assert_eq!(map(&source, &dest, &current, &[(3, 1)]).unwrap().get(3), Some(1));
    }

    #[test]
    fn every_reason_is_told_at_once() {
        let (mut source, mut dest, current) = stores();
        source[0].bits.file = 10;
        source[0].bits.mailbox = 9;
        source[2].store_type = 2;
        dest[1].path = "/opt/../etc".into();
        let reasons = map(&source, &dest, &current, &[(9, 1)]).unwrap_err();
        assert_eq!(reasons.len(), 4, "{reasons:#?}");
        source[0].bits.file = 12;
        assert!(!map(&source, &dest, &current, &[]).unwrap_err().iter().any(|r| r.contains("differently")));
        assert!(map(&source, &dest, &current, &[(1, 2)]).unwrap_err().iter().any(|r| r.contains("index")));
        assert!(map(&source, &[], &current, &[]).unwrap_err().len() == 3);
    }

    #[test]
    fn an_external_store_that_is_not_used_does_not_matter() {
        let (mut source, dest, current) = stores();
        source.push(Volume { store_type: 2, ..volume(9, Kind::Primary) });
        let used = BTreeSet::from([1, 2]);
        assert!(map_volumes(&source, &used, &dest, &current, &BTreeMap::new()).is_ok());
    }
}
