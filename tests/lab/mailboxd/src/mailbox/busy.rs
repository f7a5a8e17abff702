//! A user who never rests: a third of what happens are deletions, and HSM is at work as well.

use std::fs;

use lab_mail::volume;
use mysql::prelude::Queryable;

use super::change::{
    Action, Rng, create_tag, empty_dumpster, flag, hard_delete, move_message, new_document, new_folder, new_message,
    read_or_unread, rename_folder, rename_tag, revise_document, soft_delete, system_flag, tag_message,
};
use super::tx::Tx;
use crate::fault::Outcome;

/// What can happen, how often of a hundred, and what it is called.
pub const ACTIONS: [(u8, &str, Action); 16] = [
    (20, "delete", hard_delete),
    (10, "dump", soft_delete),
    (4, "empty-dumpster", empty_dumpster),
    (8, "age", age),
    (2, "new-folder", new_folder),
    (1, "rename-folder", rename_folder),
    (22, "message", new_message),
    (8, "read", read_or_unread),
    (4, "flag", flag),
    (3, "system-flag", system_flag),
    (6, "move", move_message),
    (2, "new-tag", create_tag),
    (3, "tag", tag_message),
    (1, "rename-tag", rename_tag),
    (3, "document", new_document),
    (3, "revision", revise_document),
];

/// A blob gets old: it goes to the secondary volume, without a change of its item.
fn age(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let volumes = tx.store.volumes();
    let (from, Some(to)) = (volumes.current_message(), volumes.current_secondary()) else { return Ok(false) };
    let condition = format!("type = 5 AND blob_digest IS NOT NULL AND locator = '{}'", from.id);
    let Some(item) = tx.pick(rng, &condition)? else { return Ok(false) };
    let [old, new] = [from, to].map(|volume| volume.blob_path(tx.mailbox.id, item.id, item.mod_content));
    // What was lost cannot age.
    let Ok(bytes) = fs::read(&old) else { return Ok(false) };
    if let Some(dir) = new.parent() {
        volume::make_dirs(&to.root, dir)?;
    }
    volume::write_file(&new, &bytes, false)?;
    tx.made(new);
    tx.doom(old);
    let statement = format!("UPDATE {} SET locator = ? WHERE mailbox_id = ? AND id = ?", tx.table("mail_item"));
    tx.sql.exec_drop(statement, (to.id.to_string(), tx.mailbox.id, item.id))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_a_hundred_are_deletions() {
        assert_eq!(ACTIONS.iter().map(|(weight, ..)| u32::from(*weight)).sum::<u32>(), 100);
        assert_eq!(ACTIONS[..3].iter().map(|(weight, ..)| u32::from(*weight)).sum::<u32>(), 34);
    }
}
