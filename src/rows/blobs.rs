//! The blobs that rows name.

use crate::clients::db::{Session, name};
use crate::error::{Error, Kind, Result};
use crate::rows::Layout;
use crate::zimbra::blob::BlobName;

/// The tables whose rows have blobs, and the column that is the item's id there.
pub const BLOB_TABLES: &[(&str, &str)] =
    &[("mail_item", "id"), ("mail_item_dumpster", "id"), ("revision", "item_id"), ("revision_dumpster", "item_id")];

/// Calls `each` with every blob that rows of a mailbox name, and its locator: a row has a blob when it has a
/// digest of one. One blob may be named by an item and by a revision.
pub fn named_blobs(
    session: &mut Session,
    group: &str,
    mailbox: u32,
    each: &mut dyn FnMut(BlobName, &str) -> Result<()>,
) -> Result<()> {
    named(session, group, mailbox, None, each)
}

/// The same for items of these ids only.
pub fn named_blobs_of(
    session: &mut Session,
    group: &str,
    mailbox: u32,
    ids: &[u32],
    each: &mut dyn FnMut(BlobName, &str) -> Result<()>,
) -> Result<()> {
    ids.chunks(500).try_for_each(|ids| named(session, group, mailbox, Some(ids), each))
}

fn named(
    session: &mut Session,
    group: &str,
    mailbox: u32,
    ids: Option<&[u32]>,
    each: &mut dyn FnMut(BlobName, &str) -> Result<()>,
) -> Result<()> {
    for (table, id) in BLOB_TABLES {
        if Layout::read(session, group, table)?.is_none() {
            continue;
        }
        let sql = format!(
            "SELECT {id}, mod_content, locator FROM {}.{table} WHERE mailbox_id = {mailbox} AND blob_digest IS NOT NULL{}",
            name(group)?,
            ids.map_or_else(String::new, |ids| {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                format!(" AND {id} IN ({})", ids.join(","))
            })
        );
        session.each(&sql, |row| {
            let text = |at: usize| row.get(at).and_then(Option::as_deref).and_then(|v| std::str::from_utf8(v).ok());
            let number = |at: usize| text(at).and_then(|v| v.parse().ok());
            match (number(0), number(1)) {
                (Some(id), Some(mod_content)) => each(BlobName { id, mod_content }, text(2).unwrap_or_default()),
                _ => Err(Error::new(Kind::Data, format!("{group}.{table}: a blob whose name is no number"))),
            }
        })?;
    }
    Ok(())
}
