//! Rows as the oracle sees them: a key, and a hash of all that must stay the same.
//!
//! Hashes are made by the server, so large rows do not travel. A hash covers every column but
//! `mailbox_id`; a locator counts as the kind of volume it names, because ids of volumes differ.

use std::cmp::Ordering;

use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::volume::Volumes;

/// What incoming mail changes in an item, by type: the sums of folders, searches and mountpoints; those of
/// conversations; and the conversation of a message that was answered.
const BY_MAIL: [(&str, &[&str]); 3] = [
    ("type IN (1, 2, 13)", &["size", "unread", "metadata"]),
    ("type = 4", &["size", "unread", "metadata", "mod_metadata", "change_date"]),
    ("type = 5", &["parent_id", "mod_metadata", "change_date"]),
];

/// Tables of `zimbra` that are the server's own bookkeeping, not a mailbox's content.
const NOT_CONTENT: [&str; 2] = ["volume_blobs", "deleted_account"];

/// A table with a column `mailbox_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    key: Vec<String>,
}

/// One of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    kind: String,
}

/// One row. Two are equal when key and hash are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// The values of its key, or nothing where the table has none.
    pub(super) key: String,
    hash: String,
    /// The hash once the item is indexed; empty when it does not wait for that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    indexed: String,
    /// The hash without what incoming mail changes; empty when that is nothing, or was not asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    calm: String,
}

impl Ord for Row {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| self.hash.cmp(&other.hash))
    }
}

impl PartialOrd for Row {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Row {}

impl Row {
    /// Whether `new` is this row after it was indexed.
    pub(super) fn is_indexed_as(&self, new: &Self) -> bool {
        !self.indexed.is_empty() && self.indexed == new.hash
    }

    /// Whether two rows with one key differ by no more than incoming mail explains.
    pub(super) fn same_but_for_mail(&self, other: &Self) -> bool {
        !self.calm.is_empty() && self.calm == other.calm
    }
}

/// The tables of a schema that have a column `mailbox_id`, by name.
pub(super) fn tables(conn: &mut mysql::Conn, schema: &str) -> Result<Vec<Table>> {
    let names: Vec<String> = conn.exec(
        "SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t \
         ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE' \
         WHERE c.table_schema = ? AND c.column_name = 'mailbox_id' ORDER BY c.table_name",
        (schema,),
    )?;
    names
        .into_iter()
        .filter(|name| schema != "zimbra" || !NOT_CONTENT.contains(&name.as_str()))
        .map(|name| table(conn, schema, name))
        .collect()
}

pub(super) fn table(conn: &mut mysql::Conn, schema: &str, name: String) -> Result<Table> {
    let columns: Vec<(String, String)> = conn.exec(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = ? \
         AND table_name = ? ORDER BY column_name",
        (schema, &name),
    )?;
    let keys: Vec<(String, String)> = conn.exec(
        "SELECT index_name, column_name FROM information_schema.statistics WHERE table_schema = ? \
         AND table_name = ? AND non_unique = 0 ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
        (schema, &name),
    )?;
    let first = keys.first().map(|(index, _)| index.clone());
    let key = keys
        .into_iter()
        .filter(|(index, column)| Some(index) == first.as_ref() && column != "mailbox_id")
        .map(|(_, column)| column)
        .collect();
    Ok(Table {
        schema: schema.into(),
        name,
        columns: columns.into_iter().map(|(name, kind)| Column { name, kind }).collect(),
        key,
    })
}

impl Table {
    /// The table's name as differences show it.
    pub(super) fn title(&self) -> String {
        if self.schema == "zimbra" { format!("zimbra.{}", self.name) } else { self.name.clone() }
    }

    /// The name in SQL.
    pub(super) fn sql(&self) -> String {
        format!("`{}`.`{}`", self.schema, self.name)
    }

    /// An expression that is the hash of a row over these columns.
    pub(super) fn hash(&self, columns: &[&Column], volumes: Option<&Volumes>) -> String {
        let parts: Vec<String> = columns.iter().map(|column| part(column, volumes)).collect();
        hash_of(&parts)
    }

