//! What a store's database says of the store.

use serde::{Deserialize, Serialize};

use super::Zone;
use crate::clients::db::{Identity, Session};
use crate::error::{Context, Error, Kind, Result};
use crate::zimbra::volume::{self, Bits, Current, Volume};

/// A store's settings, as far as its database knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The server.
    pub server: Identity,
    /// What its host's clock shows.
    pub zone: Zone,
    /// `zimbra.config` `db.version`, which mailboxd insists on.
    pub db_version: u32,
    /// All volumes, by id.
    pub volumes: Vec<Volume>,
    /// Where new things go.
    pub current: Current,
    /// The id that the next mailbox gets.
    pub next_mailbox_id: u32,
    /// Largest statement or row, in bytes.
    pub max_allowed_packet: u64,
    /// Whether the server takes `LOAD DATA LOCAL`.
    pub local_infile: bool,
    /// `innodb_flush_log_at_trx_commit`; with other than 1 a commit is not on disk when it returns.
    pub flush_log_at_commit: u8,
    /// `max_connections`.
    pub max_connections: u32,
    /// Connections now.
    pub connections: u32,
}

/// Reads the facts of a store.
pub fn facts(session: &mut Session) -> Result<Facts> {
    let server = session.identity()?;
    let (version,): (String,) = session
        .first("SELECT value FROM zimbra.config WHERE name = 'db.version'", ())?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("{}: zimbra.config has no db.version", session.store())))?;
    let db_version =
        version.trim().parse().context(Kind::Peer, || format!("{}: db.version {version:?}", session.store()))?;
    let (max_connections, flush_log_at_commit, connections) = session.one(
        "SELECT @@max_connections, @@innodb_flush_log_at_trx_commit, (SELECT CAST(VARIABLE_VALUE AS UNSIGNED) FROM \
         information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = _utf8mb3'THREADS_CONNECTED')",
        (),
    )?;
    let (current, next_mailbox_id) = current(session)?;
    Ok(Facts {
        server,
        zone: Zone::read(session)?,
        db_version,
        volumes: volumes(session)?,
        current,
        next_mailbox_id,
        max_allowed_packet: session.packet() as u64,
        local_infile: session.local_infile(),
        flush_log_at_commit,
        max_connections,
        connections,
    })
}

/// The columns of the last two facts came with version 116.
fn volumes(session: &mut Session) -> Result<Vec<Volume>> {
    let layout = crate::rows::Layout::read(session, "zimbra", "volume")?;
    let newer = layout.is_some_and(|l| l.column("store_type").is_some() && l.column("store_manager_class").is_some());
    let last = if newer { "store_type, store_manager_class" } else { "1, NULL" };
    let sql = format!(
        "SELECT id, type, name, path, file_bits, file_group_bits, mailbox_bits, mailbox_group_bits, compress_blobs, \
         compression_threshold, {last} FROM zimbra.volume ORDER BY id"
    );
    let store = session.store().to_string();
    let odd = || Error::new(Kind::Peer, format!("{store}: zimbra.volume: a value of another type than expected"));
    let rows = session.all::<mysql::Row>(&sql, ())?;
    rows.iter().map(|row| volume(row).ok_or_else(odd)).collect()
}

fn volume(row: &mysql::Row) -> Option<Volume> {
    let bits = |column: usize| row.get_opt::<u8, _>(column)?.ok();
    Some(Volume {
        id: row.get_opt(0)?.ok()?,
        kind: volume::Kind::of(row.get_opt(1)?.ok()?)?,
        name: row.get_opt(2)?.ok()?,
        path: row.get_opt(3)?.ok()?,
        bits: Bits { file: bits(4)?, file_group: bits(5)?, mailbox: bits(6)?, mailbox_group: bits(7)? },
        compress: row.get_opt(8)?.ok()?,
        threshold: row.get_opt(9)?.ok()?,
        store_type: row.get_opt(10)?.ok()?,
        manager_class: row.get_opt::<Option<String>, _>(11)?.ok()?.unwrap_or_default(),
    })
}

fn current(session: &mut Session) -> Result<(Current, u32)> {
    let (message, secondary, index, next_mailbox_id) = session.one(
        "SELECT message_volume_id, secondary_message_volume_id, index_volume_id, next_mailbox_id FROM zimbra.current_volumes",
        (),
    )?;
    Ok((Current { message, secondary, index }, next_mailbox_id))
}
