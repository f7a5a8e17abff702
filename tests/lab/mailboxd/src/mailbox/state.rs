//! What an open mailbox holds in memory: its counters, folders and tags. None of it is read again while
//! the mailbox stays open.

use std::collections::BTreeMap;

use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

use super::checkpoint;
use crate::fault::{Fault, Outcome};
use crate::memcached::{Memcached, folders_key};
use lab_mail::bencode::{self, Dict, Value};

/// The highest mailbox version that this server can open.
const VERSION: (u32, u32) = (2, 7);

/// A folder, search folder or mountpoint.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Folder {
    /// Its name.
    pub name: String,
    /// The folder it is in.
    pub parent: u32,
    /// Items in it.
    pub count: i64,
    /// Unread items in it.
    pub unread: i64,
    /// Its `metadata` as it stands in the row.
    pub metadata: String,
}

impl Folder {
    /// Brings `metadata` up to date: the next IMAP id, the highest change, the bytes in the folder.
    pub fn note(&mut self, next_uid: u32, change: u32, more_bytes: i64) {
        // Metadata of another form belongs to a server that knows more; it stays as it is.
        let Some(mut dict) = bencode::decode(&self.metadata) else { return };
        let bytes = int(&dict, "sz").unwrap_or(0) + more_bytes;
        dict.insert("unxt".into(), Value::Int(next_uid.into()));
        dict.insert("mseq".into(), Value::Int(change.into()));
        // An empty folder says nothing of its size.
        match bytes {
            1.. => dict.insert("sz".into(), Value::Int(bytes)),
            _ => dict.remove("sz"),
        };
        self.metadata = bencode::encode_narrow(&dict);
    }
}

fn int(dict: &Dict, key: &str) -> Option<i64> {
    match dict.get(key)? {
        Value::Int(n) => Some(*n),
        _ => None,
    }
}

/// A tag, or a flag that is kept like one (negative id).
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// Items that carry it.
    pub count: i64,
    /// Unread items that carry it.
    pub unread: i64,
}

/// Folders and tags, as they also lie in memcached.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Tree {
    /// Folders by id.
    pub folders: BTreeMap<u32, Folder>,
    /// Tags by id.
    pub tags: BTreeMap<i32, Tag>,
}

/// Everything a mailbox holds in memory.
#[derive(Clone, Debug)]
pub struct State {
    /// The last item id that was given out, as far as this server knows.
    pub last_item: u32,
    /// The last change id that was given out, as far as this server knows.
    pub last_change: u32,
    /// Bytes in the mailbox.
    pub size: i64,
    /// Messages since the user last looked.
    pub new_messages: u32,
    /// Contacts, when counted.
    pub contacts: Option<i64>,
    /// Zero, or the lowest sync token that is still good; tombstones are written only then.
    pub tracking_sync: u32,
    /// The volume of the search index.
    pub index_volume: u8,
    /// Folders and tags.
    pub tree: Tree,
}

/// The row of a mailbox that is being opened.
pub struct Row {
    /// `mailbox.group_id`.
    pub group: u32,
    /// `mailbox.account_id`.
    pub account: String,
    /// The state that follows from the row, without folders and tags.
    pub state: State,
}

/// Reads the row of a mailbox; nothing when there is none.
///
/// # Errors
/// `service.FAILURE` for a mailbox of a newer version, or when the database cannot be read.
pub fn read_row(conn: &mut impl Queryable, mailbox: u32) -> Outcome<Option<Row>> {
    let row: Option<mysql::Row> = conn.exec_first(
        "SELECT group_id, account_id, item_id_checkpoint, change_checkpoint, size_checkpoint, new_messages, \
         contact_count, tracking_sync, index_volume_id, version FROM zimbra.mailbox WHERE id = ?",
        (mailbox,),
    )?;
    let Some(row) = row else { return Ok(None) };
    let (group, account, item, change, size, new_messages, contacts, tracking_sync, index_volume, version) =
        mysql::from_row::<(u32, String, u32, u32, i64, u32, Option<i64>, u32, u8, Option<String>)>(row);
    check_version(version.as_deref())?;
    let state = State {
        last_item: checkpoint::item_on_load(item),
        last_change: checkpoint::change_on_load(change),
        size,
        new_messages,
        contacts,
        tracking_sync,
        index_volume,
        tree: Tree::default(),
    };
    Ok(Some(Row { group, account, state }))
}

