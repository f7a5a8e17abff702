//! Items: rows of `mail_item` with their blobs, flags and tags.

use mysql::prelude::{FromRow, Queryable};
use mysql::{FromRowError, Row, params};

use super::state::Tag;
use super::tx::Tx;
use crate::fault::{Fault, Outcome};
use crate::store::Incoming;

/// `mail_item.type`.
pub mod kind {
    #![allow(missing_docs)]
    pub const CONVERSATION: u8 = 4;
    pub const MESSAGE: u8 = 5;
    pub const DOCUMENT: u8 = 8;
    pub const APPOINTMENT: u8 = 11;
}

/// Folders with fixed ids.
pub mod folder {
    #![allow(missing_docs)]
    pub const INBOX: u32 = 2;
    pub const TRASH: u32 = 3;
    pub const SENT: u32 = 5;
    pub const CONVERSATIONS: u32 = 9;
    pub const CALENDAR: u32 = 10;
    pub const BRIEFCASE: u32 = 16;
}

/// A flag: a bit of `mail_item.flags`, and a tag with a negative id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    bit: u32,
    name: &'static str,
}

/// What is unread; it has a column of its own instead of the bit.
pub const UNREAD: Flag = Flag { bit: 9, name: "\\Unread" };
/// What the user marked.
pub const FLAGGED: Flag = Flag { bit: 5, name: "\\Flagged" };
/// What was answered; a flag of users.
pub const REPLIED: Flag = Flag { bit: 2, name: "\\Answered" };
/// Flags that the system sets, without a new change id.
pub const SYSTEM_FLAGS: [Flag; 3] =
    [Flag { bit: 1, name: "\\Attached" }, Flag { bit: 10, name: "\\Urgent" }, Flag { bit: 13, name: "\\Invite" }];

impl Flag {
    /// The id of the tag that stands for it.
    pub fn tag(self) -> i32 {
        // There are fewer than 31 flags.
        -(self.bit as i32) - 1
    }

    /// The bit.
    pub fn mask(self) -> i32 {
        1 << self.bit
    }
}

/// What a new row holds, besides ids and change ids.
#[derive(Default)]
pub struct NewItem<'a> {
    /// Its id.
    pub id: u32,
    /// Its type.
    pub kind: u8,
    /// Its conversation.
    pub parent: Option<u32>,
    /// Its folder.
    pub folder: u32,
    /// Zero: to be indexed later. Nothing: never indexed.
    pub index_id: Option<u32>,
    /// Bytes, or a count.
    pub size: u64,
    /// Volume and digest of its blob.
    pub blob: Option<(u8, &'a str)>,
    /// Whether it is unread.
    pub unread: bool,
    /// Sender, 128 characters.
    pub sender: Option<&'a str>,
    /// Recipients, 128 characters.
    pub recipients: Option<&'a str>,
    /// Subject.
    pub subject: Option<&'a str>,
    /// Name, unique in its folder.
    pub name: Option<&'a str>,
    /// Bencoded.
    pub metadata: String,
}

/// The columns of a row that changes look at.
#[derive(Debug)]
pub struct Item {
    /// Its id.
    pub id: u32,
    /// Its type.
    pub kind: u8,
    /// Its conversation.
    pub parent: Option<u32>,
    /// Its folder.
    pub folder: u32,
    /// Bytes.
    pub size: i64,
    /// The volume of its blob.
    pub locator: Option<String>,
    /// Whether it is unread.
    pub unread: bool,
    /// Flags.
    pub flags: i32,
    /// `\0`, then each tag's name with `\0` after it.
    pub tag_names: Vec<u8>,
    /// The last change of its content.
    pub mod_content: u32,
}

impl FromRow for Item {
    fn from_row_opt(row: Row) -> Result<Self, FromRowError> {
        let (id, kind, parent, folder, size, locator, unread, flags, tag_names, mod_content) =
            mysql::from_row_opt(row)?;
        Ok(Self { id, kind, parent, folder, size, locator, unread, flags, tag_names, mod_content })
    }
}

