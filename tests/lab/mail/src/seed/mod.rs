//! Makes mailboxes: deterministic by seed, fast, and with everything in them that has ever hurt a move.

mod build;
mod calendar;
mod dumpster;
mod folders;
mod forms;
mod group;
mod hurts;
mod items;
mod mail;
mod neighbours;
mod rows;
mod server;
mod tags;
mod text;

use std::path::Path;

use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

use crate::volume::Volumes;
use crate::{Error, Result};
use build::Build;
pub use group::ensure_group;
pub use neighbours::neighbours;
pub use tags::FLAGS;

/// The first id that is not a system folder's.
pub const FIRST_ITEM: u32 = 257;

/// Which mailbox to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The mailbox id. The store's `next_mailbox_id` is raised above it.
    pub mailbox: u32,
    /// The account's `zimbraId`.
    pub account_id: String,
    /// The account's primary address.
    pub email: String,
    /// The mailbox group; made when it is absent.
    pub group: u32,
    /// How many messages, contacts, appointments, documents, tasks and conversations, together.
    pub items: u32,
    /// The same seed makes the same mailbox.
    pub seed: u64,
    /// The median of blob sizes in bytes; `None`: 12 KiB, and 2 KiB above 100,000 items.
    pub blob_bytes: Option<u32>,
    /// Whether to add everything that has ever hurt a move.
    pub hurts: bool,
    /// The size in bytes of one metadata row; 0: none.
    pub huge_metadata: usize,
    /// Rows in `pending_acl_push`, which a running server takes away by itself.
    pub pending_acl_push: u32,
    /// Files in `msg` that no row names, as interrupted deletions leave them.
    pub stray_files: u32,
    /// A mailbox on the same store whose first blobs are linked into this one, as delivery to several
    /// recipients does.
    pub linked_with: Option<u32>,
}

impl Spec {
    /// A plain mailbox of 1,000 items in the group that Zimbra would give it.
    pub fn new(mailbox: u32, account_id: &str, email: &str) -> Self {
        Self {
            mailbox,
            account_id: account_id.into(),
            email: email.into(),
            group: group_of(mailbox),
            items: 1000,
            seed: mailbox.into(),
            blob_bytes: None,
            hurts: false,
            huge_metadata: 0,
            pending_acl_push: 0,
            stray_files: 0,
            linked_with: None,
        }
    }

    /// The same mailbox with everything that hurts.
    pub fn hurting(mut self) -> Self {
        self.hurts = true;
        self.huge_metadata = 15 << 20;
        self.pending_acl_push = 3;
        self
    }

    fn blob_median(&self) -> u32 {
        let usual = if self.items > 100_000 { 2 << 10 } else { 12 << 10 };
        self.blob_bytes.unwrap_or(usual)
    }
}

/// The group of a mailbox on a store with 100 groups.
pub fn group_of(mailbox: u32) -> u32 {
    mailbox.wrapping_sub(1) % 100 + 1
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeded {
    /// The mailbox id.
    pub mailbox: u32,
    /// Its group.
    pub group: u32,
    /// Rows in all tables.
    pub rows: u64,
    /// Blob files, links included.
    pub blobs: u64,
    /// Their uncompressed bytes.
    pub bytes: u64,
    /// The highest item id in use.
    pub max_item: u32,
    /// The highest change id in use.
    pub max_change: u32,
}

/// Makes a mailbox on the store of `conn`, whose `/opt/zimbra` is the directory `zimbra_home_outside`
/// where this runs.
///
/// # Errors
/// A mailbox with that id or account exists already; what the server or the file system refuses.
pub fn seed(conn: &mut mysql::Conn, zimbra_home_outside: &Path, spec: &Spec) -> Result<Seeded> {
    refuse_existing(conn, spec)?;
    ensure_group(conn, zimbra_home_outside, spec.group)?;
    let volumes = Volumes::read(conn, zimbra_home_outside)?;
    // Foreign keys are off because children come before parents here; the tests look for orphans.
    conn.query_drop("SET NAMES utf8mb4")?;
    conn.query_drop("SET SESSION sql_mode = '', foreign_key_checks = 0, time_zone = '+00:00'")?;
    conn.query_drop("START TRANSACTION")?;
    let made = fill(conn, spec, &volumes);
    conn.query_drop(if made.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
    conn.query_drop("SET SESSION foreign_key_checks = 1")?;
    made
}

fn refuse_existing(conn: &mut mysql::Conn, spec: &Spec) -> Result<()> {
    let there: Option<u32> = conn
        .exec_first("SELECT id FROM zimbra.mailbox WHERE id = ? OR account_id = ?", (spec.mailbox, &spec.account_id))?;
    match there {
        Some(id) => {
            Err(Error::refused(format!("mailbox {id} exists: cannot seed mailbox {} of {}", spec.mailbox, spec.email)))
        }
        None => Ok(()),
    }
}

fn fill(conn: &mut mysql::Conn, spec: &Spec, volumes: &Volumes) -> Result<Seeded> {
    let mut build = Build::new(conn, spec, volumes)?;
    server::mailbox_row(&mut build)?;
    items::fill(&mut build)?;
    if spec.hurts {
        hurts::fill(&mut build)?;
        dumpster::fill(&mut build)?;
    }
    neighbours::link(&mut build)?;
    server::fill(&mut build)?;
    tags::fill(&mut build)?;
    folders::fill(&mut build)?;
    build.finish()
}
