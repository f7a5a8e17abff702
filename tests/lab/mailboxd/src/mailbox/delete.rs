//! Items that go: for good, or to the dumpster. And whole mailboxes that go.

use std::fs;

use mysql::TxOpts;
use mysql::params;
use mysql::prelude::Queryable;

use super::Mailbox;
use super::item::Item;
use super::tx::{Tx, now, table};
use crate::directory::By;
use crate::fault::Outcome;
use crate::store::Store;

const COLUMNS: &str = "mailbox_id, id, type, parent_id, folder_id, prev_folders, index_id, imap_id, date, size, locator, \
                       blob_digest, unread, flags, tags, tag_names, sender, recipients, subject, name, metadata, \
                       mod_content, uuid";
const REVISION: &str = "mailbox_id, item_id, version, date, size, locator, blob_digest, name, metadata, mod_metadata, \
                        change_date, mod_content";
const APPOINTMENT: &str = "mailbox_id, uid, item_id, start_time, end_time";

/// The tables of a group, children before parents.
const TABLES: [&str; 18] = [
    "imap_message",
    "imap_folder",
    "pop3_message",
    "data_source_item",
    "purged_conversations",
    "purged_messages",
    "event",
    "watch",
    "appointment_dumpster",
    "revision_dumpster",
    "mail_item_dumpster",
    "appointment",
    "revision",
    "open_conversation",
    "tagged_item",
    "tag",
    "tombstone",
    "mail_item",
];

impl Tx<'_> {
    /// Deletes an item for good: row, blobs, revisions. A tombstone is left only for clients that sync.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn delete(&mut self, item: &Item) -> Outcome<()> {
        for (mod_content, locator) in self.blobs_of(item)? {
            let volumes = self.store.volumes();
            if let Some(volume) = volumes.at(&locator) {
                self.doom(volume.blob_path(self.mailbox.id, item.id, mod_content));
            }
        }
        self.remove_row(item)
    }

    /// Moves an item to the dumpster: its row there carries the change id of the deletion, its blobs stay
    /// where they are.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn dump(&mut self, item: &Item) -> Outcome<()> {
        let (change, now, mailbox) = (self.change(), self.now, self.mailbox.id);
        let (from, to) = (self.table("mail_item"), self.table("mail_item_dumpster"));
        self.sql.exec_drop(
            format!(
                "INSERT INTO {to} ({COLUMNS}, mod_metadata, change_date) SELECT {COLUMNS}, :change, :now FROM {from} \
                 WHERE mailbox_id = :mailbox AND id = :id"
            ),
            params! { "change" => change, "now" => now, "mailbox" => mailbox, "id" => item.id },
        )?;
        for (name, columns) in [("revision", REVISION), ("appointment", APPOINTMENT)] {
            let (from, to) = (self.table(name), self.table(&format!("{name}_dumpster")));
            let statement = format!(
                "INSERT INTO {to} ({columns}) SELECT {columns} FROM {from} WHERE mailbox_id = ? AND item_id = ?"
            );
            self.sql.exec_drop(statement, (mailbox, item.id))?;
        }
        self.remove_row(item)
    }

    fn remove_row(&mut self, item: &Item) -> Outcome<()> {
        let (change, now, mailbox) = (self.change(), self.now, self.mailbox.id);
        let unread = i64::from(item.unread);
        for tag in self.tags_of(item.id)? {
            self.adjust_tag(tag, -1, -unread);
        }
        let delete = format!("DELETE FROM {} WHERE mailbox_id = ? AND id = ?", self.table("mail_item"));
        self.sql.exec_drop(delete, (mailbox, item.id))?;
        self.leave_conversation(item)?;
        if self.state.tracking_sync > 0 {
            let statement = format!(
                "INSERT INTO {} (mailbox_id, sequence, date, type, ids) VALUES (?, ?, ?, ?, ?)",
                self.table("tombstone")
            );
            self.sql.exec_drop(statement, (mailbox, change, now, item.kind, item.id.to_string()))?;
        }
        self.adjust_folder(item.folder, -1, -unread, -item.size);
        self.adjust_size(-item.size);
        Ok(())
    }

    fn blobs_of(&mut self, item: &Item) -> Outcome<Vec<(u32, String)>> {
        let query = format!(
            "SELECT mod_content, locator FROM {} WHERE mailbox_id = ? AND item_id = ? AND locator IS NOT NULL",
            self.table("revision")
        );
        let mut blobs: Vec<(u32, String)> = self.sql.exec(query, (self.mailbox.id, item.id))?;
        blobs.extend(item.locator.clone().map(|locator| (item.mod_content, locator)));
        Ok(blobs)
    }
}

/// Deletes a mailbox: its rows, its directories on all volumes, and all memory of it.
///
/// # Errors
/// `service.FAILURE`.
pub fn delete_mailbox(store: &Store, mailbox: &Mailbox) -> Outcome<()> {
    mailbox.lock_out()?;
    let id = mailbox.id;
    let account = store.directory.account(By::Id, &mailbox.account)?;
    let mut conn = store.pool.get_conn()?;
    conn.query_drop("SET foreign_key_checks = 0")?;
    let mut sql = conn.start_transaction(TxOpts::default())?;
    for name in TABLES {
        sql.exec_drop(format!("DELETE FROM {} WHERE mailbox_id = ?", table(mailbox.group, name)), (id,))?;
    }
    sql.exec_drop("DELETE FROM zimbra.volume_blobs WHERE mailbox_id = ?", (id,))?;
    sql.query_drop("SET foreign_key_checks = 1")?;
    if let Some(account) = account {
        sql.exec_drop(
            "REPLACE INTO zimbra.deleted_account (email, account_id, mailbox_id, deleted_at) VALUES (?, ?, ?, ?)",
            (account.address(), &mailbox.account, id, now()),
        )?;
    }
    sql.exec_drop("DELETE FROM zimbra.mailbox WHERE id = ?", (id,))?;
    sql.commit()?;
    store.memcached().delete(&crate::memcached::folders_key(&mailbox.account));
    for volume in &store.volumes().all {
        // A volume without the mailbox is as good as one it was removed from.
        let _ = fs::remove_dir_all(volume.mailbox_dir(id));
    }
    store.mailboxes.forget(mailbox);
    Ok(())
}
