//! Takes back what was staged and copied for it.

use serde::{Deserialize, Serialize};

use super::barrier;
use super::group;
use super::stage::Staged;
use crate::cancel::Cancel;
use crate::clients::db::{Pool, Session, name};
use crate::error::{Error, Kind, Result};
use crate::rows::{MailboxTable, with_mailbox_id};

/// What was taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unstaged {
    /// Rows deleted, the mailbox's own included; 0 when there was no such mailbox any more.
    pub rows: u64,
    /// Whether the group's database was dropped.
    pub dropped_group: bool,
}

/// Rows deleted in one transaction.
const CHUNK: u64 = 10_000;
/// Tables that others refer to; they go last.
const PARENTS: &[&str] = &["mail_item", "mail_item_dumpster", "tag", "imap_folder"];

/// Deletes every row of a staged mailbox, children first and its own last, so that what died halfway can be
/// done again. Each transaction first locks the mailbox's row and looks that it still carries exactly our
/// placeholder: a published mailbox is never touched. The group's database is dropped only if this run created
/// it and it is empty.
pub fn unstage(pool: &Pool, staged: &Staged, cancel: &Cancel) -> Result<Unstaged> {
    let mut lease = pool.get(cancel)?;
    let session = &mut *lease;
    let mut unstaged = Unstaged::default();
    if !ours(session, staged)? {
        return Ok(unstaged);
    }
    let mut tables = with_mailbox_id(session, "zimbra")?;
    // What this store remembers of mailboxes that it deleted is not ours.
    tables.retain(|t| t.table != "deleted_account");
    let there = group::exists(session, &staged.database)?;
    if there {
        tables.extend(with_mailbox_id(session, &staged.database)?);
    }
    tables.sort_by_key(|t| PARENTS.contains(&t.table.as_str()));
    for table in &tables {
        unstaged.rows += empty(session, staged, table, cancel)?;
    }
    if there && staged.created_group {
        unstaged.dropped_group = drop_group(session, pool, staged, cancel)?;
    }
    let (id, placeholder) = (staged.id, &staged.placeholder);
    let sql = "DELETE FROM zimbra.mailbox WHERE id = ? AND account_id = ?";
    unstaged.rows += session.transaction(|session| session.exec(sql, (id, placeholder)))?.affected;
    // A server that dies now would bring back rows whose files are gone.
    barrier(session)?;
    Ok(unstaged)
}

/// Whether the mailbox is there, as our own; somebody else's is an error.
fn ours(session: &mut Session, staged: &Staged) -> Result<bool> {
    let sql = "SELECT account_id FROM zimbra.mailbox WHERE id = ? FOR UPDATE";
    match session.first::<(String,)>(sql, (staged.id,))? {
        None => Ok(false),
        Some((found,)) if found == staged.placeholder => Ok(true),
        Some((found,)) => {
            let message = format!("mailbox {} on {}: belongs to {found}, not to this run", staged.id, session.store());
            Err(Error::new(Kind::Held, message))
        }
    }
}

fn empty(session: &mut Session, staged: &Staged, table: &MailboxTable, cancel: &Cancel) -> Result<u64> {
    let table = format!("{}.{}", name(&table.database)?, name(&table.table)?);
    let sql = format!("DELETE FROM {table} WHERE mailbox_id = {} LIMIT {CHUNK}", staged.id);
    let mut total = 0;
    loop {
        cancel.check()?;
        let deleted = session.transaction(|session| {
            if !ours(session, staged)? {
                let message = format!("mailbox {} on {}: vanished", staged.id, session.store());
                return Err(Error::new(Kind::Held, message));
            }
            Ok(session.run(&sql)?.affected)
        })?;
        total += deleted;
        if deleted < CHUNK {
            return Ok(total);
        }
    }
}

/// Drops the group's database unless a mailbox lives in it or may be about to. Whoever creates a mailbox first
/// takes an id from `current_volumes`, so while that row is locked and no later id of this group was given out,
/// nobody else can be on the way into it. DROP ends a transaction, so the lock needs a second connection.
fn drop_group(session: &mut Session, pool: &Pool, staged: &Staged, cancel: &Cancel) -> Result<bool> {
    let Some(mut guard) = pool.try_get(cancel)? else { return Ok(false) };
    cancel.check()?;
    guard.begin()?;
    let (next,): (u32,) = guard.one("SELECT next_mailbox_id FROM zimbra.current_volumes FOR UPDATE", ())?;
    let sql = "SELECT COUNT(*) FROM zimbra.mailbox WHERE group_id = ? AND id <> ?";
    let (others,): (u64,) = session.one(sql, (staged.group_id, staged.id))?;
    let later = u64::from(next) > u64::from(staged.id) + u64::from(staged.groups);
    let dropped = others == 0 && !later && is_empty(session, &staged.database)?;
    if dropped {
        session.run(&format!("DROP DATABASE {}", name(&staged.database)?))?;
    }
    guard.rollback()?;
    Ok(dropped)
}

fn is_empty(session: &mut Session, database: &str) -> Result<bool> {
    for table in with_mailbox_id(session, database)? {
        let sql = format!("SELECT 1 FROM {}.{} LIMIT 1", name(database)?, name(&table.table)?);
        if !session.raw(&sql)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}
