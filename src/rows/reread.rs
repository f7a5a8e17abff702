//! The destination's rows, read once more before the switch.
//!
//! Of a table that was compared under the freeze the destination was not read there where it was known what it holds: the
//! fingerprints followed from what was written. Who else wrote to it meanwhile would be unseen.

use super::difference::{CHANGE, Prints, prints, prints_of_ranges};
use super::dump::{Dump, Side};
use super::parts::LONG;
use super::prove::{Compared, TableProof, digest, each_table};
use super::shape::Shape;
use crate::cancel::Cancel;
use crate::clients::db::{Pool, Session, pair};
use crate::error::Result;

/// What a proof says of a table, and what is known of it beyond that.
pub struct Proved<'a> {
    /// The table.
    pub dump: Dump,
    /// What it was found to hold.
    pub proof: &'a TableProof,
    /// The comparison itself, unless another process made it.
    pub compared: Option<Compared>,
}

/// Names the tables whose rows at the destination are not those of the proof any more. The columns named in `own` are each
/// side's own.
///
/// All rows are read of tables that are not long, and of those without change numbers. Of the others those ranges are read
/// that the copy wrote to under the freeze, and what their indexes tell.
pub fn reread(
    source: &Pool,
    destination: &Pool,
    tables: &[Proved<'_>],
    own: &[&str],
    cancel: &Cancel,
) -> Result<Vec<String>> {
    let dumps: Vec<Dump> = tables.iter().map(|table| table.dump.clone()).collect();
    let found = each_table(&dumps, cancel, |dump, cancel| {
        let Some(table) = tables.iter().find(|table| table.dump == *dump) else { return Ok(None) };
        let (mut from, mut to) = pair(source, destination, cancel)?;
        let Some(mut shape) = Shape::fit(&mut from, &mut to, dump)? else { return Ok(None) };
        drop(from);
        shape.pairs.retain(|pair| !own.contains(&pair.to.name.as_str()));
        Ok((!table.holds(&mut to, &shape)?).then(|| dump.name()))
    })?;
    Ok(found.into_iter().flatten().collect())
}

impl Proved<'_> {
    fn holds(&self, destination: &mut Session, shape: &Shape) -> Result<bool> {
        match self.proof.changes {
            Some(_) if self.proof.rows >= LONG => {
                Ok(self.holds_numbers(destination, shape)? && self.holds_changed(destination, shape)?)
            }
            _ => {
                let now = prints(destination, shape, Side::Destination)?;
                Ok(now.unmapped() == 0 && digest(&now) == self.proof.fingerprint)
            }
        }
    }

    fn holds_numbers(&self, destination: &mut Session, shape: &Shape) -> Result<bool> {
        let from = shape.dump.from(Side::Destination)?;
        let sql = format!("SELECT COUNT(*), MAX({CHANGE}), SUM({CHANGE}) FROM {from}");
        let (rows, max, sum): (u64, Option<u64>, Option<u64>) = destination.one(&sql, ())?;
        Ok(rows == self.proof.rows && max.zip(sum) == self.proof.changes.map(|changes| (changes.max, changes.sum)))
    }

    fn holds_changed(&self, destination: &mut Session, shape: &Shape) -> Result<bool> {
        let Some(compared) = &self.compared else { return Ok(true) };
        let now: Prints = prints_of_ranges(destination, shape, &compared.written)?;
        Ok(compared.written.iter().all(|range| now.ranges.get(range) == compared.there.ranges.get(range)))
    }
}
