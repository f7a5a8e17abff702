//! The row of a mailbox that a store kept when the mailbox was moved away: what tells it from the row at the new
//! home, and its counters.

use std::collections::BTreeSet;

use super::mailbox::MailboxRow;
use super::refresh::{Checkpoints, Steps, checkpoints};
use super::stage::Staged;
use crate::clients::db::{Session, name};
use crate::error::{Error, Kind, Result};

/// Columns in which both rows may differ though nobody wrote to the mailbox; going back to the older value loses
/// nothing of the user's. Any other column, an extension's too, must be the same: `size_checkpoint` for one, or
/// `tracking_sync` and `tracking_imap`, by which clients are promised that nothing is left out.
const OWN: &[&str] = &[
    // Where a copy lies, and what was backed up of it, is each store's own.
    "id",
    "group_id",
    "account_id",
    "index_volume_id",
    "last_backup_at",
    // Judged by themselves: see `used_since`.
    "item_id_checkpoint",
    "change_checkpoint",
    // When somebody was last there, and how much had come since then: written when a session begins or ends.
    "last_soap_access",
    "new_messages",
    // When old mail was last looked for. What a purge takes away, the items' rows tell.
    "last_purge_at",
    // Counted from rows whenever it is not set.
    "contact_count",
    // Not used any more.
    "idx_deferred_count",
    "highest_indexed",
    // Names entries of a cache.
    "itemcache_checkpoint",
];

/// What differs between the row that was kept and the one at the new home, in words.
pub fn row_differences(kept: &MailboxRow, there: &MailboxRow) -> Vec<String> {
    let names: BTreeSet<&String> = kept.columns.keys().chain(there.columns.keys()).collect();
    let shown = |row: &MailboxRow, name: &str| row.get(name).unwrap_or("NULL").to_owned();
    names
        .into_iter()
        .filter(|name| !OWN.contains(&name.as_str()) && kept.get(name) != there.get(name))
        .map(|name| format!("zimbra.mailbox: {name} was {} and is {}", shown(kept, name), shown(there, name)))
        .collect()
}

/// Whether rows of a mailbox say that items are in its index; 0 and 1 are those that wait for it.
pub fn has_indexed(session: &mut Session, row: &MailboxRow) -> Result<bool> {
    let sql = format!("SELECT 1 FROM {}.mail_item WHERE mailbox_id = ? AND index_id > 1 LIMIT 1", name(&row.group())?);
    Ok(session.first::<(u8,)>(&sql, (row.id,))?.is_some())
}

/// Which numbers were used at the new home, in words. A move leaves both counters at the end of their steps, so the
/// first item or change that mailboxd makes is written into the row; `kept` and its rows say what they were then.
pub fn used_since(session: &mut Session, place: &Staged, kept: &MailboxRow, there: &MailboxRow) -> Result<Vec<String>> {
    let left = checkpoints(session, place, kept, Steps::default(), &|_| None)?;
    let counters = [
        ("item_id_checkpoint", left.item, there.item_id_checkpoint),
        ("change_checkpoint", left.change, there.change_checkpoint),
    ];
    let used = counters.into_iter().filter(|(_, then, now)| then != now);
    Ok(used.map(|(name, then, now)| format!("zimbra.mailbox: {name} was {then} and is {now}")).collect())
}

/// The counters of a row.
pub fn counters(row: &MailboxRow) -> Checkpoints {
    Checkpoints { item: row.item_id_checkpoint, change: row.change_checkpoint }
}

/// Changes the counters of an account's mailbox from one state to another. Doing it again changes nothing.
///
/// # Errors
/// `Held` when the counters are neither; `NotFound`.
pub fn recount(session: &mut Session, id: u32, account: &str, from: Checkpoints, to: Checkpoints) -> Result<()> {
    session.transaction(|session| {
        let place = format!("mailbox {id} on {}", session.store());
        let found: Option<(u64, u64)> = session.first(
            "SELECT item_id_checkpoint, change_checkpoint FROM zimbra.mailbox WHERE id = ? AND account_id = ? FOR UPDATE",
            (id, account),
        )?;
        match found.map(|(item, change)| Checkpoints { item, change }) {
            Some(now) if now == to => Ok(()),
            Some(now) if now == from => session
                .exec(
                    "UPDATE zimbra.mailbox SET item_id_checkpoint = ?, change_checkpoint = ? WHERE id = ?",
                    (to.item, to.change, id),
                )
                .map(drop),
            Some(_) => Err(Error::new(Kind::Held, format!("{place}: somebody else changed its counters"))),
            None => Err(Error::new(Kind::NotFound, format!("{place}: is not the mailbox of {account} any more"))),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(columns: &[(&str, Option<&str>)]) -> MailboxRow {
        let columns: BTreeMap<_, _> =
            columns.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
        MailboxRow {
            id: 1,
            group_id: 1,
            account_id: String::new(),
            index_volume_id: 2,
            item_id_checkpoint: 0,
            change_checkpoint: 0,
            columns,
        }
    }

    #[test]
    fn what_mailboxd_writes_by_itself_is_no_difference() {
        let kept = row(&[("size_checkpoint", Some("9")), ("last_soap_access", Some("5")), ("id", Some("1"))]);
        let there = row(&[("size_checkpoint", Some("9")), ("last_soap_access", Some("7")), ("id", Some("4"))]);
        assert_eq!(row_differences(&kept, &there), Vec::<String>::new());
    }

    #[test]
    fn what_users_do_is_one() {
        let kept = row(&[("size_checkpoint", Some("9")), ("tracking_sync", Some("0")), ("own", None)]);
        let there = row(&[("size_checkpoint", Some("12")), ("tracking_sync", Some("399")), ("own", Some("1"))]);
        let differences = row_differences(&kept, &there);
        assert_eq!(differences.len(), 3, "{differences:?}");
        assert_eq!(differences[0], "zimbra.mailbox: own was NULL and is 1");
    }
}