fn check_version(version: Option<&str>) -> Outcome<()> {
    let Some(version) = version else { return Ok(()) };
    let parts = version.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parts {
        Some(parts) if parts <= VERSION => Ok(()),
        _ => Err(Fault::failure(format!("invalid mailbox version: {version} (too high)"))),
    }
}

/// Folders and tags of a mailbox that is being opened: from memcached when they are there, unchecked,
/// else from the database.
///
/// # Errors
/// `service.FAILURE` when the database cannot be read.
pub fn read_tree(
    conn: &mut impl Queryable,
    memcached: &Memcached,
    account: &str,
    mailbox: u32,
    group: u32,
) -> Outcome<Tree> {
    let cached = memcached.get(&folders_key(account)).and_then(|v| serde_json::from_slice(&v).ok());
    if let Some(tree) = cached {
        return Ok(tree);
    }
    let tree = read_tree_from_database(conn, mailbox, group)?;
    cache_tree(memcached, account, &tree);
    Ok(tree)
}

/// Folders and tags as the rows have them.
///
/// # Errors
/// `service.FAILURE` when the database cannot be read.
pub fn read_tree_from_database(conn: &mut impl Queryable, mailbox: u32, group: u32) -> Outcome<Tree> {
    let folders = conn.exec_map(
        format!(
            "SELECT id, COALESCE(name, ''), COALESCE(folder_id, 0), CAST(size AS SIGNED), COALESCE(unread, 0), \
             COALESCE(metadata, '') FROM mboxgroup{group}.mail_item WHERE mailbox_id = ? AND type IN (1, 2, 13)"
        ),
        (mailbox,),
        |(id, name, parent, count, unread, metadata)| (id, Folder { name, parent, count, unread, metadata }),
    )?;
    let tags = conn.exec_map(
        format!("SELECT id, name, item_count, unread FROM mboxgroup{group}.tag WHERE mailbox_id = ?"),
        (mailbox,),
        |(id, name, count, unread)| (id, Tag { name, count, unread }),
    )?;
    Ok(Tree { folders: folders.into_iter().collect(), tags: tags.into_iter().collect() })
}

/// Leaves folders and tags in memcached, for whichever server opens the mailbox next.
pub fn cache_tree(memcached: &Memcached, account: &str, tree: &Tree) {
    if let Ok(value) = serde_json::to_vec(tree) {
        memcached.set(&folders_key(account), &value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_mailboxes_are_refused() {
        for good in [None, Some("2.7"), Some("1.9"), Some("2.0")] {
            assert!(check_version(good).is_ok(), "{good:?}");
        }
        for bad in ["2.8", "3.0", "x", "2.10"] {
            assert!(check_version(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn folder_metadata_keeps_what_it_does_not_know() {
        let mut folder =
            Folder { name: "a".into(), parent: 1, count: 0, unread: 0, metadata: "d1:ai8e2:szi10e1:zi1ee".into() };
        folder.note(300, 12, -4);
        assert_eq!(folder.metadata, "d1:ai8e4:mseqi12e2:szi6e4:unxti300e1:zi1ee");
        folder.note(301, 13, -6);
        assert_eq!(folder.metadata, "d1:ai8e4:mseqi13e4:unxti301e1:zi1ee");
        folder.metadata = "other".into();
        folder.note(1, 1, 1);
        assert_eq!(folder.metadata, "other");
    }
}