const COLUMNS: &str = "id, type, parent_id, COALESCE(folder_id, 0), CAST(size AS SIGNED), locator, \
                       COALESCE(unread, 0) > 0, flags, COALESCE(tag_names, ''), mod_content";

impl Tx<'_> {
    /// Inserts a row. Folder counts are the caller's business.
    ///
    /// # Errors
    /// `service.FAILURE`: also for a name that is taken, or an id used before.
    pub fn insert(&mut self, item: &NewItem<'_>) -> Outcome<()> {
        let change = self.change();
        let statement = format!(
            "INSERT INTO {} (mailbox_id, id, type, parent_id, folder_id, index_id, imap_id, date, size, locator, \
             blob_digest, unread, flags, tags, sender, recipients, subject, name, metadata, mod_metadata, change_date, \
             mod_content, uuid) VALUES (:mailbox, :id, :kind, :parent, :folder, :index_id, :imap_id, :now, :size, \
             :locator, :digest, :unread, 0, 0, :sender, :recipients, :subject, :name, :metadata, :change, :now, \
             :change, UUID())",
            self.table("mail_item")
        );
        let imap_id = matches!(item.kind, kind::MESSAGE | kind::APPOINTMENT).then_some(item.id);
        self.sql.exec_drop(
            statement,
            params! {
                "mailbox" => self.mailbox.id, "id" => item.id, "kind" => item.kind, "parent" => item.parent,
                "folder" => item.folder, "index_id" => item.index_id, "imap_id" => imap_id, "now" => self.now,
                "size" => item.size, "locator" => item.blob.map(|(volume, _)| volume.to_string()),
                "digest" => item.blob.map(|(_, digest)| digest), "unread" => u8::from(item.unread),
                "sender" => item.sender, "recipients" => item.recipients, "subject" => item.subject,
                "name" => item.name, "metadata" => &item.metadata, "change" => change,
            },
        )?;
        if item.unread {
            self.mark(item.id, UNREAD, true)?;
        }
        Ok(())
    }

    /// Gives an incoming file its name in this mailbox: a hard link, so several mailboxes share one file.
    ///
    /// # Errors
    /// `service.FAILURE`: also when there is such a file already, as after a change id is used twice.
    pub fn place(&mut self, incoming: &Incoming, item: u32) -> Outcome<()> {
        let change = self.change();
        let volumes = self.store.volumes();
        let volume = volumes.get(incoming.volume).ok_or_else(|| Fault::failure("no such volume"))?;
        let path = volume.link_blob(&incoming.path, self.mailbox.id, item, change)?;
        self.made(path);
        Ok(())
    }

    /// An item for which `condition` holds, picked by the generator.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn pick(&mut self, rng: &mut fastrand::Rng, condition: &str) -> Outcome<Option<Item>> {
        let table = self.table("mail_item");
        let mailbox = self.mailbox.id;
        let count: u64 = self
            .sql
            .exec_first(format!("SELECT COUNT(*) FROM {table} WHERE mailbox_id = ? AND {condition}"), (mailbox,))?
            .unwrap_or(0);
        if count == 0 {
            return Ok(None);
        }
        let query = format!(
            "SELECT {COLUMNS} FROM {table} WHERE mailbox_id = ? AND {condition} ORDER BY id LIMIT 1 OFFSET {}",
            rng.u64(..count)
        );
        Ok(self.sql.exec_first(query, (mailbox,))?)
    }

    /// Sets the change id of an item: its metadata changed.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn bump(&mut self, item: u32) -> Outcome<()> {
        let (change, now, mailbox) = (self.change(), self.now, self.mailbox.id);
        let statement = format!(
            "UPDATE {} SET mod_metadata = ?, change_date = ? WHERE mailbox_id = ? AND id = ?",
            self.table("mail_item")
        );
        Ok(self.sql.exec_drop(statement, (change, now, mailbox, item))?)
    }

    /// Puts a flag on an item, or takes it off. Only flags of users get a new change id.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn set_flag(&mut self, item: &Item, flag: Flag, on: bool) -> Outcome<()> {
        let table = self.table("mail_item");
        let set = match (flag == UNREAD, on) {
            (true, _) => format!("unread = {}", u8::from(on)),
            (false, true) => format!("flags = flags | {}", flag.mask()),
            (false, false) => format!("flags = flags & ~{}", flag.mask()),
        };
        let statement = format!("UPDATE {table} SET {set} WHERE mailbox_id = ? AND id = ?");
        self.sql.exec_drop(statement, (self.mailbox.id, item.id))?;
        if !SYSTEM_FLAGS.contains(&flag) {
            self.bump(item.id)?;
        }
        if flag == UNREAD {
            let step = if on { 1 } else { -1 };
            self.adjust_folder(item.folder, 0, step, 0);
            for tag in self.tags_of(item.id)? {
                self.adjust_tag(tag, 0, step);
            }
        }
        self.mark(item.id, flag, on)
    }

    /// The row of `tagged_item` for a flag, and the tag that stands for the flag.
    fn mark(&mut self, item: u32, flag: Flag, on: bool) -> Outcome<()> {
        let (mailbox, tag) = (self.mailbox.id, flag.tag());
        if on && !self.state.tree.tags.contains_key(&tag) {
            let change = self.change();
            let statement = format!(
                "INSERT IGNORE INTO {} (mailbox_id, id, name, color, item_count, unread, listed, sequence) \
                 VALUES (?, ?, ?, NULL, 0, 0, 0, ?)",
                self.table("tag")
            );
            self.sql.exec_drop(statement, (mailbox, tag, flag.name, change))?;
            self.state.tree.tags.insert(tag, Tag { name: flag.name.into(), count: 0, unread: 0 });
        }
        self.attach(item, tag, on)
    }

    /// Puts a user's tag on an item.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn tag(&mut self, item: &Item, tag: i32, name: &str) -> Outcome<()> {
        let statement = format!("UPDATE {} SET tag_names = ? WHERE mailbox_id = ? AND id = ?", self.table("mail_item"));
        self.sql.exec_drop(statement, (with_tag(&item.tag_names, name), self.mailbox.id, item.id))?;
        self.bump(item.id)?;
        self.attach(item.id, tag, true)
    }

    /// The tags of the user that the mailbox knows.
    pub fn user_tags(&self) -> Vec<(i32, String)> {
        let tags = self.state.tree.tags.iter().filter(|(id, _)| **id > 0);
        tags.map(|(id, tag)| (*id, tag.name.clone())).collect()
    }

    /// Puts a tag on an item, or takes it off, in `tagged_item` and the tag's count.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn attach(&mut self, item: u32, tag: i32, on: bool) -> Outcome<()> {
        let table = self.table("tagged_item");
        let statement = match on {
            true => format!("INSERT IGNORE INTO {table} (mailbox_id, tag_id, item_id) VALUES (?, ?, ?)"),
            false => format!("DELETE FROM {table} WHERE mailbox_id = ? AND tag_id = ? AND item_id = ?"),
        };
        self.sql.exec_drop(statement, (self.mailbox.id, tag, item))?;
        let changed = i64::try_from(self.sql.affected_rows()).unwrap_or(0);
        self.adjust_tag(tag, if on { changed } else { -changed }, 0);
        Ok(())
    }

    /// The tags on an item, flags among them.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn tags_of(&mut self, item: u32) -> Outcome<Vec<i32>> {
        let query = format!("SELECT tag_id FROM {} WHERE mailbox_id = ? AND item_id = ?", self.table("tagged_item"));
        Ok(self.sql.exec(query, (self.mailbox.id, item))?)
    }
}

/// Tag names as the column has them, with one more.
fn with_tag(names: &[u8], tag: &str) -> Vec<u8> {
    let mut all = if names.is_empty() { vec![0] } else { names.to_vec() };
    all.extend_from_slice(tag.as_bytes());
    all.push(0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_names_stand_between_nuls() {
        assert_eq!(with_tag(b"", "a"), b"\0a\0");
        assert_eq!(with_tag(b"\0a\0", "b c"), b"\0a\0b c\0");
    }

    #[test]
    fn flags_are_negative_tags() {
        assert_eq!((UNREAD.tag(), FLAGGED.tag(), FLAGGED.mask()), (-10, -6, 32));
    }
}
