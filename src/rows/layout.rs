//! What a table looks like on one server, from `information_schema`. The order of columns means nothing: it
//! differs between fresh and upgraded installations.

use crate::clients::db::{Raw, Session, Word, name};
use crate::error::{Error, Kind, Result};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
    /// Columns, in the server's order.
    pub columns: Vec<Column>,
    /// Keys: the primary key first, then by name.
    pub keys: Vec<Key>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type without size: `int`, `varchar`, `mediumtext`...
    pub data_type: String,
    /// Type as it would be declared: `int(10) unsigned`.
    pub column_type: String,
    /// Character set of a text.
    pub charset: Option<Word>,
    /// Collation of a text.
    pub collation: Option<Word>,
    /// Whether it may be NULL.
    pub nullable: bool,
    /// Default, as an expression; `None` when there is none.
    pub default: Option<String>,
    /// Whether the server computes it.
    pub generated: bool,
    /// Longest text in characters.
    pub characters: Option<u64>,
    /// Longest text in bytes.
    pub octets: Option<u64>,
    /// Digits of a number or of fractional seconds, and digits behind the point.
    pub precision: (Option<u64>, Option<u64>),
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name; `PRIMARY` for the primary key.
    pub name: String,
    /// Whether two rows may not agree in it.
    pub unique: bool,
    /// Columns, in order; the length where only the beginning of a column counts.
    pub columns: Vec<(String, Option<u64>)>,
}

impl Layout {
    /// Reads it, once for all connections of a pool; `None` when there is no such table.
    ///
    /// Fails with [`Kind::Peer`] for names that would not stay where they are put in a statement.
    pub fn read(session: &mut Session, database: &str, table: &str) -> Result<Option<Self>> {
        // Names are checked to be plain, so they can stand in quotes. With the introducer the server opens
        // only this one table; a binary string would make it open all of them.
        name(database)?;
        name(table)?;
        let of = format!("TABLE_SCHEMA = _utf8mb3'{database}' AND TABLE_NAME = _utf8mb3'{table}'");
        let rows = session.remembered(&format!(
            "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, \
             COLUMN_DEFAULT, EXTRA, CHARACTER_MAXIMUM_LENGTH, CHARACTER_OCTET_LENGTH, \
             IFNULL(NUMERIC_PRECISION, DATETIME_PRECISION), NUMERIC_SCALE \
             FROM information_schema.COLUMNS WHERE {of} ORDER BY ORDINAL_POSITION"
        ))?;
        if rows.is_empty() {
            return Ok(None);
        }
        let columns = rows.iter().map(column).collect::<Result<_>>()?;
        let mut keys: Vec<Key> = Vec::new();
        let parts = session.remembered(&format!(
            "SELECT INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS WHERE {of} \
             ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
        ))?;
        for row in parts.iter() {
            let part = (quotable(text(row, 2))?, number(row, 3));
            match keys.last_mut() {
                Some(key) if key.name == text(row, 0) => key.columns.push(part),
                _ => keys.push(Key { name: quotable(text(row, 0))?, unique: text(row, 1) == "0", columns: vec![part] }),
            }
        }
        Ok(Some(Self { database: database.into(), table: table.into(), columns, keys }))
    }

    /// A column by name; names of columns ignore case.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// The name of the index of just these columns.
    pub fn index_of(&self, columns: &[&str]) -> Option<String> {
        let is_of = |key: &&Key| key.columns.iter().map(|(column, _)| column.as_str()).eq(columns.iter().copied());
        self.keys.iter().find(is_of).map(|key| key.name.clone())
    }
}

impl Key {
    /// Whether it is the primary key.
    pub fn is_primary(&self) -> bool {
        self.name == "PRIMARY"
    }
}

impl Column {
    /// Whether it holds whole numbers.
    pub fn is_integer(&self) -> bool {
        matches!(self.data_type.as_str(), "tinyint" | "smallint" | "mediumint" | "int" | "bigint")
    }

    /// Whether its numbers have no sign.
    pub fn is_unsigned(&self) -> bool {
        self.column_type.contains("unsigned")
    }
}

fn column(row: &Raw) -> Result<Column> {
    let extra = text(row, 7).to_ascii_uppercase();
    let word = |at| optional(row, at).map(|text| Word::parse(&text)).transpose();
    Ok(Column {
        name: quotable(text(row, 0))?,
        data_type: text(row, 1).to_ascii_lowercase(),
        column_type: text(row, 2),
        charset: word(3)?,
        collation: word(4)?,
        nullable: text(row, 5) == "YES",
        default: optional(row, 6),
        generated: extra.contains("GENERATED"),
        characters: number(row, 8),
        octets: number(row, 9),
        precision: (number(row, 10), number(row, 11)),
    })
}

/// A name that can stand in backticks.
fn quotable(name: String) -> Result<String> {
    match name.contains(['`', '\0']) {
        true => Err(Error::new(Kind::Peer, format!("name {name:?}: not a name of a column or a key"))),
        false => Ok(name),
    }
}

fn optional(row: &Raw, at: usize) -> Option<String> {
    row.get(at)?.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn text(row: &Raw, at: usize) -> String {
    optional(row, at).unwrap_or_default()
}

fn number(row: &Raw, at: usize) -> Option<u64> {
    optional(row, at)?.parse().ok()
}
