//! One change of a mailbox: its change id, the counters it moves, the files it makes.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use mysql::Transaction;
use mysql::prelude::Queryable;

use super::Mailbox;
use super::checkpoint;
use super::state::{self, State};
use crate::fault::Outcome;
use crate::store::Store;

/// A transaction on one mailbox.
pub struct Tx<'a> {
    /// This server.
    pub store: &'a Store,
    /// The mailbox.
    pub mailbox: &'a Mailbox,
    /// The database transaction.
    pub sql: Transaction<'a>,
    /// What the mailbox will hold in memory if all goes well.
    pub state: State,
    /// Seconds since 1970.
    pub now: u32,
    before: (u32, u32),
    change: Option<u32>,
    folders: BTreeSet<u32>,
    tags: BTreeSet<i32>,
    statistics: bool,
    made: Vec<PathBuf>,
    doomed: Vec<PathBuf>,
}

impl<'a> Tx<'a> {
    /// A transaction that did nothing yet.
    pub fn new(store: &'a Store, mailbox: &'a Mailbox, sql: Transaction<'a>, state: State) -> Self {
        let before = (state.last_item, state.last_change);
        Self {
            store,
            mailbox,
            sql,
            state,
            now: now(),
            before,
            change: None,
            folders: BTreeSet::new(),
            tags: BTreeSet::new(),
            statistics: false,
            made: Vec::new(),
            doomed: Vec::new(),
        }
    }

    /// The mailbox's copy of a table, with its database.
    pub fn table(&self, name: &str) -> String {
        table(self.mailbox.group, name)
    }

    /// The change id of this transaction: one for all it does.
    pub fn change(&mut self) -> u32 {
        *self.change.get_or_insert_with(|| {
            self.state.last_change += 1;
            self.state.last_change
        })
    }

    /// An item id nobody used.
    pub fn next_item(&mut self) -> u32 {
        self.state.last_item += 1;
        self.state.last_item
    }

    /// Items, unread items and bytes come to a folder, or go.
    pub fn adjust_folder(&mut self, folder: u32, count: i64, unread: i64, bytes: i64) {
        let (next_uid, change) = (self.state.last_item + 1, self.change());
        if let Some(f) = self.state.tree.folders.get_mut(&folder) {
            f.count += count;
            f.unread += unread;
            f.note(next_uid, change, bytes);
            self.folders.insert(folder);
        }
    }

    /// Items and unread items come to a tag, or go.
    pub fn adjust_tag(&mut self, tag: i32, count: i64, unread: i64) {
        if let Some(t) = self.state.tree.tags.get_mut(&tag) {
            t.count += count;
            t.unread += unread;
            self.tags.insert(tag);
        }
    }

    /// Bytes come to the mailbox, or go.
    pub fn adjust_size(&mut self, bytes: i64) {
        self.state.size = (self.state.size + bytes).max(0);
        self.statistics = true;
    }

    /// A message came that the user has not seen.
    pub fn note_new_message(&mut self) {
        self.state.new_messages += 1;
        self.statistics = true;
    }

    /// A file that must vanish if this fails.
    pub fn made(&mut self, path: PathBuf) {
        self.made.push(path);
    }

    /// A file that must vanish when this is done, outside the lock.
    pub fn doom(&mut self, path: PathBuf) {
        self.doomed.push(path);
    }

    /// Writes the counters. Folder rows keep their old `mod_metadata`, tags their old `sequence`, and the
    /// mailbox row is written only for new sizes or when a checkpoint is crossed.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn finish(&mut self) -> Outcome<()> {
        let mailbox = self.mailbox.id;
        let statement = format!(
            "UPDATE {} SET size = ?, unread = ?, metadata = ? WHERE mailbox_id = ? AND id = ?",
            self.table("mail_item")
        );
        for id in &self.folders {
            if let Some(f) = self.state.tree.folders.get(id) {
                self.sql.exec_drop(&statement, (f.count.max(0), f.unread.max(0), &f.metadata, mailbox, id))?;
            }
        }
        let statement =
            format!("UPDATE {} SET item_count = ?, unread = ? WHERE mailbox_id = ? AND id = ?", self.table("tag"));
        for id in &self.tags {
            if let Some(t) = self.state.tree.tags.get(id) {
                self.sql.exec_drop(&statement, (t.count, t.unread, mailbox, id))?;
            }
        }
        let s = &self.state;
        if self.statistics || checkpoint::is_crossed(self.before, (s.last_item, s.last_change)) {
            self.sql.exec_drop(
                "UPDATE zimbra.mailbox SET item_id_checkpoint = ?, change_checkpoint = ?, size_checkpoint = ?, \
                 new_messages = ?, contact_count = ? WHERE id = ?",
                (s.last_item, s.last_change, s.size, s.new_messages, s.contacts, mailbox),
            )?;
        }
        Ok(())
    }

    /// Makes it so, and gives what the mailbox holds in memory now, and the files that nobody needs any more.
    ///
    /// # Errors
    /// `service.FAILURE` when the commit fails.
    pub fn commit(self) -> Outcome<(State, Vec<PathBuf>)> {
        if let Err(e) = self.sql.commit() {
            remove(&self.made);
            return Err(e.into());
        }
        if !(self.folders.is_empty() && self.tags.is_empty()) {
            state::cache_tree(&self.store.memcached(), &self.mailbox.account, &self.state.tree);
        }
        Ok((self.state, self.doomed))
    }

    /// As if it had never been.
    pub fn roll_back(self) {
        remove(&self.made);
        // Without a commit the server rolls back anyway, when the connection is reset.
        let _ = self.sql.rollback();
    }
}

/// A table of a mailbox group, with its database.
pub fn table(group: u32, name: &str) -> String {
    format!("mboxgroup{group}.{name}")
}

/// Seconds since 1970.
pub fn now() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Removes files.
pub fn remove(paths: &[PathBuf]) {
    for path in paths {
        // Garbage in the store is harmless, and normal.
        let _ = fs::remove_file(path);
    }
}
