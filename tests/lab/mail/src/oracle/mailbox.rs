//! A mailbox as it is on one store: its row, the rows of all its tables, its blobs.

use std::collections::BTreeMap;

use mysql::Value;
use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

use super::blobs::Blobs;
use super::tables::{Row, Table, tables};
use super::{Store, blobs};
use crate::volume::Volumes;
use crate::{Error, Result};

/// Columns of the mailbox row by name; NULL is `None`.
pub(super) type Columns = BTreeMap<String, Option<String>>;

/// Where a mailbox is: its ids and its row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Home {
    pub(super) id: u32,
    pub(super) group: u32,
    pub(super) row: Columns,
}

/// A mailbox with the hashes of all its rows and blobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Mailbox {
    pub(super) home: Home,
    pub(super) tables: BTreeMap<String, Vec<Row>>,
    pub(super) blobs: Blobs,
}

impl Home {
    /// The mailbox of an account, if the store has one.
    pub(super) fn find(conn: &mut mysql::Conn, account_id: &str) -> Result<Option<Self>> {
        let row: Option<mysql::Row> =
            conn.exec_first("SELECT * FROM zimbra.mailbox WHERE account_id = ?", (account_id,))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let mut columns = Columns::new();
        let names = row.columns();
        for (column, value) in names.iter().zip(row.unwrap()) {
            let value = match value {
                Value::NULL => None,
                Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                other => Some(other.as_sql(false)),
            };
            columns.insert(column.name_str().into_owned(), value);
        }
        let number = |name: &str| {
            let value = columns.get(name).and_then(Option::as_deref);
            value
                .and_then(|value| value.parse().ok())
                .ok_or_else(|| Error::refused(format!("mailbox of {account_id}: no number in {name}")))
        };
        Ok(Some(Self { id: number("id")?, group: number("group_id")?, row: columns }))
    }

    /// Whether the database of its group is there.
    pub(super) fn has_database(&self, conn: &mut mysql::Conn) -> Result<bool> {
        let found: Option<u8> = conn.exec_first(
            "SELECT 1 FROM information_schema.schemata WHERE schema_name = ?",
            (format!("mboxgroup{}", self.group),),
        )?;
        Ok(found.is_some())
    }

    /// The tables that hold its rows.
    pub(super) fn tables(&self, conn: &mut mysql::Conn) -> Result<Vec<Table>> {
        let mut all = tables(conn, &format!("mboxgroup{}", self.group))?;
        all.extend(tables(conn, "zimbra")?);
        Ok(all)
    }

    /// The number in a column; 0 when there is none.
    pub(super) fn number(&self, column: &str) -> u64 {
        let value = self.row.get(column).and_then(Option::as_deref);
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

impl Mailbox {
    /// Reads all of an account's mailbox.
    pub(super) fn read(store: &mut Store<'_>, volumes: &Volumes, account_id: &str) -> Result<Self> {
        let home = Home::find(store.conn, account_id)?
            .ok_or_else(|| Error::refused(format!("{}: no mailbox of account {account_id}", store.name)))?;
        let mut rows = BTreeMap::new();
        for table in home.tables(store.conn)? {
            let read = table.rows(store.conn, home.id, &table.column_names(), volumes, true)?;
            rows.insert(table.title(), read);
        }
        let named = blobs::named(store.conn, &home)?;
        let blobs = blobs::hash(volumes, home.id, &named)?;
        Ok(Self { home, tables: rows, blobs })
    }
}

/// The highest item id and change id that a mailbox uses.
pub(super) fn highest(conn: &mut mysql::Conn, home: &Home) -> Result<(u64, u64)> {
    let group = format!("mboxgroup{}", home.group);
    let id = home.id;
    let max = |conn: &mut mysql::Conn, column: &str, table: &str| -> Result<u64> {
        let query = format!("SELECT MAX({column}) FROM {group}.{table} WHERE mailbox_id = {id}");
        let found: Option<Option<i64>> = conn.query_first(query)?;
        Ok(found.flatten().and_then(|found| u64::try_from(found).ok()).unwrap_or(0))
    };
    let mut items = 0;
    for (column, table) in [
        ("id", "mail_item"),
        ("id", "mail_item_dumpster"),
        ("id", "tag"),
        ("item_id", "revision"),
        ("item_id", "revision_dumpster"),
    ] {
        items = items.max(max(conn, column, table)?);
    }
    let deleted: Vec<String> =
        conn.query(format!("SELECT ids FROM {group}.tombstone WHERE mailbox_id = {id} AND ids IS NOT NULL"))?;
    for ids in deleted {
        let numbers = ids.split(',').filter_map(|id| id.split(':').next()?.parse().ok());
        items = items.max(numbers.max().unwrap_or(0));
    }
    let mut changes = 0;
    for (column, table) in [
        ("mod_metadata", "mail_item"),
        ("mod_content", "mail_item"),
        ("mod_metadata", "mail_item_dumpster"),
        ("mod_content", "mail_item_dumpster"),
        ("mod_metadata", "revision"),
        ("mod_content", "revision"),
        ("mod_metadata", "revision_dumpster"),
        ("mod_content", "revision_dumpster"),
        ("sequence", "tag"),
        ("sequence", "tombstone"),
    ] {
        changes = changes.max(max(conn, column, table)?);
    }
    Ok((items, changes))
}
