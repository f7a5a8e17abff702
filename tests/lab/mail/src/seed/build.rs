//! A mailbox in the making: rows on their way, and the sums that must agree with them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mysql::Value;
use mysql::prelude::Queryable;

use super::rows::Rows;
use super::{Seeded, Spec};
use crate::Result;
use crate::volume::{self, Volume, Volumes};

/// The time of everything a seeder makes, in seconds since 1970.
pub(super) const NOW: u32 = 1_700_000_000;

/// The time of the last change of what lies in the trash: later than any purge looks back, so that a
/// running server leaves it alone.
const KEPT: u32 = 2_000_000_000;

/// The folder of the trash.
const TRASH: u32 = 3;

const ITEM_COLUMNS: &str = "mailbox_id, id, type, parent_id, folder_id, prev_folders, index_id, imap_id, \
    date, size, locator, blob_digest, unread, flags, tags, tag_names, sender, recipients, subject, name, \
    metadata, mod_metadata, change_date, mod_content, uuid";

/// Item types by Zimbra's numbers.
pub(super) mod kind {
    pub(crate) const FOLDER: u8 = 1;
    pub(crate) const SEARCH: u8 = 2;
    pub(crate) const CONVERSATION: u8 = 4;
    pub(crate) const MESSAGE: u8 = 5;
    pub(crate) const CONTACT: u8 = 6;
    pub(crate) const DOCUMENT: u8 = 8;
    pub(crate) const NOTE: u8 = 9;
    pub(crate) const APPOINTMENT: u8 = 11;
    pub(crate) const MOUNTPOINT: u8 = 13;
    pub(crate) const WIKI: u8 = 14;
    pub(crate) const TASK: u8 = 15;
    pub(crate) const CHAT: u8 = 16;
    pub(crate) const COMMENT: u8 = 17;

    /// What is known by a UUID as well: folders and what looks like files.
    pub(crate) const WITH_UUID: [u8; 6] = [FOLDER, SEARCH, MOUNTPOINT, DOCUMENT, WIKI, COMMENT];
}

/// One row of `mail_item`.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    pub(super) id: u32,
    pub(super) kind: u8,
    pub(super) parent: Option<u32>,
    pub(super) folder: Option<u32>,
    pub(super) prev_folders: Option<String>,
    pub(super) index_id: Option<u32>,
    pub(super) imap_id: Option<u32>,
    pub(super) date: u32,
    pub(super) size: u64,
    pub(super) locator: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) unread: Option<u32>,
    pub(super) flags: i32,
    pub(super) tags: i64,
    pub(super) tag_names: Option<String>,
    pub(super) sender: Option<String>,
    pub(super) recipients: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) name: Option<String>,
    pub(super) metadata: Option<String>,
    pub(super) mod_metadata: u32,
    pub(super) change_date: Option<u32>,
    pub(super) mod_content: u32,
    pub(super) uuid: Option<String>,
}

impl Item {
    fn values(self, mailbox: u32) -> [Value; 25] {
        [
            mailbox.into(),
            self.id.into(),
            self.kind.into(),
            self.parent.into(),
            self.folder.into(),
            self.prev_folders.into(),
            self.index_id.into(),
            self.imap_id.into(),
            self.date.into(),
            self.size.into(),
            self.locator.into(),
            self.digest.into(),
            self.unread.into(),
            self.flags.into(),
            self.tags.into(),
            self.tag_names.into(),
            self.sender.into(),
            self.recipients.into(),
            self.subject.into(),
            self.name.into(),
            self.metadata.into(),
            self.mod_metadata.into(),
            self.change_date.into(),
            self.mod_content.into(),
            self.uuid.into(),
        ]
    }
}

/// What a folder's row must say about its content.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) count: u32,
    pub(super) unread: u32,
    pub(super) bytes: u64,
}

/// Where a blob goes and how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// On the secondary volume, where the store has one.
    pub(super) secondary: bool,
    /// Compressed even where the volume does not ask for it.
    pub(super) gzip: bool,
    /// With the digest of servers before 8.0.
    pub(super) legacy: bool,
}

