//! The mailbox's row once more, when its items have arrived: what the source counts now, and checkpoints that
//! no item or change has passed.

use serde::{Deserialize, Serialize};

use super::mailbox::{MailboxRow, mailbox_by_id};
use super::stage::Staged;
use crate::clients::db::{Session, Value, literal, name};
use crate::error::{Error, Kind, Result};
use crate::rows::Layout;

/// The last item id and change id that a mailbox has given out, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// For `item_id_checkpoint`.
    pub item: u64,
    /// For `change_checkpoint`.
    pub change: u64,
}

/// How many ids mailboxd may give out before it writes a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// Items.
    pub item: u64,
    /// Changes (`zimbra_mailbox_change_checkpoint_frequency`).
    pub change: u64,
}

impl Default for Steps {
    fn default() -> Self {
        Self { item: 20, change: 100 }
    }
}

/// Tables with columns of item ids and of change ids.
const ITEMS: &[(&str, &str)] = &[
    ("mail_item", "id"),
    ("mail_item_dumpster", "id"),
    ("revision", "item_id"),
    ("revision_dumpster", "item_id"),
    ("tag", "id"),
];
const CHANGES: &[(&str, &str)] = &[
    ("mail_item", "mod_metadata"),
    ("mail_item", "mod_content"),
    ("mail_item_dumpster", "mod_metadata"),
    ("mail_item_dumpster", "mod_content"),
    ("revision", "mod_metadata"),
    ("revision", "mod_content"),
    ("revision_dumpster", "mod_metadata"),
    ("revision_dumpster", "mod_content"),
    ("tag", "sequence"),
    ("tombstone", "sequence"),
];

/// The checkpoints for a mailbox: at least the source row's and at least every id in the group's rows, rounded
/// up as mailboxd does when it loads the row, because between two checkpoints it gives ids out without writing
/// them down. Given out twice, an id breaks sync tokens and names of blobs. The destination may count in other
/// steps than `steps`, the source's, so the rounding is done here. `content` gives the highest `mod_content` of a table
/// where that is known: no index has it, so all rows are read for it.
pub fn checkpoints(
    session: &mut Session,
    staged: &Staged,
    source: &MailboxRow,
    steps: Steps,
    content: &dyn Fn(&str) -> Option<u64>,
) -> Result<Checkpoints> {
    let mut item = highest(session, staged, ITEMS, &|_| None)?.max(source.item_id_checkpoint);
    let change = highest(session, staged, CHANGES, content)?.max(source.change_checkpoint);
    let sql = format!("SELECT ids FROM {}.tombstone WHERE mailbox_id = {}", name(&staged.database)?, staged.id);
    session.each(&sql, |row| {
        let ids = row.into_iter().next().flatten().unwrap_or_default();
        item = item.max(highest_tombstone(&ids));
        Ok(())
    })?;
    Ok(Checkpoints { item: rounded(item, steps.item), change: rounded(change, steps.change) })
}

fn highest(
    session: &mut Session,
    staged: &Staged,
    list: &[(&str, &str)],
    content: &dyn Fn(&str) -> Option<u64>,
) -> Result<u64> {
    let mut most = 0;
    for (table, column) in list {
        let known = if *column == "mod_content" { content(table) } else { None };
        let number = match known {
            Some(number) => number,
            None => {
                let from = format!("{}.{table} WHERE mailbox_id = {}", name(&staged.database)?, staged.id);
                let (max,): (Option<i64>,) = session.one(&format!("SELECT MAX({column}) FROM {from}"), ())?;
                u64::try_from(max.unwrap_or(0)).unwrap_or(0)
            }
        };
        most = most.max(number);
    }
    Ok(most)
}

/// `ids` is a list of `id` or `id:uuid`.
fn highest_tombstone(ids: &[u8]) -> u64 {
    let id = |part: &[u8]| -> Option<u64> {
        std::str::from_utf8(part.split(|b| *b == b':').next()?).ok()?.trim().parse().ok()
    };
    ids.split(|b| *b == b',').filter_map(id).max().unwrap_or(0)
}

/// The last number of its step: 250 in steps of 100 becomes 299, and stays so.
fn rounded(number: u64, step: u64) -> u64 {
    let step = step.max(1);
    (number / step + 1) * step - 1
}

/// Which counters of a staged row are not above what the source's row says: [`refresh`] has not been there since.
pub fn behind(session: &mut Session, staged: &Staged, source: &MailboxRow, steps: Steps) -> Result<Vec<String>> {
    let row = mailbox_by_id(session, staged.id)?.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("mailbox {} on {}: its row is gone", staged.id, session.store()))
    })?;
    let counters = [
        ("item_id_checkpoint", row.item_id_checkpoint, rounded(source.item_id_checkpoint, steps.item)),
        ("change_checkpoint", row.change_checkpoint, rounded(source.change_checkpoint, steps.change)),
    ];
    let behind = counters.into_iter().filter(|(_, there, least)| there < least);
    Ok(behind.map(|(name, there, least)| format!("{name} is {there}, and must be {least} at least")).collect())
}

/// Writes the source row's present values and the checkpoints into the staged row. Its id, group, account,
/// index volume and backup stay the destination's own.
pub fn refresh(session: &mut Session, staged: &Staged, source: &MailboxRow, checkpoints: Checkpoints) -> Result<()> {
    const OWN: &[&str] = &["id", "group_id", "account_id", "index_volume_id", "last_backup_at"];
    let Some(layout) = Layout::read(session, "zimbra", "mailbox")? else {
        return Err(Error::new(Kind::NotFound, format!("{}: table zimbra.mailbox does not exist", session.store())));
    };
    let mut set = Vec::new();
    for column in layout.columns.iter().filter(|c| !OWN.contains(&c.name.as_str())) {
        let value = match (column.name.as_str(), source.columns.get(&column.name)) {
            ("item_id_checkpoint", _) => Value::Int(checkpoints.item.try_into().unwrap_or(i64::MAX)),
            ("change_checkpoint", _) => Value::Int(checkpoints.change.try_into().unwrap_or(i64::MAX)),
            (_, Some(Some(text))) => Value::Text(text.clone()),
            (_, Some(None)) => Value::Null,
            (_, None) => continue,
        };
        set.push(format!("{} = {}", name(&column.name)?, literal(&value)));
    }
    let placeholder = literal(&Value::Text(staged.placeholder.clone()));
    let sql =
        format!("UPDATE zimbra.mailbox SET {} WHERE id = {} AND account_id = {placeholder}", set.join(", "), staged.id);
    session.transaction(|session| {
        // An update that changes nothing affects no row, so the row is looked for first.
        let found =
            format!("SELECT 1 FROM zimbra.mailbox WHERE id = {} AND account_id = {placeholder} FOR UPDATE", staged.id);
        if session.raw(&found)?.is_empty() {
            let message = format!("mailbox {} on {}: is not staged by this run", staged.id, session.store());
            return Err(Error::new(Kind::NotFound, message));
        }
        session.run(&sql).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_end_their_step() {
        assert_eq!(rounded(250, 100), 299);
        assert_eq!(rounded(299, 100), 299);
        assert_eq!(rounded(300, 100), 399);
        assert_eq!(rounded(7, 1), 7);
    }

    #[test]
    fn tombstones_name_items() {
        assert_eq!(highest_tombstone(b"12,4000:0f-1,7"), 4000);
        assert_eq!(highest_tombstone(b""), 0);
        assert_eq!(highest_tombstone(b"x,9"), 9);
    }
}
