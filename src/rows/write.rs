//! Rows on their way: encoded into batches, and written in one transaction a batch.

use std::sync::Arc;

use super::dump::Side;
use super::shape::Shape;
use crate::clients::db::{Done, Session, name};
use crate::error::{Error, Kind, Result};

/// What a statement of rows is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `LOAD DATA LOCAL INFILE`, the faster one, where the destination allows it.
    Load,
    /// `INSERT` of many rows.
    Insert,
}

/// Rows that are written together.
#[derive(Debug)]
pub(super) struct Batch {
    way: Way,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: usize,
    text: Vec<u8>,
    values: Vec<mysql::Value>,
}

impl Batch {
    /// An empty batch, for about so many bytes: a text that grows leaves holes of all sizes in memory.
    pub fn new(way: Way, bytes: usize) -> Self {
        let text = match way {
            Way::Load => Vec::with_capacity(bytes + bytes / 8),
            Way::Insert => Vec::new(),
        };
        Self { way, rows: 0, bytes: 0, text, values: Vec::new() }
    }

    /// Adds a row; `None` is NULL.
    pub fn push(&mut self, row: impl Iterator<Item = Option<Vec<u8>>>) {
        let mut first = true;
        for value in row {
            self.bytes += value.as_ref().map_or(1, Vec::len) + 1;
            match self.way {
                Way::Load => {
                    if !std::mem::take(&mut first) {
                        self.text.push(b'\t');
                    }
                    encode(value.as_deref(), &mut self.text);
                }
                Way::Insert => self.values.push(value.map_or(mysql::Value::NULL, mysql::Value::Bytes)),
            }
        }
        if self.way == Way::Load {
            self.text.push(b'\n');
        }
        self.rows += 1;
    }
}

/// A field as LOAD DATA reads it.
fn encode(value: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(bytes) = value else { return out.extend_from_slice(b"\\N") };
    out.reserve(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| matches!(b, 0 | b'\t' | b'\n' | b'\\')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            0 => b'0',
            b'\t' => b't',
            b'\n' => b'n',
            _ => b'\\',
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Writes batches of one table through one connection.
pub(super) struct Writer<'a> {
    session: &'a mut Session,
    table: String,
    columns: Vec<String>,
    what: String,
}

impl<'a> Writer<'a> {
    /// Takes a connection for writing.
    ///
    /// Unique keys stay checked. With `unique_checks=0` beside our `foreign_key_checks=0`, InnoDB takes the first
    /// rows of an empty table, as in a new mailbox group, in a bulk mode that locks the table, and that was seen
    /// to hang a whole server when rows were large. On tables with rows it gained nothing that could be measured.
    ///
    /// `READ COMMITTED` is what mailboxd itself uses; it spares its other mailboxes our gap locks.
    pub fn new(session: &'a mut Session, shape: &Shape) -> Result<Self> {
        let table = format!("{}.{}", name(shape.dump.destination())?, name(&shape.dump.table)?);
        Self::beside(session, shape, &table)
    }

    /// The same, into another table with the same columns.
    pub fn beside(session: &'a mut Session, shape: &Shape, table: &str) -> Result<Self> {
        session.run("SET SESSION tx_isolation='READ-COMMITTED'")?;
        let columns = shape.pairs.iter().map(|pair| name(&pair.to.name)).collect::<Result<_>>()?;
        let what = format!("insert into {}.{}", shape.dump.destination(), shape.dump.table);
        Ok(Self { session, table: table.to_owned(), columns, what })
    }

    /// How this server takes rows.
    pub fn way(session: &Session) -> Way {
        if session.local_infile() { Way::Load } else { Way::Insert }
    }

    /// Writes a batch in one transaction: all of it or nothing.
    pub fn write(&mut self, batch: Batch) -> Result<()> {
        let (rows, what) = (batch.rows, self.what.clone());
        match batch.way {
            Way::Load => {
                let sql = format!(
                    "LOAD DATA LOCAL INFILE 'rows' INTO TABLE {} CHARACTER SET binary FIELDS TERMINATED BY '\\t' \
                     ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({})",
                    self.table,
                    self.columns.join(",")
                );
                let data = Arc::new(batch.text);
                self.session.transaction(|session| {
                    let done = session.load(&sql, Arc::clone(&data))?;
                    whole(session, done, rows, &what)
                })
            }
            Way::Insert => {
                let (table, columns) = (self.table.clone(), self.columns.join(","));
                let width = self.columns.len().max(1);
                let row = format!("({})", vec!["?"; width].join(","));
                // The protocol counts placeholders in 16 bits.
                let most = (65_535 / width).min(500) * width;
                self.session.transaction(|session| {
                    for values in batch.values.chunks(most) {
                        let count = values.len() / width;
                        let sql =
                            format!("INSERT INTO {table} ({columns}) VALUES {}", vec![row.as_str(); count].join(","));
                        let done = session.exec(&sql, values.to_vec())?;
                        whole(session, done, count as u64, &what)?;
                    }
                    Ok(())
                })
            }
        }
    }
}

/// LOCAL makes the server turn errors into warnings and skip duplicates: anything but every row, without a
/// warning, is an error.
fn whole(session: &mut Session, done: Done, rows: u64, what: &str) -> Result<()> {
    if done.affected == rows && done.warnings == 0 {
        return Ok(());
    }
    if let Some(warning) = session.warning(what)? {
        return Err(warning);
    }
    let message = format!("{}: {what}: {} of {rows} rows went in", session.store(), done.affected);
    Err(Error::new(Kind::Data, message))
}

/// Deletes rows of the destination that meet `condition`; returns how many.
pub(super) fn delete(session: &mut Session, shape: &Shape, condition: &str) -> Result<u64> {
    let sql = format!("DELETE FROM {} AND {condition}", shape.dump.from(Side::Destination)?);
    session.transaction(|session| Ok(session.run(&sql)?.affected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_escaped() {
        let mut batch = Batch::new(Way::Load, 0);
        batch.push([None, Some(b"a\tb\\N\n\0\xff".to_vec()), Some(Vec::new())].into_iter());
        assert_eq!(batch.text, b"\\N\ta\\tb\\\\N\\n\\0\xff\t\n");
        assert_eq!(batch.rows, 1);
    }
}