pub(super) struct Build<'a> {
    pub(super) conn: &'a mut mysql::Conn,
    pub(super) spec: &'a Spec,
    pub(super) volumes: &'a Volumes,
    /// Whether the group's tables take characters of four bytes.
    pub(super) four_bytes: bool,
    pub(super) rng: fastrand::Rng,
    tables: BTreeMap<&'static str, Rows>,
    pub(super) folders: BTreeMap<u32, Tally>,
    pub(super) tags: BTreeMap<i32, Tally>,
    pub(super) contacts: u32,
    pub(super) size: u64,
    pub(super) made: Seeded,
}

impl<'a> Build<'a> {
    pub(super) fn new(conn: &'a mut mysql::Conn, spec: &'a Spec, volumes: &'a Volumes) -> Result<Self> {
        let charset: Option<String> = conn.exec_first(
            "SELECT character_set_name FROM information_schema.columns \
             WHERE table_schema = ? AND table_name = 'mail_item' AND column_name = 'subject'",
            (format!("mboxgroup{}", spec.group),),
        )?;
        Ok(Self {
            conn,
            spec,
            volumes,
            four_bytes: charset.as_deref() == Some("utf8mb4"),
            rng: fastrand::Rng::with_seed(spec.seed),
            tables: BTreeMap::new(),
            folders: BTreeMap::new(),
            tags: BTreeMap::new(),
            contacts: 0,
            size: 0,
            made: Seeded {
                mailbox: spec.mailbox,
                group: spec.group,
                max_item: super::FIRST_ITEM - 1,
                max_change: 100,
                ..Seeded::default()
            },
        })
    }

    /// A fresh item id.
    pub(super) fn next_id(&mut self) -> u32 {
        self.made.max_item += 1;
        self.made.max_item
    }

    /// A fresh change id.
    pub(super) fn next_change(&mut self) -> u32 {
        self.made.max_change += 1;
        self.made.max_change
    }

    /// An item with fresh ids, all else empty.
    pub(super) fn fresh(&mut self, kind: u8, folder: u32) -> Item {
        let change = self.next_change();
        Item {
            id: self.next_id(),
            kind,
            folder: Some(folder),
            date: NOW,
            mod_metadata: change,
            change_date: Some(NOW),
            mod_content: change,
            uuid: kind::WITH_UUID.contains(&kind).then(|| super::text::uuid(&mut self.rng)),
            ..Item::default()
        }
    }

    /// Adds a row to a table of the mailbox's group (`mailbox_id` comes first and is added here).
    pub(super) fn group(&mut self, table: &'static str, columns: &str, row: &[Value]) -> Result<()> {
        self.row(table, || format!("mboxgroup{}.{table}", self.spec.group), columns, row)
    }

    /// Adds a row to a table of the database `zimbra` (`mailbox_id` comes first and is added here).
    pub(super) fn server(&mut self, table: &'static str, columns: &str, row: &[Value]) -> Result<()> {
        self.row(table, || format!("zimbra.{table}"), columns, row)
    }

    fn row(
        &mut self,
        table: &'static str,
        qualified: impl FnOnce() -> String,
        columns: &str,
        row: &[Value],
    ) -> Result<()> {
        let rows =
            self.tables.entry(table).or_insert_with(|| Rows::new(&qualified(), &format!("mailbox_id, {columns}")));
        let values: Vec<Value> = std::iter::once(Value::from(self.spec.mailbox)).chain(row.iter().cloned()).collect();
        rows.push(self.conn, &values)
    }

    /// Adds an item and counts it.
    pub(super) fn item(&mut self, mut item: Item) -> Result<()> {
        if item.folder == Some(TRASH) {
            item.change_date = Some(KEPT);
        }
        self.count(&item);
        self.note_ids(&item);
        self.item_row("mail_item", item)
    }

    /// Adds an item to the dumpster, where folders do not count it.
    pub(super) fn dumped(&mut self, item: Item) -> Result<()> {
        self.note_ids(&item);
        self.item_row("mail_item_dumpster", item)
    }

