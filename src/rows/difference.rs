//! Where two tables differ: fingerprints of ranges on both sides at once, and within a range that differs
//! little the rows themselves.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::dump::Side;
use super::parts::{bounds, parts_for};
use super::read::{KEYS, among};
use super::shape::{SPAN, Shape};
use crate::cancel::Cancel;
use crate::clients::db::{Raw, Session};
use crate::error::{Error, Kind, Result};
use crate::parallel::{both, each_with};

/// The fingerprint of a range: its number of rows and the sum of their CRCs. A sum, unlike an XOR, does not
/// lose two equal rows of a table without keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Print {
    pub rows: u64,
    pub sum: u64,
    /// Rows at the destination with a value that no map leads to; a source has none, so such a range is unequal.
    pub unmapped: u64,
}

impl Print {
    fn add(&mut self, more: Print) {
        self.rows = self.rows.wrapping_add(more.rows);
        self.sum = self.sum.wrapping_add(more.sum);
        self.unmapped = self.unmapped.wrapping_add(more.unmapped);
    }

    /// What wraps here was never part of it, and makes it unequal to every other.
    fn take(&mut self, less: Print) {
        self.rows = self.rows.wrapping_sub(less.rows);
        self.sum = self.sum.wrapping_sub(less.sum);
        self.unmapped = self.unmapped.wrapping_sub(less.unmapped);
    }
}

/// The column that says with which change of the mailbox a row changed last.
pub(super) const CHANGE: &str = "mod_metadata";

/// The column of the change that a row's blob is named by.
const CONTENT: &str = "mod_content";

/// What one side holds of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prints {
    /// Its fingerprints by number of range.
    pub ranges: BTreeMap<i64, Print>,
    /// The highest `mod_content` at a source, where rows have it. It is read along with all rows, since no index has it.
    pub content: Option<u64>,
    /// What change numbers say at a source, where rows have one. A table that is written to says something else.
    pub changes: Option<Changes>,
}

/// What change numbers tell of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The highest `mod_metadata`.
    pub max: u64,
    /// The sum of all.
    pub sum: u64,
}

impl Changes {
    /// Of the rows of both.
    pub(super) fn and(self, more: Self) -> Self {
        Self { max: self.max.max(more.max), sum: self.sum.wrapping_add(more.sum) }
    }
}

impl Prints {
    /// How many rows those are.
    pub fn rows(&self) -> u64 {
        self.ranges.values().map(|print| print.rows).sum()
    }

    /// How many of a destination's have a value that no map leads to.
    pub fn unmapped(&self) -> u64 {
        self.ranges.values().map(|print| print.unmapped).sum()
    }

    /// Takes what was read of other ranges.
    fn extend(&mut self, more: Self) {
        self.ranges.extend(more.ranges);
        self.content = self.content.max(more.content);
        self.note(more.changes);
    }

    fn note(&mut self, more: Option<Changes>) {
        self.changes = self.changes.into_iter().chain(more).reduce(Changes::and);
    }
}

/// What must happen to make a range equal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Ranges from the first to the last are replaced; `stale` when the destination has rows there.
    Ranges { first: i64, last: i64, stale: bool, fresh: bool },
    /// Rows by their keys, of any ranges: a day's changes lie everywhere, and one statement for all of them is
    /// what keeps their copy independent of how many ranges there are.
    Rows { delete: Vec<Vec<i64>>, insert: Vec<Vec<i64>> },
}

/// The fingerprints of all of one side's rows.
pub(super) fn prints(session: &mut Session, shape: &Shape, side: Side) -> Result<Prints> {
    prints_where(session, shape, side, "TRUE")
}

/// The destination's, of the rows with those keys that another table of the same session holds.
pub(super) fn prints_beside(session: &mut Session, shape: &Shape, beside: &str) -> Result<Prints> {
    let (mut names, mut same) = (Vec::new(), Vec::new());
    for (at, column) in shape.key.iter().enumerate() {
        names.push(format!("`{column}` AS zlm_key_{at}"));
        same.push(format!("`{column}` = zlm_key_{at}"));
    }
    // Row by row by its key: half of what a list of the keys costs.
    let keys = format!("(SELECT {} FROM {beside}) AS zlm_keys STRAIGHT_JOIN ", names.join(","));
    prints_joined(session, shape, Side::Destination, &keys, &same.join(" AND "))
}

fn prints_where(session: &mut Session, shape: &Shape, side: Side, condition: &str) -> Result<Prints> {
    prints_joined(session, shape, side, "", condition)
}