    /// The columns of a row that count, of those both sides have.
    pub(super) fn compared<'t>(&'t self, common: &[String]) -> Vec<&'t Column> {
        self.columns.iter().filter(|column| column.name != "mailbox_id" && common.contains(&column.name)).collect()
    }

    pub(super) fn column_names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// The rows of a mailbox, in order of key and hash. `mail` asks for the hashes without what incoming
    /// mail changes too, which takes as long again.
    pub(super) fn rows(
        &self,
        conn: &mut mysql::Conn,
        mailbox: u32,
        common: &[String],
        volumes: &Volumes,
        mail: bool,
    ) -> Result<Vec<Row>> {
        let columns = self.compared(common);
        let key = match self.key.as_slice() {
            [] => "''".to_owned(),
            names => format!("CONCAT_WS(',', {})", names.iter().map(|name| text(name)).collect::<Vec<_>>().join(", ")),
        };
        let query = format!(
            "SELECT {key}, {}, {}, {} FROM {} WHERE mailbox_id = {mailbox}",
            self.hash(&columns, Some(volumes)),
            self.hash_when_indexed(&columns, volumes),
            if mail { self.hash_but_for_mail(&columns, volumes) } else { "''".into() },
            self.sql(),
        );
        type Read = (Vec<u8>, Option<String>, Option<String>, Option<String>);
        let mut rows = conn.query_map(query, |(key, hash, indexed, calm): Read| Row {
            key: String::from_utf8_lossy(&key).into_owned(),
            hash: hash.unwrap_or_else(|| "too large to hash".into()),
            indexed: indexed.unwrap_or_default(),
            calm: calm.unwrap_or_default(),
        })?;
        rows.sort_unstable();
        Ok(rows)
    }

    fn hash_when_indexed(&self, columns: &[&Column], volumes: &Volumes) -> String {
        if !self.name.starts_with("mail_item") {
            return "''".into();
        }
        format!("IF(index_id IN (0, 1), {}, '')", hash_of(&indexed(columns, volumes)))
    }

    fn hash_but_for_mail(&self, columns: &[&Column], volumes: &Volumes) -> String {
        let without = |names: &[&str]| {
            let rest: Vec<&Column> =
                columns.iter().filter(|column| !names.contains(&column.name.as_str())).copied().collect();
            hash_of(&indexed(&rest, volumes))
        };
        match self.name.as_str() {
            "mail_item" => {
                let cases: String =
                    BY_MAIL.iter().map(|(types, names)| format!(" WHEN {types} THEN {}", without(names))).collect();
                format!("(CASE{cases} ELSE '' END)")
            }
            "tag" => without(&["item_count", "unread"]),
            _ => "''".into(),
        }
    }
}

/// The parts of a row, an item that waits for the index counting as indexed.
fn indexed(columns: &[&Column], volumes: &Volumes) -> Vec<String> {
    let done = "IF(index_id IN (0, 1), id, index_id)";
    columns
        .iter()
        .map(|column| match column.name.as_str() {
            "index_id" => number(done),
            _ => part(column, Some(volumes)),
        })
        .collect()
}

/// Sixteen digits are enough to tell rows of one key apart, and a capture stays small. The empty binary
/// string makes the whole binary, whatever the character sets of its parts.
fn hash_of(parts: &[String]) -> String {
    format!("LEFT(MD5(CONCAT(_binary'', {})), 16)", parts.join(", "))
}

/// A column as arguments of CONCAT, with `~` for NULL, and so that no two rows run together alike: text is
/// led by its length, the rest never holds a comma.
fn part(column: &Column, volumes: Option<&Volumes>) -> String {
    match (column.name.as_str(), volumes) {
        ("locator", Some(volumes)) => number(&kinds(volumes)),
        (name, _) => match column.kind.as_str() {
            "tinytext" | "text" | "mediumtext" | "longtext" => number(&format!("MD5(CONVERT(`{name}` USING utf8mb4))")),
            "blob" | "mediumblob" | "longblob" | "tinyblob" => number(&format!("MD5(`{name}`)")),
            "char" | "varchar" | "enum" => {
                format!("IFNULL(CHAR_LENGTH(`{name}`), '~'), ':', IFNULL({}, '')", text(name))
            }
            _ => number(&format!("`{name}`")),
        },
    }
}

fn number(value: &str) -> String {
    format!("IFNULL({value}, '~'), ','")
}

fn text(name: &str) -> String {
    format!("CAST(CONVERT(`{name}` USING utf8mb4) AS BINARY)")
}

fn kinds(volumes: &Volumes) -> String {
    let cases: String =
        volumes.all.iter().map(|volume| format!(" WHEN '{}' THEN '{}'", volume.id, volume.kind)).collect();
    format!("(CASE locator{cases} ELSE CONCAT('volume ', locator) END)")
}
