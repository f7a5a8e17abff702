//! Mailboxes made on first use.

use std::fs;

use mysql::prelude::Queryable;
use mysql::{PooledConn, TxOpts, params};

use super::tx::{now, table};
use crate::entry::Entry;
use crate::fault::{Fault, Outcome};
use crate::store::Store;
use lab_mail::bencode::{dict, encode};
use lab_mail::seed::FLAGS;

/// The folders of a new mailbox: id, parent, name, and the kind of item its view shows.
const FOLDERS: [(u32, u32, &str, Option<i64>); 17] = [
    (11, 11, "ROOT", None),
    (8, 11, "Tags", Some(3)),
    (9, 11, "Conversations", Some(4)),
    (17, 11, "Comments", Some(17)),
    (1, 11, "USER_ROOT", None),
    (2, 1, "Inbox", Some(5)),
    (3, 1, "Trash", None),
    (4, 1, "Junk", Some(5)),
    (5, 1, "Sent", Some(5)),
    (6, 1, "Drafts", Some(5)),
    (7, 1, "Contacts", Some(6)),
    (10, 1, "Calendar", Some(11)),
    (13, 1, "Emailed Contacts", Some(6)),
    (14, 1, "Chats", Some(5)),
    (15, 1, "Tasks", Some(15)),
    (16, 1, "Briefcase", Some(8)),
    (20, 1, "Files shared with me", Some(8)),
];

/// Folders that no user sees.
const HIDDEN: [u32; 4] = [8, 9, 11, 17];

/// The flag of a folder that a calendar shows.
const CHECKED: i32 = 1 << 21;

/// The last id below those of users' items.
const LAST_SYSTEM_ITEM: u32 = 256;

/// Makes the mailbox of an account, and its group's database when that is missing; gives its id.
///
/// # Errors
/// `service.FAILURE`: also when the next id has a row already. The counter has moved then, so the next
/// try succeeds.
pub fn create(store: &Store, conn: &mut PooledConn, account: &Entry) -> Outcome<u32> {
    let id = next_id(conn)?;
    let group = (id - 1) % store.group_count + 1;
    create_group(store, conn, group)?;
    let mut sql = conn.start_transaction(TxOpts::default())?;
    let index_volume = store.volumes().index;
    let inserted = sql.exec_drop(
        "INSERT INTO zimbra.mailbox (id, group_id, account_id, index_volume_id, item_id_checkpoint, contact_count, \
         size_checkpoint, change_checkpoint, tracking_sync, tracking_imap, last_backup_at, comment, last_soap_access, \
         new_messages, idx_deferred_count, version, last_purge_at, itemcache_checkpoint) \
         VALUES (?, ?, ?, ?, ?, 0, 0, 1, 0, 0, NULL, ?, 0, 0, 0, '2.7', 0, 0)",
        (id, group, account.id(), index_volume, LAST_SYSTEM_ITEM, account.address()),
    );
    inserted.map_err(|e| Fault::failure(format!("could not create mailbox {id}: {e}")))?;
    sql.exec_drop("DELETE FROM zimbra.deleted_account WHERE email = ?", (account.address(),))?;
    let items = table(group, "mail_item");
    for (folder, parent, name, view) in FOLDERS {
        sql.exec_drop(
            format!(
                "INSERT INTO {items} (mailbox_id, id, type, parent_id, folder_id, date, size, unread, flags, tags, \
                 subject, name, metadata, mod_metadata, change_date, mod_content, uuid) VALUES (:mailbox, :id, 1, \
                 :parent, :parent, :now, 0, 0, :flags, 0, :name, :name, :metadata, 1, :now, 1, UUID())"
            ),
            params! {
                "mailbox" => id, "id" => folder, "parent" => parent, "now" => now(), "name" => name,
                "metadata" => folder_metadata(folder, view), "flags" => if matches!(view, Some(11 | 15)) { CHECKED } else { 0 },
            },
        )?;
    }
    let tags = table(group, "tag");
    for (flag, name) in FLAGS {
        let insert = format!(
            "INSERT INTO {tags} (mailbox_id, id, name, color, item_count, unread, listed, sequence) \
             VALUES (?, ?, ?, NULL, 0, 0, 0, 0)"
        );
        sql.exec_drop(insert, (id, flag, name))?;
    }
    sql.commit()?;
    Ok(id)
}

/// Takes an id. It is gone even when making the mailbox fails.
fn next_id(conn: &mut PooledConn) -> Outcome<u32> {
    let mut sql = conn.start_transaction(TxOpts::default())?;
    sql.query_drop("UPDATE zimbra.current_volumes SET next_mailbox_id = next_mailbox_id + 1")?;
    let id: Option<u32> = sql.query_first("SELECT next_mailbox_id - 1 FROM zimbra.current_volumes")?;
    sql.commit()?;
    id.filter(|id| *id > 0).ok_or_else(|| Fault::failure("zimbra.current_volumes: no mailbox id"))
}

fn create_group(store: &Store, conn: &mut PooledConn, group: u32) -> Outcome<()> {
    let name = format!("mboxgroup{group}");
    let query = "SELECT 1 FROM information_schema.schemata WHERE schema_name = ?";
    let there: Option<u8> = conn.exec_first(query, (&name,))?;
    if there.is_some() {
        return Ok(());
    }
    let path = store.home.join("db/create_database.sql");
    let script = fs::read_to_string(&path)
        .map_err(|e| Fault::failure(format!("{}: cannot read schema: {e}", path.display())))?;
    conn.query_drop(script.replace("${DATABASE_NAME}", &name))?;
    Ok(())
}

/// Of a folder that nothing was ever in: it knows of no item but itself.
fn folder_metadata(folder: u32, view: Option<i64>) -> String {
    let attributes = if HIDDEN.contains(&folder) { 3 } else { 1 };
    let mut all = dict([
        ("a", attributes.into()),
        ("das", "false".into()),
        ("mseq", 1.into()),
        ("unxt", i64::from(folder + 1).into()),
        ("v", 10.into()),
    ]);
    if let Some(view) = view {
        all.insert("vt".into(), view.into());
    }
    encode(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_before_their_children() {
        for (at, (id, parent, ..)) in FOLDERS.iter().enumerate() {
            assert!(id == parent || FOLDERS[..at].iter().any(|(p, ..)| p == parent), "{id}");
        }
    }
}
