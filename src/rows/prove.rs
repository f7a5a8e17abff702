//! Proof that two copies are equal by content, and that a source stood still between two moments.

use serde::{Deserialize, Serialize};

use super::difference::{CHANGE, Changes, Prints, both_prints, prints, unequal};
use super::dump::{Dump, Rewrite, Side};
use super::layout::Layout;
use super::parts::{LONG, bounds, parts_for};
use super::shape::{SPAN, Shape};
use crate::cancel::Cancel;
use crate::clients::db::{Pool, Session, pair};
use crate::error::{Error, Kind, Result};
use crate::parallel;

/// What a comparison of both sides found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Every table that was compared, in the order of the dumps.
    pub tables: Vec<TableProof>,
    /// What is not equal, in words; empty when all is.
    pub differences: Vec<String>,
}

/// A table that was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProof {
    /// `database.table` at the source.
    pub name: String,
    /// Rows at the source.
    pub rows: u64,
    /// The source's contents, as rewritten.
    pub fingerprint: String,
    /// What its change numbers were at the source, where it has such and a row.
    #[serde(default)]
    pub changes: Option<Changes>,
}

impl Proof {
    /// Whether everything is equal.
    pub fn holds(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Compares every row of the dumps on both sides, by content and as rewritten. Differences are an answer, not
/// an error.
pub fn prove(source: &Pool, destination: &Pool, dumps: &[Dump], cancel: &Cancel) -> Result<Proof> {
    Ok(proof_of(&compare(source, destination, dumps, &[], cancel)?))
}

/// Reads every row of the dumps on both sides. The columns named in `own` are each side's own, and not compared.
pub fn compare(
    source: &Pool,
    destination: &Pool,
    dumps: &[Dump],
    own: &[&str],
    cancel: &Cancel,
) -> Result<Vec<Compared>> {
    each_table(dumps, cancel, |dump, cancel| {
        let (mut from, mut to) = pair(source, destination, cancel)?;
        Compared::read(&mut from, &mut to, dump, own)
    })
}

/// What comparisons found.
pub fn proof_of(compared: &[Compared]) -> Proof {
    Proof {
        tables: compared.iter().map(Compared::proof).collect(),
        differences: compared.iter().flat_map(Compared::differences).collect(),
    }
}

/// What a destination holds of a dump, as it was left by whoever wrote there last.
#[derive(Clone, Debug)]
pub struct Held(pub(super) Prints);

/// A table of which every row was compared on both sides: what each side held when it was last read.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The dump.
    pub dump: Dump,
    range: Option<String>,
    here: Prints,
    pub(super) there: Prints,
    /// Ranges that the destination was written to before that, since it was last known what it holds, in order.
    pub(super) written: Vec<i64>,
}

impl Compared {
    pub(super) fn new(shape: &Shape, (here, there): (Prints, Prints), held: Option<&Prints>) -> Self {
        let written = held.map(|held| unequal(held, &there)).unwrap_or_default();
        Self { dump: shape.dump.clone(), range: shape.range.clone(), here, there, written }
    }

    /// A table that is not there, or holds nothing and has no counterpart.
    pub(super) fn nothing(dump: &Dump) -> Self {
        let (here, there) = <(Prints, Prints)>::default();
        Self { dump: dump.clone(), range: None, here, there, written: Vec::new() }
    }

    /// Reads every row of both sides.
    fn read(source: &mut Session, destination: &mut Session, dump: &Dump, own: &[&str]) -> Result<Self> {
        match Shape::fit(source, destination, dump)? {
            Some(mut shape) => {
                shape.pairs.retain(|pair| !own.contains(&pair.to.name.as_str()));
                Ok(Self::new(&shape, both_prints(source, destination, &shape)?, None))
            }
            None => Ok(Self::nothing(dump)),
        }
    }

    /// The highest `mod_content` of its rows, where they have one.
    pub fn content(&self) -> Option<u64> {
        self.here.content
    }

    /// What was compared, in numbers.
    pub fn proof(&self) -> TableProof {
        table_proof(&self.dump, &self.here)
    }