    fn item_row(&mut self, table: &'static str, item: Item) -> Result<()> {
        let rows = self
            .tables
            .entry(table)
            .or_insert_with(|| Rows::new(&format!("mboxgroup{}.{table}", self.spec.group), ITEM_COLUMNS));
        rows.push(self.conn, &item.values(self.spec.mailbox))
    }

    fn note_ids(&mut self, item: &Item) {
        self.made.max_item = self.made.max_item.max(item.id);
        self.made.max_change = self.made.max_change.max(item.mod_metadata).max(item.mod_content);
    }

    fn count(&mut self, item: &Item) {
        if matches!(item.kind, kind::FOLDER | kind::SEARCH | kind::MOUNTPOINT) {
            return;
        }
        let unread = item.unread.unwrap_or(0);
        if item.kind != kind::CONVERSATION {
            self.size += item.size;
            self.contacts += u32::from(item.kind == kind::CONTACT);
            let tally = self.folders.entry(item.folder.unwrap_or(0)).or_default();
            tally.count += 1;
            tally.unread += unread;
            tally.bytes += item.size;
        }
    }

    /// Tags an item: the row of `tagged_item` and the tag's counts.
    pub(super) fn tag(&mut self, tag: i32, item: u32, unread: bool) -> Result<()> {
        let tally = self.tags.entry(tag).or_default();
        tally.count += 1;
        tally.unread += u32::from(unread);
        self.group("tagged_item", "tag_id, item_id", &[tag.into(), item.into()])
    }

    /// The row of times of an appointment or task, in a table or its dumpster.
    pub(super) fn appointment(
        &mut self,
        table: &'static str,
        uid: &str,
        item: u32,
        start: &str,
        end: Option<&str>,
    ) -> Result<()> {
        let row = [uid.into(), item.into(), start.into(), end.into()];
        self.group(table, "uid, item_id, start_time, end_time", &row)
    }

    /// Answers to a conversation, or to a message that is alone so far, are known by its subject and by its Message-ID.
    pub(super) fn await_answers(&mut self, item: u32) -> Result<()> {
        for known_by in ["subject", "message-id"] {
            let hash = volume::legacy_digest(format!("{known_by} of {item}").as_bytes());
            self.group("open_conversation", "hash, conv_id", &[hash.into(), item.into()])?;
        }
        Ok(())
    }

    /// Writes an item's blob and says so in the item.
    pub(super) fn blob(&mut self, item: &mut Item, bytes: &[u8], place: Place) -> Result<PathBuf> {
        let (path, size) = write(self.volumes, self.spec.mailbox, item, bytes, place)?;
        self.made.blobs += 1;
        self.made.bytes += size;
        Ok(path)
    }

    /// Sends all rows that still wait, and brings the mailbox row and the counter of ids up to date.
    pub(super) fn finish(mut self) -> Result<Seeded> {
        for rows in self.tables.values_mut() {
            self.made.rows += rows.flush(self.conn)?;
        }
        super::server::finish(&mut self)?;
        self.made.rows += 1;
        Ok(self.made)
    }
}

/// Writes a blob and puts locator, digest and size into its item.
pub(super) fn write(
    volumes: &Volumes,
    mailbox: u32,
    item: &mut Item,
    bytes: &[u8],
    place: Place,
) -> Result<(PathBuf, u64)> {
    let volume = choose(volumes, place.secondary);
    let blob = if place.gzip {
        let gzip = Volume { compress: true, compression_threshold: 0, ..volume.clone() };
        gzip.write_blob(mailbox, item.id, item.mod_content, bytes)?
    } else {
        volume.write_blob(mailbox, item.id, item.mod_content, bytes)?
    };
    item.locator = Some(volume.id.to_string());
    item.size = blob.size;
    item.digest = Some(if place.legacy { volume::legacy_digest(bytes) } else { blob.digest });
    Ok((blob.path, blob.size))
}

/// The store's current secondary volume when asked for and there, else the primary one.
pub(super) fn choose(volumes: &Volumes, secondary: bool) -> &Volume {
    volumes.current_secondary().filter(|_| secondary).unwrap_or(volumes.current_message())
}
