//! What mailboxd does with tables that all mailboxes share, without asking whose rows they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mysql::params;
use mysql::prelude::Queryable;

use super::Mailbox;
use super::mailboxes::Fetch;
use crate::callback::{Change, How};
use crate::directory::By;
use crate::fault::Outcome;
use crate::store::Store;

const PERIOD: Duration = Duration::from_secs(15 * 60);

/// Publishes shares every so often, for as long as the process lives.
pub fn run(store: &Arc<Store>) {
    loop {
        thread::sleep(PERIOD);
        if !store.resting.load(Ordering::SeqCst) {
            // What could not be published is tried in the next round.
            let _ = push_acl(store);
        }
    }
}

/// Publishes the shares in `pending_acl_push`, then deletes every row that was there when it began: those of mailboxes
/// that could not be opened, being locked or not this server's, too.
///
/// # Errors
/// `service.FAILURE`.
pub fn push_acl(store: &Store) -> Outcome<usize> {
    let mut conn = store.pool.get_conn()?;
    let before = milliseconds();
    let rows: Vec<(u32, u32)> =
        conn.exec("SELECT mailbox_id, item_id FROM zimbra.pending_acl_push WHERE date < ?", (before,))?;
    let mut items: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (mailbox, item) in &rows {
        items.entry(*mailbox).or_default().push(*item);
    }
    for (mailbox, items) in items {
        if let Ok(mailbox) = store.mailboxes.load(store, mailbox) {
            publish(store, &mailbox, &items)?;
        }
    }
    conn.exec_drop("DELETE FROM zimbra.pending_acl_push WHERE date < ?", (before,))?;
    Ok(rows.len())
}

/// Writes the shares of these folders into the account's entry.
fn publish(store: &Store, mailbox: &Mailbox, items: &[u32]) -> Outcome<()> {
    let account = store.directory.the_account(By::Id, &mailbox.account)?;
    let share = |item: &u32| format!("granteeType:pub;folderId:{item};type:folder");
    let mut values = account.all("zimbraSharedItem").to_vec();
    values.extend(items.iter().map(share));
    values.sort();
    values.dedup();
    store.directory.modify(&account.dn, &[Change { name: "zimbraSharedItem".into(), how: How::Set, values }])?;
    store.directory.reload(account.id()).map(drop)
}

/// A user shares a folder: the row is written with the change, and shares are published right after it.
///
/// # Errors
/// `mail.MAINTENANCE` or `service.FAILURE`.
pub fn grant(store: &Store, account: &str, folder: u32) -> Outcome<()> {
    let mailbox = store.mailboxes.the_mailbox(store, account, Fetch::Autocreate)?;
    mailbox.write(store, |tx| {
        let (id, change, now) = (tx.mailbox.id, tx.change(), tx.now);
        let statement = format!(
            "UPDATE {} SET mod_metadata = :change, change_date = :now WHERE mailbox_id = :id AND id = :folder",
            tx.table("mail_item")
        );
        tx.sql.exec_drop(statement, params! { "change" => change, "now" => now, "id" => id, "folder" => folder })?;
        let row = "REPLACE INTO zimbra.pending_acl_push (mailbox_id, item_id, date) VALUES (?, ?, ?)";
        Ok(tx.sql.exec_drop(row, (id, folder, milliseconds()))?)
    })?;
    // It takes what was there before its own millisecond.
    thread::sleep(Duration::from_millis(2));
    push_acl(store).map(drop)
}

/// A task that runs once is done: whatever has its class and its name is deleted, in all mailboxes.
///
/// # Errors
/// `service.FAILURE`.
pub fn task_done(store: &Store, class: &str, name: &str) -> Outcome<u64> {
    let mut conn = store.pool.get_conn()?;
    conn.exec_drop("DELETE FROM zimbra.scheduled_task WHERE class_name = ? AND name = ?", (class, name))?;
    Ok(conn.affected_rows())
}

fn milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(now).unwrap_or(u64::MAX)
}