    /// What is not equal, in words, neighbouring ranges together.
    pub fn differences(&self) -> Vec<String> {
        let mut spans: Vec<(i64, i64)> = Vec::new();
        for range in unequal(&self.here, &self.there) {
            match spans.last_mut() {
                Some((_, last)) if *last + 1 == range => *last = range,
                _ => spans.push((range, range)),
            }
        }
        let rows = |prints: &Prints, (first, last)| prints.ranges.range(first..=last).map(|(_, p)| p.rows).sum::<u64>();
        let mut differences: Vec<String> = spans
            .into_iter()
            .map(|span| {
                let place = match &self.range {
                    Some(column) => format!("{column} {} to {}", span.0 * SPAN, span.1 * SPAN + SPAN - 1),
                    None => "all rows".into(),
                };
                let (a, b) = (rows(&self.here, span), rows(&self.there, span));
                format!(
                    "{}, {place}: {a} rows at the source, {b} at the destination, contents differ",
                    self.dump.name()
                )
            })
            .collect();
        let unmapped = self.there.unmapped();
        if unmapped > 0 {
            let mapped: Vec<&str> = self
                .dump
                .rewrites
                .iter()
                .filter(|(_, r)| matches!(r, Rewrite::Map(_)))
                .map(|(c, _)| c.as_str())
                .collect();
            differences.push(format!(
                "{}: {unmapped} rows at the destination with a {} that is not mapped",
                self.dump.name(),
                mapped.join(" or ")
            ));
        }
        differences
    }
}

fn table_proof(dump: &Dump, prints: &Prints) -> TableProof {
    TableProof { name: dump.name(), rows: prints.rows(), fingerprint: digest(prints), changes: prints.changes }
}

/// The state of a mailbox at a moment: two equal marks mean that nothing was written in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeMark {
    /// `mailbox.change_checkpoint`, by which mailboxd counts changes in steps.
    pub change_checkpoint: u64,
    /// Each table.
    pub tables: Vec<TableMark>,
}

/// The state of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMark {
    /// `database.table`.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// The highest `mod_metadata`, where there is such a column and a row.
    pub max_mod_metadata: Option<u64>,
    /// The sum of all `mod_metadata`, where there is such a column and a row.
    pub sum_mod_metadata: Option<u64>,
    /// All contents; `None` where the table has change numbers and was too long.
    pub fingerprint: Option<String>,
}

impl FreezeMark {
    /// What changed until `later`, in words. Of a table that is not in this mark, it is what changed since all its rows were
    /// read for a proof, as `read` has it.
    pub fn changes(&self, later: &FreezeMark, read: &[TableProof]) -> Vec<String> {
        let mut changes = Vec::new();
        if self.change_checkpoint != later.change_checkpoint {
            changes
                .push(format!("change_checkpoint went from {} to {}", self.change_checkpoint, later.change_checkpoint));
        }
        for now in &later.tables {
            let then = match self.tables.iter().find(|table| table.name == now.name) {
                Some(then) => Some((then.rows, then == now)),
                None => read.iter().find(|table| table.name == now.name).map(|read| (read.rows, read.is_still(now))),
            };
            match then {
                Some((_, true)) => {}
                Some((rows, false)) => {
                    changes.push(format!("{}: changed, {rows} rows then, {} now", now.name, now.rows))
                }
                None => changes.push(format!("{}: was not there", now.name)),
            }
        }
        changes
    }
}

impl TableProof {
    /// Whether a mark says the same.
    fn is_still(&self, now: &TableMark) -> bool {
        let said = now.max_mod_metadata.zip(now.sum_mod_metadata).map(|(max, sum)| Changes { max, sum });
        self.rows == now.rows && self.changes == said
    }
}

/// Up to this many rows of a table are marked by content, and all of one without change numbers. Of a longer one a mark
/// holds what its indexes tell; its contents are in the comparison of both copies, and marks stand guard around that one
/// reading of all rows.
const SHORT: u64 = 5000;

/// Marks the state of a mailbox at the source. `mailbox` is its id there, `dumps` are its tables.
///
/// `is_read` says of which tables all rows are read soon after: of those with change numbers that reading is the mark.
pub fn freeze_mark(
    source: &Pool,
    mailbox: u32,
    dumps: &[Dump],
    is_read: &(dyn Fn(&Dump) -> bool + Sync),
    cancel: &Cancel,
) -> Result<FreezeMark> {
    let sql = format!("SELECT change_checkpoint FROM zimbra.mailbox WHERE id = {mailbox}");
    let checkpoint: Option<(u64,)> = source.get(cancel)?.first(&sql, ())?;
    let Some((change_checkpoint,)) = checkpoint else {
        return Err(Error::new(Kind::NotFound, format!("mailbox {mailbox} on {}: no such mailbox", source.store())));
    };
    let tables = each_table(dumps, cancel, |dump, cancel| mark_table(source, dump, is_read(dump), cancel))?;
    Ok(FreezeMark { change_checkpoint, tables: tables.into_iter().flatten().collect() })
}

