//! Other mailboxes in the same group: what a move must not touch.

use std::path::Path;

use mysql::prelude::Queryable;

use super::build::{Build, kind};
use super::{Seeded, Spec, seed};
use crate::Result;

/// Blobs that a neighbour shares with the mailbox it is linked with.
const SHARED: u32 = 10;

/// Makes `count` mailboxes in the group of `spec`, with the ids that follow in that group, one of them
/// with all that hurts, and with blobs that are links to those of `spec`'s mailbox.
///
/// # Errors
/// As [`seed`].
pub fn neighbours(conn: &mut mysql::Conn, zimbra_home_outside: &Path, spec: &Spec, count: u32) -> Result<Vec<Seeded>> {
    (1..=count)
        .map(|n| {
            let mailbox = spec.mailbox + 100 * n;
            let account = format!("ffffffff-{:04x}-4000-8000-{:012x}", n, mailbox);
            let mut other = Spec {
                items: 60,
                seed: spec.seed + u64::from(n),
                group: spec.group,
                linked_with: Some(spec.mailbox),
                ..Spec::new(mailbox, &account, &format!("neighbour{mailbox}@lab.test"))
            };
            other.hurts = n == 1;
            seed(conn, zimbra_home_outside, &other)
        })
        .collect()
}

/// Gives the mailbox messages whose blobs are links to those of the mailbox it is linked with.
pub(super) fn link(build: &mut Build<'_>) -> Result<()> {
    let Some(other) = build.spec.linked_with else {
        return Ok(());
    };
    let group: Option<u32> = build.conn.exec_first("SELECT group_id FROM zimbra.mailbox WHERE id = ?", (other,))?;
    let Some(group) = group else {
        return Ok(());
    };
    let volume = build.volumes.current_message().clone();
    let blobs: Vec<(u32, u32, u64, String)> = build.conn.exec(
        format!(
            "SELECT id, mod_content, size, blob_digest FROM mboxgroup{group}.mail_item WHERE mailbox_id = ? \
             AND type = 5 AND locator = ? ORDER BY id LIMIT {SHARED}"
        ),
        (other, volume.id.to_string()),
    )?;
    for (id, mod_content, size, digest) in blobs {
        let mut item = build.fresh(kind::MESSAGE, 2);
        let existing = volume.blob_path(other, id, mod_content);
        volume.link_blob(&existing, build.spec.mailbox, item.id, item.mod_content)?;
        super::hurts::envelope(build, &mut item, "to several recipients");
        item.size = size;
        item.locator = Some(volume.id.to_string());
        item.digest = Some(digest);
        build.made.blobs += 1;
        build.made.bytes += size;
        build.item(item)?;
    }
    Ok(())
}
