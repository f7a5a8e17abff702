//! What surrounds a mailbox on a store and must stay as it is: other mailboxes, and order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

use super::report::Report;
use super::tables::{Table, table, tables};
use super::{Before, Store, files};
use crate::Result;
use crate::volume::Volumes;

/// Everything on a store but the mailboxes that move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Surroundings {
    next_mailbox_id: u64,
    /// Mailbox ids by account.
    mailboxes: BTreeMap<String, u32>,
    /// Of each account that does not move: fingerprints of its row, its tables and its files.
    neighbours: BTreeMap<String, BTreeMap<String, String>>,
    /// What is out of order, one thing a line.
    clutter: BTreeSet<String>,
    /// Rows by table of the database `zlm`.
    claims: BTreeMap<String, u64>,
}

impl Surroundings {
    /// Reads everything on a store that is not of the accounts in `moving`.
    pub(super) fn read(store: &mut Store<'_>, volumes: &Volumes, moving: &BTreeSet<String>) -> Result<Self> {
        let mailboxes: BTreeMap<String, u32> =
            store.conn.query("SELECT account_id, id FROM zimbra.mailbox")?.into_iter().collect();
        let next: Option<u64> = store.conn.query_first("SELECT next_mailbox_id FROM zimbra.current_volumes")?;
        Ok(Self {
            next_mailbox_id: next.unwrap_or(0),
            neighbours: neighbours(store.conn, volumes, &mailboxes, moving)?,
            clutter: clutter(store, volumes)?,
            claims: claims(store.conn)?,
            mailboxes,
        })
    }

    /// The id of an account's mailbox.
    pub(super) fn mailbox_of(&self, account_id: &str) -> Option<u32> {
        self.mailboxes.get(account_id).copied()
    }
}

/// Compares a store's surroundings with what they were.
pub(super) fn check(
    report: &mut Report,
    before: &Before,
    store: &mut Store<'_>,
    volumes: &Volumes,
    old: &Surroundings,
) -> Result<()> {
    let new = Surroundings::read(store, volumes, &before.moving)?;
    let host = store.name;
    for (account, parts) in &old.neighbours {
        let now = new.neighbours.get(account);
        for (part, fingerprint) in parts {
            if now.and_then(|now| now.get(part)) != Some(fingerprint) {
                report.differ(format!("I6 {host} neighbour {account}: {part} changed"));
            }
        }
        for part in now.into_iter().flat_map(BTreeMap::keys).filter(|part| !parts.contains_key(*part)) {
            report.differ(format!("I6 {host} neighbour {account}: {part} came"));
        }
    }
    for account in new.neighbours.keys().filter(|account| !old.neighbours.contains_key(*account)) {
        report.differ(format!("I7 {host}: mailbox of {account} came"));
    }
    for line in new.clutter.difference(&old.clutter) {
        report.differ(format!("I7 {host}: {line}"));
    }
    let highest = new.mailboxes.values().max().copied().unwrap_or(0);
    if new.next_mailbox_id <= u64::from(highest) || new.next_mailbox_id < old.next_mailbox_id {
        report.differ(format!(
            "I10 {host}: next_mailbox_id is {}, was {}, highest mailbox is {highest}",
            new.next_mailbox_id, old.next_mailbox_id
        ));
    }
    Ok(())
}

/// Checks that the database `zlm` is not there, unless it was, and holds no more rows than it did.
pub(super) fn check_claims(report: &mut Report, store: &mut Store<'_>, old: &Surroundings) -> Result<()> {
    let is_there: Option<u64> =
        store.conn.query_first("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'zlm'")?;
    if is_there != Some(0) && old.claims.is_empty() {
        report.differ(format!("I7 {}: the database zlm is left", store.name));
    }
    for (table, rows) in claims(store.conn)? {
        let before = old.claims.get(&table).copied().unwrap_or(0);
        if rows > before {
            report.differ(format!("I7 {} zlm.{table}: {rows} rows, were {before}", store.name));
        }
    }
    Ok(())
}

fn claims(conn: &mut mysql::Conn) -> Result<BTreeMap<String, u64>> {
    let names: Vec<String> = conn.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'zlm' AND table_type = 'BASE TABLE'",
    )?;
    let mut all = BTreeMap::new();
    for name in names {
        let rows: Option<u64> = conn.query_first(format!("SELECT COUNT(*) FROM zlm.`{name}`"))?;
        all.insert(name, rows.unwrap_or(0));
    }
    Ok(all)
}

fn groups(conn: &mut mysql::Conn) -> Result<Vec<String>> {
    Ok(conn.query(
        "SELECT schema_name FROM information_schema.schemata \
         WHERE schema_name REGEXP '^mboxgroup[0-9]+$' ORDER BY schema_name",
    )?)
}