fn mark_table(source: &Pool, dump: &Dump, is_read: bool, cancel: &Cancel) -> Result<Option<TableMark>> {
    let mut session = source.get(cancel)?;
    let Some(layout) = Layout::read(&mut session, &dump.database, &dump.table)? else { return Ok(None) };
    if is_read && layout.column(CHANGE).is_some() {
        return Ok(None);
    }
    let shape = Shape::of(dump, &layout);
    let (rows, changes) = match layout.column(CHANGE) {
        Some(column) => changes(source, &mut session, &shape, column.nullable, cancel)?,
        None => (session.one::<(u64,)>(&format!("SELECT COUNT(*) FROM {}", shape.by_change()?), ())?.0, None),
    };
    let fingerprint = match layout.column(CHANGE) {
        Some(_) if rows > SHORT => None,
        _ => Some(digest(&prints(&mut session, &shape, Side::Source)?)),
    };
    Ok(Some(TableMark {
        name: dump.name(),
        rows,
        max_mod_metadata: changes.map(|changes| changes.max),
        sum_mod_metadata: changes.map(|changes| changes.sum),
        fingerprint,
    }))
}

/// How many rows a table has, and what their change numbers say. A long table is read by another connection as well: what
/// is written meanwhile makes marks differ in any case, since a row goes to a change number above all others, and is
/// counted twice or not at all where its old place is read before and its new one after, or the other way round.
fn changes(
    source: &Pool,
    session: &mut Session,
    shape: &Shape,
    nullable: bool,
    cancel: &Cancel,
) -> Result<(u64, Option<Changes>)> {
    // From the index: whole rows would take a server twice as long.
    let from = shape.by_change()?;
    let ends: (Option<i64>, Option<i64>) =
        session.one(&format!("SELECT MIN({CHANGE}), MAX({CHANGE}) FROM {from}"), ())?;
    let ends = ends.0.zip(ends.1).unwrap_or_default();
    let is_long = !nullable && ends.1.abs_diff(ends.0) >= LONG;
    let mut beside = source.try_get_many(usize::from(is_long), cancel)?;
    let sessions: Vec<&mut Session> =
        std::iter::once(session).chain(beside.iter_mut().map(|lease| &mut **lease)).collect();
    let parts = parts_for(sessions.len());
    let read = |session: &mut &mut Session, at: usize, _: &Cancel| {
        let (low, high) = bounds(ends, parts, at);
        let low = low.map(|low| format!(" AND {CHANGE} >= {low}")).unwrap_or_default();
        let high = high.map(|high| format!(" AND {CHANGE} < {high}")).unwrap_or_default();
        let sql = format!("SELECT COUNT(*), MAX({CHANGE}), SUM({CHANGE}) FROM {from}{low}{high}");
        let (rows, max, sum): (u64, Option<u64>, Option<u64>) = session.one(&sql, ())?;
        Ok((rows, max.zip(sum).map(|(max, sum)| Changes { max, sum })))
    };
    let all = parallel::each_with(sessions, parts, cancel, read)?;
    let rows = all.iter().map(|(rows, _)| rows).sum();
    Ok((rows, all.into_iter().filter_map(|(_, changes)| changes).reduce(Changes::and)))
}

/// Does the same with every table, two at a time: more than the two cores or disks of a store would gain
/// nothing, and the other connections stay free for who else works on the store.
pub(super) fn each_table<T: Send>(
    dumps: &[Dump],
    cancel: &Cancel,
    work: impl Fn(&Dump, &Cancel) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    parallel::each(2, dumps.iter().collect(), cancel, work)
}

/// All fingerprints as one text: rows, and FNV-1a of every range's numbers.
pub(super) fn digest(prints: &Prints) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut rows = 0;
    for (range, print) in &prints.ranges {
        rows += print.rows;
        for byte in [range.to_le_bytes(), print.rows.to_le_bytes(), print.sum.to_le_bytes()].concat() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{rows}:{hash:016x}")
}
