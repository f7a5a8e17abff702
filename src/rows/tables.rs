//! Which tables hold rows of a mailbox: found by their `mailbox_id` column, so that a newer version's and an
//! extension's are found too.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::dump::{Dump, MAILBOX_ID, Rewrites, dump_table, rewrite_ids};
use super::shape::Shape;
use crate::clients::db::{Session, name};
use crate::error::{Error, Kind, Result};

/// A table with rows of mailboxes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MailboxTable {
    /// Database: a mailbox group, or `zimbra`.
    pub database: String,
    /// Table.
    pub table: String,
}

/// Tables of `zimbra` that are not copied although they have such a column, and why.
const HELD_BACK: &[(&str, &str)] = &[
    ("mailbox", "the mailbox itself is staged, refreshed and published"),
    ("deleted_account", "remembers mailboxes that were deleted on this server"),
    ("volume_blobs", "what deduplication knows of this server's own volumes"),
    ("current_sessions", "which server of a cluster serves a mailbox now"),
    (
        "pending_acl_push",
        "servers delete its rows of locked mailboxes too: they are set aside and put down with the switch",
    ),
    ("scheduled_task", "servers delete a task that ran in all mailboxes: its rows are set aside in the same way"),
];

/// Why a table is not copied with the others; `None` when it is.
pub fn held_back(database: &str, table: &str) -> Option<&'static str> {
    let held = HELD_BACK.iter().find(|(held, _)| database == "zimbra" && *held == table);
    held.map(|(_, why)| *why)
}

/// All tables of `zimbra` and of a mailbox group with rows of mailboxes, except those held back, by name.
pub fn mailbox_tables(session: &mut Session, group: &str) -> Result<Vec<MailboxTable>> {
    let mut tables = with_mailbox_id(session, group)?;
    tables.extend(with_mailbox_id(session, "zimbra")?);
    tables.retain(|t| held_back(&t.database, &t.table).is_none());
    Ok(tables)
}

/// Every base table of a database that has a `mailbox_id` column, held back or not, by name.
pub fn with_mailbox_id(session: &mut Session, database: &str) -> Result<Vec<MailboxTable>> {
    name(database)?;
    // Two questions: a server took 16 ms to join the answers, 1 ms to give them, and it is asked under the freeze too.
    let of_columns = format!(
        "SELECT TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = _utf8mb3'{database}' \
         AND COLUMN_NAME = _utf8mb3'{MAILBOX_ID}' ORDER BY TABLE_NAME"
    );
    let of_tables = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = _utf8mb3'{database}' \
         AND TABLE_TYPE = _utf8mb3'BASE TABLE'"
    );
    let tables: BTreeSet<(String,)> = session.all(&of_tables, ())?.into_iter().collect();
    let mut rows: Vec<(String,)> = session.all(&of_columns, ())?;
    rows.retain(|row| tables.contains(row));
    Ok(rows.into_iter().map(|(table,)| MailboxTable { database: database.into(), table }).collect())
}

/// The dumps that together are all of a mailbox: one a table, in the order of [`mailbox_tables`], with the
/// rewrites that its columns have. `group` and `into` are the groups' databases on both sides.
///
/// # Errors
/// `Refused` when a table holds rows of this mailbox and the destination has no such table.
pub fn mailbox_dumps(
    source: &mut Session,
    destination: &mut Session,
    group: &str,
    into: &str,
    mailbox: u32,
    rewrites: &Rewrites,
) -> Result<Vec<Dump>> {
    let mut there = with_mailbox_id(destination, into)?;
    // In a plan the group's database may not be there yet: it is made with its tables when the mailbox gets its place.
    let is_made = !there.is_empty();
    there.extend(with_mailbox_id(destination, "zimbra")?);
    let mut dumps = Vec::new();
    let mut missing = Vec::new();
    for MailboxTable { database, table } in mailbox_tables(source, group)? {
        let to = if database == group { into.to_string() } else { database.clone() };
        let is_there = there.iter().any(|t| t.database == to && t.table == table) || !is_made && database == group;
        if !is_there {
            let sql =
                format!("SELECT 1 FROM {}.{} WHERE mailbox_id = {mailbox} LIMIT 1", name(&database)?, name(&table)?);
            if !source.raw(&sql)?.is_empty() {
                missing.push(format!("{to}.{table}"));
            }
            continue;
        }
        let columns = columns(source, &database, &table)?;
        let own = rewrites.iter().filter(|(column, _)| columns.iter().any(|c| c.eq_ignore_ascii_case(column)));
        let own = own.map(|(column, rewrite)| (column.clone(), rewrite.clone())).collect();
        dumps.push(rewrite_ids(dump_table(database, table).mailbox(mailbox).into_database(to), own));
    }
    if missing.is_empty() {
        return Ok(dumps);
    }
    let message = format!(
        "mailbox {mailbox} to {}: has rows in {}, which do not exist there",
        destination.store(),
        missing.join(", ")
    );
    Err(Error::new(Kind::Refused, message))
}

/// How many rows a mailbox has in a table.
pub fn count_rows(session: &mut Session, table: &MailboxTable, mailbox: u32) -> Result<u64> {
    let (database, table) = (name(&table.database)?, name(&table.table)?);
    Ok(session.one::<(u64,)>(&format!("SELECT COUNT(*) FROM {database}.{table} WHERE mailbox_id = {mailbox}"), ())?.0)
}

/// Every reason why rows of a mailbox would not survive at the destination, table by table. `into` is a group's
/// database there, as the one that the mailbox will be in.
pub fn unfit(
    source: &mut Session,
    destination: &mut Session,
    group: &str,
    into: &str,
    mailbox: u32,
) -> Result<Vec<String>> {
    let mut reasons = Vec::new();
    for MailboxTable { database, table } in mailbox_tables(source, group)? {
        let to = if database == group { into } else { database.as_str() };
        let dump = dump_table(&database, &table).mailbox(mailbox).into_database(to);
        match Shape::fit(source, destination, &dump) {
            Ok(Some(shape)) => reasons.extend(shape.misfits(source)?),
            Ok(None) => {}
            Err(error) if error.kind() == Kind::Refused => reasons.push(error.message().to_owned()),
            Err(error) => return Err(error),
        }
    }
    Ok(reasons)
}

fn columns(session: &mut Session, database: &str, table: &str) -> Result<Vec<String>> {
    let layout = super::Layout::read(session, database, table)?;
    Ok(layout.map(|l| l.columns.into_iter().map(|c| c.name).collect()).unwrap_or_default())
}