fn prints_joined(session: &mut Session, shape: &Shape, side: Side, join: &str, condition: &str) -> Result<Prints> {
    let source = |name: &str| match side {
        Side::Source => shape.pairs.iter().map(|pair| &pair.from).find(|c| c.name == name && c.is_integer()),
        Side::Destination => None,
    };
    let (content, change) = (source(CONTENT), source(CHANGE));
    let sum = match change {
        Some(column) if column.data_type == "bigint" => format!("SUM({CHANGE})"),
        _ => shape.sum(CHANGE),
    };
    let sql = format!(
        "SELECT {} AS r, COUNT(*), {}, {}, {}, {} FROM {join}{} AND {condition} GROUP BY r",
        shape.range_number(),
        shape.sum(&shape.row_crc(side)),
        shape.unmapped(side)?,
        if content.is_some() { format!("MAX({CONTENT})") } else { "NULL".to_owned() },
        if change.is_some() { format!("MAX({CHANGE}), {sum}") } else { "NULL, NULL".to_owned() },
        shape.dump.from(side)?
    );
    let mut prints = Prints::default();
    session.each(&sql, |row| {
        let print = Print { rows: number(&row, 1)?, sum: number(&row, 2)?, unmapped: number(&row, 3)? };
        prints.ranges.insert(number(&row, 0)?, print);
        let content = number_or_null::<i64>(&row, 4)?;
        prints.content = prints.content.max(content.map(|content| content.try_into().unwrap_or(0)));
        let changes = number_or_null(&row, 5)?.zip(number_or_null(&row, 6)?);
        prints.note(changes.map(|(max, sum)| Changes { max, sum }));
        Ok(())
    })?;
    Ok(prints)
}

/// The fingerprints of all of the source's rows, each connection reading the next of many parts. They see the same rows
/// only while the source stands still. No connection, no fingerprints.
pub(super) fn prints_at_once(mut sessions: Vec<&mut Session>, shape: &Shape, cancel: &Cancel) -> Result<Prints> {
    let parts = if shape.is_read_in_parts() { parts_for(sessions.len()) } else { 1 };
    let ends = match sessions.first_mut() {
        Some(first) if parts > 1 => ends(first, shape)?.unwrap_or_default(),
        _ => Default::default(),
    };
    let read = |session: &mut &mut Session, at: usize, _: &Cancel| match bounds(ends, parts, at) {
        (None, None) => prints(session, shape, Side::Source),
        (low, high) => {
            let (first, last) = (low.unwrap_or(ends.0.min(0)), high.map_or(i64::MAX / SPAN, |high| high - 1));
            prints_where(session, shape, Side::Source, &shape.within(first, last))
        }
    };
    let mut all = Prints::default();
    each_with(sessions, parts, cancel, read)?.into_iter().for_each(|part| all.extend(part));
    Ok(all)
}

/// The fingerprints of both sides, read at once.
pub(super) fn both_prints(source: &mut Session, destination: &mut Session, shape: &Shape) -> Result<(Prints, Prints)> {
    both(|| prints(source, shape, Side::Source), || prints(destination, shape, Side::Destination))
}

/// Reads the destination's fingerprints of some ranges again.
pub(super) fn read_again(destination: &mut Session, shape: &Shape, ranges: &[i64], there: &mut Prints) -> Result<()> {
    there.ranges.retain(|range, _| ranges.binary_search(range).is_err());
    there.extend(prints_of_ranges(destination, shape, ranges)?);
    Ok(())
}

/// The destination's fingerprints of some ranges.
pub(super) fn prints_of_ranges(destination: &mut Session, shape: &Shape, ranges: &[i64]) -> Result<Prints> {
    let mut prints = Prints::default();
    for some in ranges.chunks(AT_ONCE) {
        prints.extend(prints_where(destination, shape, Side::Destination, &shape.among_ranges(some))?);
    }
    Ok(prints)
}

/// What the destination's rows with some keys add to its fingerprints.
pub(super) fn share(destination: &mut Session, shape: &Shape, keys: &[Vec<i64>]) -> Result<Prints> {
    let mut share = Prints::default();
    for some in keys.chunks(KEYS) {
        let part = prints_where(destination, shape, Side::Destination, &among(shape, some))?;
        part.ranges.into_iter().for_each(|(range, print)| share.ranges.entry(range).or_default().add(print));
    }
    Ok(share)
}

/// Puts what rows add to fingerprints now in the place of what they added before.
pub(super) fn replace(prints: &mut Prints, before: Prints, now: Prints) {
    let prints = &mut prints.ranges;
    for (range, print) in before.ranges {
        prints.entry(range).or_default().take(print);
    }
    for (range, print) in now.ranges {
        prints.entry(range).or_default().add(print);
    }
    prints.retain(|_, print| print.rows > 0);
}