/// All tables with rows of mailboxes, of all groups and of `zimbra`.
fn all_tables(conn: &mut mysql::Conn) -> Result<Vec<Table>> {
    let mut all = tables(conn, "zimbra")?;
    all.push(table(conn, "zimbra", "volume_blobs".into())?);
    for group in groups(conn)? {
        all.extend(tables(conn, &group)?);
    }
    Ok(all)
}

fn neighbours(
    conn: &mut mysql::Conn,
    volumes: &Volumes,
    mailboxes: &BTreeMap<String, u32>,
    moving: &BTreeSet<String>,
) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let staying: BTreeMap<u32, &String> = mailboxes
        .iter()
        .filter(|(account, _)| !moving.contains(*account))
        .map(|(account, id)| (*id, account))
        .collect();
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    if staying.is_empty() {
        return Ok(all);
    }
    let ids: Vec<String> = staying.keys().map(u32::to_string).collect();
    let ids = ids.join(",");
    let mut mailbox = table(conn, "zimbra", "mailbox".into())?;
    mailbox.name = "mailbox".into();
    for (table, id_column) in all_tables(conn)?.into_iter().map(|table| (table, "mailbox_id")).chain([(mailbox, "id")])
    {
        let columns: Vec<_> = table.columns.iter().collect();
        let hash = table.hash(&columns, None);
        let query = format!(
            "SELECT id, CONCAT(COUNT(*), ' rows ', SUM(CAST(CONV(LEFT(h, 8), 16, 10) AS UNSIGNED)), ' ', \
             SUM(CAST(CONV(RIGHT(h, 8), 16, 10) AS UNSIGNED))) FROM (SELECT {id_column} AS id, {hash} AS h \
             FROM {} WHERE {id_column} IN ({ids})) t GROUP BY id",
            table.sql()
        );
        for (id, print) in conn.query::<(u32, Option<Vec<u8>>), _>(query)? {
            if let Some(account) = staying.get(&id) {
                let print = String::from_utf8_lossy(&print.unwrap_or_default()).into_owned();
                let part = format!("{}.{}", table.schema, table.name);
                all.entry((*account).clone()).or_default().insert(part, print);
            }
        }
    }
    for (id, account) in staying {
        for volume in &volumes.all {
            let print = files::fingerprint(&volume.mailbox_dir(id))?;
            let part = format!("files on volume {}", volume.id);
            all.entry(account.clone()).or_default().insert(part, print);
        }
    }
    Ok(all)
}

/// Rows and files that belong to no mailbox, mailboxes of no account, and what temporary work left.
fn clutter(store: &mut Store<'_>, volumes: &Volumes) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mailboxes: Vec<(u32, u32, String)> = store.conn.query("SELECT id, group_id, account_id FROM zimbra.mailbox")?;
    for (id, _, account) in &mailboxes {
        if !is_uuid(account) {
            found.insert(format!("mailbox {id} has the account id {account:?}"));
        }
    }
    for table in all_tables(store.conn)? {
        let own = match table.schema.strip_prefix("mboxgroup") {
            Some(group) => format!("AND m.group_id = {group}"),
            None => String::new(),
        };
        // Distinct ids come from an index; a join over all rows would not.
        let orphans: Vec<i64> = store.conn.query(format!(
            "SELECT t.mailbox_id FROM (SELECT DISTINCT mailbox_id FROM {}) t LEFT JOIN zimbra.mailbox m \
             ON m.id = t.mailbox_id {own} WHERE m.id IS NULL",
            table.sql()
        ))?;
        for id in orphans {
            found.insert(format!("{}.{}: rows of mailbox {id}, which is not there", table.schema, table.name));
        }
    }
    let ids: BTreeSet<u32> = mailboxes.iter().map(|(id, ..)| *id).collect();
    for volume in &volumes.all {
        for (path, meta) in entries(&volume.root)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name == "incoming" {
                for (file, _) in entries(&path)? {
                    found.insert(format!("file {}: left in incoming", file.display()));
                }
            } else if name.parse::<u32>().is_ok() && meta.is_dir() {
                for (dir, _) in entries(&path)? {
                    let id = dir.file_name().and_then(|name| name.to_str()?.parse().ok());
                    let right = id.is_some_and(|id| ids.contains(&id) && volume.mailbox_dir(id) == dir);
                    if !right {
                        found.insert(format!("directory {}: of no mailbox", dir.display()));
                    }
                }
            } else {
                found.insert(format!("entry {}: no part of a volume", path.display()));
            }
        }
    }
    for dir in store.temp {
        for (path, _) in entries(dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            if name.contains("zlm") {
                found.insert(format!("entry {}: left behind", path.display()));
            }
        }
    }
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<(std::path::PathBuf, fs::Metadata)>> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e.into()),
        Ok(entries) => entries
            .map(|entry| {
                let entry = entry?;
                Ok((entry.path(), entry.metadata()?))
            })
            .collect(),
    }
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}
