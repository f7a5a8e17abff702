//! Rows written over those with their keys: loaded beside the table, then taken from there in one statement.
//!
//! A renamed tag changes thousands of rows in one column. Deleting and inserting them touches every index twice, and
//! cost a server more than twice the processor time that changing them in place does, which touches only the indexes
//! of what changed.

use std::sync::{Mutex, PoisonError};

use super::difference::{Prints, prints_beside, replace};
use super::dump::MAILBOX_ID;
use super::shape::Shape;
use super::write::{Batch, Writer};
use crate::clients::db::{Session, name};
use crate::error::Result;

/// What changed rows are loaded into: a temporary table, which only its connection sees.
const BESIDE: &str = "zlm_changed";

/// Writes batches of changed and new rows of one table through one connection.
pub(super) struct Over<'a> {
    session: &'a mut Session,
    shape: &'a Shape,
    beside: String,
    /// Changes rows that are there, and leaves out others.
    change: String,
    /// Adds rows that are not there.
    add: String,
    /// The faster way of changing rows that are all there.
    over: String,
}

impl<'a> Over<'a> {
    /// Takes a connection, and makes the table beside.
    pub fn new(session: &'a mut Session, shape: &'a Shape) -> Result<Self> {
        let database = name(shape.dump.destination())?;
        let table = format!("{database}.{}", name(&shape.dump.table)?);
        let beside = format!("{database}.{BESIDE}");
        let columns: Vec<String> = shape.pairs.iter().map(|pair| name(&pair.to.name)).collect::<Result<_>>()?;
        let mut key: Vec<String> = shape.key.iter().map(|column| name(column)).collect::<Result<_>>()?;
        if !shape.key.iter().any(|column| column == MAILBOX_ID) {
            key.push(name(MAILBOX_ID)?);
        }
        let of = |side: &str, columns: &[String]| columns.iter().map(|c| format!("{side}.{c}")).collect::<Vec<_>>();
        let same: Vec<String> = key.iter().map(|c| format!("t.{c} = z.{c}")).collect();
        let same = same.join(" AND ");
        let changed = |set: fn(&String) -> String| {
            columns.iter().filter(|c| !key.contains(c)).map(set).collect::<Vec<_>>().join(", ")
        };
        let (list, taken, first) = (columns.join(","), of("z", &columns).join(","), of("t", &key).swap_remove(0));
        session.run(&format!(
            "CREATE OR REPLACE TEMPORARY TABLE {beside} (PRIMARY KEY ({})) ENGINE=InnoDB SELECT {list} FROM {table} LIMIT 0",
            key.join(",")
        ))?;
        let change =
            format!("UPDATE {table} t JOIN {beside} z ON {same} SET {}", changed(|c| format!("t.{c} = z.{c}")));
        Ok(Self {
            session,
            shape,
            // A join first writes down which rows it will change, a quarter of its time. A row that is there meets the
            // primary key before every other, so it is that row which is changed; under another key it need not be.
            over: match shape.by_primary {
                true => format!(
                    "INSERT INTO {table} ({list}) SELECT {list} FROM {beside} ON DUPLICATE KEY UPDATE {}",
                    changed(|c| format!("{c} = VALUES({c})"))
                ),
                false => change.clone(),
            },
            change,
            add: format!(
                "INSERT INTO {table} ({list}) SELECT {taken} FROM {beside} z LEFT JOIN {table} t ON {same} \
                 WHERE {first} IS NULL"
            ),
            beside,
        })
    }

    /// Writes a batch in one transaction; gives how many of its rows were not there before. `there`, what the
    /// destination holds, follows what becomes of them.
    pub fn write(&mut self, batch: Batch, there: Option<&Mutex<Prints>>) -> Result<u64> {
        let rows = batch.rows;
        self.session.run(&format!("TRUNCATE TABLE {}", self.beside))?;
        Writer::beside(self.session, self.shape, &self.beside)?.write(batch)?;
        let before = there.is_some().then(|| self.share()).transpose()?;
        let held = before.as_ref().map(Prints::rows);
        let (over, change, add) = (&self.over, &self.change, &self.add);
        let new = self.session.transaction(|session| {
            if held == Some(rows) {
                session.run(over)?;
                return Ok(0);
            }
            session.run(change)?;
            Ok(session.run(add)?.affected)
        })?;
        if let Some((there, before)) = there.zip(before) {
            let now = self.share()?;
            replace(&mut there.lock().unwrap_or_else(PoisonError::into_inner), before, now);
        }
        Ok(new)
    }

    /// What the rows with the batch's keys add to the destination's fingerprints, as the server has them.
    fn share(&mut self) -> Result<Prints> {
        prints_beside(self.session, self.shape, &self.beside)
    }

    /// Takes the table beside away.
    pub fn end(self) -> Result<()> {
        self.session.run(&format!("DROP TEMPORARY TABLE {}", self.beside)).map(drop)
    }
}