/// The ranges that are not equal, in order.
pub(super) fn unequal(source: &Prints, destination: &Prints) -> Vec<i64> {
    let (source, destination) = (&source.ranges, &destination.ranges);
    let mut ranges: Vec<i64> = source.keys().chain(destination.keys()).copied().collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges.retain(|range| source.get(range) != destination.get(range));
    ranges
}

/// Whether the destination has no rows of a dump yet.
pub(super) fn is_empty(destination: &mut Session, shape: &Shape) -> Result<bool> {
    let from = shape.dump.from(Side::Destination)?;
    Ok(destination.raw(&format!("SELECT 1 FROM {from} LIMIT 1"))?.is_empty())
}

/// The numbers of the source's first and last range; none where it has no rows.
fn ends(source: &mut Session, shape: &Shape) -> Result<Option<(i64, i64)>> {
    let from = shape.dump.from(Side::Source)?;
    // The ends of an index are found without reading what is between.
    let rows = source.raw(&match &shape.range {
        Some(column) => format!("SELECT MIN(`{column}`) DIV {SPAN}, MAX(`{column}`) DIV {SPAN} FROM {from}"),
        None => format!("SELECT 0, 0 FROM {from} LIMIT 1"),
    })?;
    match rows.first().filter(|row| row.iter().all(Option::is_some)) {
        Some(row) => Ok(Some((number(row, 0)?, number(row, 1)?))),
        None => Ok(None),
    }
}

/// All of the source's rows, for a destination that is empty.
pub(super) fn everything(source: &mut Session, shape: &Shape) -> Result<Vec<Piece>> {
    let Some((least, most)) = ends(source, shape)? else { return Ok(Vec::new()) };
    let mut pieces = Vec::new();
    let mut first = least;
    while first <= most {
        let last = most.min(first + MOST_RANGES - 1);
        pieces.push(Piece::Ranges { first, last, stale: false, fresh: true });
        first = last + 1;
    }
    Ok(pieces)
}

/// Rows that the source has changed since the destination's were copied, so far as their change number tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What they meet.
    pub condition: String,
    /// How many they are.
    pub rows: u64,
}

/// Finds most changed rows without reading the others, and no proof: much changes without a change number. `None` where
/// rows have no such number, none is new, or most of the `held` ones at the destination: ranges are better compared first.
pub(super) fn known(
    source: &mut Session,
    destination: &mut Session,
    shape: &Shape,
    held: Option<u64>,
) -> Result<Option<Known>> {
    if shape.key.is_empty() || !shape.pairs.iter().any(|pair| pair.to.name == CHANGE && pair.rewrite.is_none()) {
        return Ok(None);
    }
    let last = destination.raw(&format!("SELECT MAX({CHANGE}) FROM {}", shape.dump.from(Side::Destination)?))?;
    let Some(last) = last.first() else { return Ok(None) };
    let condition = format!("{CHANGE} > {}", number::<i64>(last, 0)?);
    let (rows,): (u64,) = source.one(&format!("SELECT COUNT(*) FROM {} AND {condition}", shape.by_change()?), ())?;
    let is_much = match (rows, held) {
        (..=FEW, _) => false,
        (_, Some(held)) => rows > held / 2,
        (_, None) => rows > count(destination, shape)? / 2,
    };
    Ok((rows > 0 && !is_much).then_some(Known { condition, rows }))
}

/// So many rows are written one by one in any case: it is over before somebody has counted the others.
const FEW: u64 = 20_000;

fn count(destination: &mut Session, shape: &Shape) -> Result<u64> {
    let sql = format!("SELECT COUNT(*) FROM {}", shape.dump.from(Side::Destination)?);
    Ok(destination.one::<(u64,)>(&sql, ())?.0)
}

/// What must happen, and how many rows may stay.
pub(super) fn pieces(
    source: &mut Session,
    destination: &mut Session,
    shape: &Shape,
    (here, there): (&Prints, &Prints),
    cancel: &Cancel,
) -> Result<(Vec<Piece>, u64)> {
    let mut pieces = Vec::new();
    let all = unequal(here, there);
    let (here, there) = (&here.ranges, &there.ranges);
    let mut unchanged: u64 = here.iter().filter(|(range, p)| there.get(range) == Some(p)).map(|(_, p)| p.rows).sum();
    let is_mixed = |range: &i64| here.contains_key(range) && there.contains_key(range) && !shape.key.is_empty();
    let (mixed, mut whole): (Vec<i64>, Vec<i64>) = all.into_iter().partition(is_mixed);
    let (mut delete, mut insert) = (Vec::new(), Vec::new());
    for some in mixed.chunks(AT_ONCE) {
        cancel.check()?;
        let (mut a, mut b) =
            both(|| rows(source, shape, Side::Source, some), || rows(destination, shape, Side::Destination, some))?;
        for range in some {
            let (a, b) = (a.remove(range).unwrap_or_default(), b.remove(range).unwrap_or_default());
            let (mut gone, mut new) = split(&a, &b);
            // A replaced range is read in order and without naming each row, which is worth it from a half on.
            if new.len() * 2 <= a.len() && gone.len() * 2 <= b.len() {
                unchanged += (a.len() - new.len()) as u64;
                delete.append(&mut gone);
                insert.append(&mut new);
            } else {
                whole.push(*range);
            }
        }
    }
    whole.sort_unstable();
    for range in whole {
        let (fresh, stale) = (here.contains_key(&range), there.contains_key(&range));
        match pieces.last_mut() {
            Some(Piece::Ranges { first, last, stale: s, fresh: f })
                if *last + 1 == range && range - *first < MOST_RANGES && *s == stale && *f == fresh =>
            {
                *last = range;
            }
            _ => pieces.push(Piece::Ranges { first: range, last: range, stale, fresh }),
        }
    }
    if !delete.is_empty() || !insert.is_empty() {
        pieces.push(Piece::Rows { delete, insert });
    }
    Ok((pieces, unchanged))
}

