//! Shares that are yet to be published.

use super::stage::Staged;
use crate::clients::db::Session;
use crate::error::Result;

/// Copies the source's `pending_acl_push` rows of a mailbox to the switched mailbox and returns how many went
/// in. Only after the switch: every server pushes what it has, fails for mailboxes that it does not serve, and
/// then empties the table. What the destination has written since stays.
pub fn copy_acl_push(source: &mut Session, mailbox: u32, destination: &mut Session, staged: &Staged) -> Result<u64> {
    let rows: Vec<(u32, u64)> =
        source.all("SELECT item_id, date FROM zimbra.pending_acl_push WHERE mailbox_id = ?", (mailbox,))?;
    destination.transaction(|session| {
        let mut copied = 0;
        for (item, date) in &rows {
            let sql = "INSERT INTO zimbra.pending_acl_push (mailbox_id, item_id, date) VALUES (?, ?, ?) \
                       ON DUPLICATE KEY UPDATE date = date";
            copied += session.exec(sql, (staged.id, item, date))?.affected;
        }
        Ok(copied)
    })
}