/// One query reads at most this many ranges, so that a stop is soon seen and nothing is deleted in a
/// transaction without measure.
const MOST_RANGES: i64 = 1024;

/// Ranges whose rows are compared one by one in one query; bounds what is kept in memory.
const AT_ONCE: usize = 256;

/// The CRC of each row of a range, by its key.
type Rows = HashMap<Vec<i64>, i64>;

/// The rows of some ranges, by range.
fn rows(session: &mut Session, shape: &Shape, side: Side, ranges: &[i64]) -> Result<HashMap<i64, Rows>> {
    let key: Vec<String> = shape.key.iter().map(|column| format!("`{column}`")).collect();
    let sql = format!(
        "SELECT {}, {}, {} FROM {} AND {}",
        shape.range_number(),
        key.join(","),
        shape.row_crc(side),
        shape.dump.from(side)?,
        shape.among_ranges(ranges)
    );
    let mut rows: HashMap<i64, Rows> = HashMap::new();
    session.each(&sql, |row| {
        let numbers = (0..row.len()).map(|at| number(&row, at)).collect::<Result<Vec<i64>>>()?;
        if let [range, key @ .., crc] = numbers.as_slice() {
            rows.entry(*range).or_default().insert(key.to_vec(), *crc);
        }
        Ok(())
    })?;
    Ok(rows)
}

/// The keys to delete at the destination and those to insert; a changed row is in both.
fn split(source: &Rows, destination: &Rows) -> (Vec<Vec<i64>>, Vec<Vec<i64>>) {
    let only = |these: &Rows, those: &Rows| {
        let mut keys: Vec<_> =
            these.iter().filter(|(key, crc)| those.get(*key) != Some(crc)).map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys
    };
    (only(destination, source), only(source, destination))
}

fn number_or_null<T: std::str::FromStr>(row: &Raw, at: usize) -> Result<Option<T>> {
    if row.get(at).is_some_and(Option::is_none) { Ok(None) } else { number(row, at).map(Some) }
}

fn number<T: std::str::FromStr>(row: &Raw, at: usize) -> Result<T> {
    row.get(at)
        .and_then(Option::as_deref)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::new(Kind::Peer, "fingerprint: not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(list: &[(i64, u64, u64)]) -> Prints {
        let ranges = list.iter().map(|&(range, rows, sum)| (range, Print { rows, sum, unmapped: 0 }));
        Prints { ranges: ranges.collect(), content: None, changes: None }
    }

    #[test]
    fn ranges_of_either_side_are_compared() {
        let here = prints(&[(0, 2, 9), (1, 5, 7), (3, 1, 1)]);
        let there = prints(&[(0, 2, 9), (1, 5, 8), (4, 1, 1)]);
        assert_eq!(unequal(&here, &there), [1, 3, 4]);
    }

    #[test]
    fn fingerprints_follow_what_rows_become() {
        let mut kept = prints(&[(0, 2, 9), (1, 5, 7), (3, 1, 1)]);
        replace(&mut kept, prints(&[(1, 1, 3), (3, 1, 1)]), prints(&[(1, 1, 4), (5, 1, 2)]));
        assert_eq!(kept, prints(&[(0, 2, 9), (1, 5, 8), (5, 1, 2)]));
    }

    #[test]
    fn a_changed_row_is_deleted_and_inserted() {
        let row = |id: i64, crc: i64| (vec![id], crc);
        let (delete, insert) =
            split(&Rows::from([row(1, 1), row(2, 2), row(3, 3)]), &Rows::from([row(1, 1), row(2, 7), row(4, 4)]));
        assert_eq!(delete, [[2], [4]]);
        assert_eq!(insert, [[2], [3]]);
    }
}
