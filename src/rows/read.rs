//! Rows of the source, rewritten.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::difference::{Known, Piece};
use super::dump::{Rewrite, Side};
use super::shape::Shape;
use crate::clients::db::{Raw, Session};
use crate::error::{Error, Kind, Result};

/// A file that a copied row names: (id, content's change, volume at the source).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// The item's id.
    pub id: u32,
    /// `mod_content`, part of the file's name.
    pub mod_content: u32,
    /// The locator as the source has it.
    pub locator: String,
}

/// Keys are named in a statement at most so many at a time.
pub(super) const KEYS: usize = 500;

/// What reads one table's rows.
pub(super) struct Reader<'a> {
    shape: &'a Shape,
    head: String,
    from: String,
    rewrites: Vec<Option<Change<'a>>>,
    blob: Option<[usize; 4]>,
}

enum Change<'a> {
    Constant(Vec<u8>),
    Map(BTreeMap<&'a [u8], &'a [u8]>),
}

impl<'a> Reader<'a> {
    pub fn new(shape: &'a Shape) -> Result<Self> {
        let columns: Vec<String> = shape
            .pairs
            .iter()
            .map(|pair| match pair.rewrite {
                Some(Rewrite::Constant(_)) => "NULL".into(),
                _ => pair.read(),
            })
            .collect();
        let rewrites = shape.pairs.iter().map(|pair| pair.rewrite.as_ref().map(change)).collect();
        let at = |column: &str| shape.pairs.iter().position(|pair| pair.from.name == column);
        let blob = || Some([at("id").or(at("item_id"))?, at("mod_content")?, at("locator")?, at("blob_digest")?]);
        let from = shape.dump.from(Side::Source)?;
        Ok(Self { shape, head: format!("SELECT {}", columns.join(",")), from, rewrites, blob: blob() })
    }

    /// Streams the source's rows of a piece: the rewritten values, and the file that the row names.
    pub fn read(
        &self,
        session: &mut Session,
        piece: &Piece,
        each: &mut dyn FnMut(Raw, Option<BlobRef>) -> Result<()>,
    ) -> Result<()> {
        match piece {
            Piece::Ranges { fresh: false, .. } => Ok(()),
            Piece::Ranges { first, last, .. } => {
                self.query(session, &self.from, &self.shape.within(*first, *last), each)
            }
            Piece::Rows { insert, .. } => {
                insert.chunks(KEYS).try_for_each(|keys| self.query(session, &self.from, &among(self.shape, keys), each))
            }
        }
    }

    /// Streams the source's rows that their change number tells to be new.
    pub fn read_known(
        &self,
        session: &mut Session,
        known: &Known,
        each: &mut dyn FnMut(Raw, Option<BlobRef>) -> Result<()>,
    ) -> Result<()> {
        self.query(session, &self.shape.by_change()?, &known.condition, each)
    }

    /// Streams all of the source's rows.
    pub fn read_all(&self, session: &mut Session, each: &mut dyn FnMut(Raw) -> Result<()>) -> Result<()> {
        self.query(session, &self.from, "TRUE", &mut |row, _| each(row))
    }

    fn query(
        &self,
        session: &mut Session,
        from: &str,
        condition: &str,
        each: &mut dyn FnMut(Raw, Option<BlobRef>) -> Result<()>,
    ) -> Result<()> {
        let sql = format!("{} FROM {from} AND {condition}", self.head);
        session.each(&sql, |mut row| {
            let blob = self.blob(&row)?;
            for (at, change) in self.rewrites.iter().enumerate() {
                match change {
                    None => {}
                    Some(Change::Constant(bytes)) => row[at] = Some(bytes.clone()),
                    Some(Change::Map(map)) => {
                        if let Some(value) = &mut row[at] {
                            let Some(new) = map.get(value.as_slice()) else { return Err(self.unmapped(at, value)) };
                            *value = new.to_vec();
                        }
                    }
                }
            }
            each(row, blob)
        })
    }

    fn blob(&self, row: &Raw) -> Result<Option<BlobRef>> {
        let Some([id, content, locator, digest]) = self.blob else { return Ok(None) };
        let (Some(_), Some(locator)) = (&row[digest], &row[locator]) else { return Ok(None) };
        let number = |at: usize| -> Option<u32> { std::str::from_utf8(row[at].as_deref()?).ok()?.parse().ok() };
        match (number(id), number(content)) {
            (Some(id), Some(mod_content)) => {
                Ok(Some(BlobRef { id, mod_content, locator: String::from_utf8_lossy(locator).into_owned() }))
            }
            _ => Err(Error::new(Kind::Data, format!("table {}: an item without a number", self.shape.dump.name()))),
        }
    }

    /// The value may be anything that the operator's map does not name; a locator of an external store is a
    /// path into it, so only what looks like a volume's number is shown.
    fn unmapped(&self, at: usize, value: &[u8]) -> Error {
        let column = &self.shape.pairs[at].to.name;
        let digits = !value.is_empty() && value.len() <= 10 && value.iter().all(u8::is_ascii_digit);
        let shown = if digits { String::from_utf8_lossy(value).into_owned() } else { "(not a number)".into() };
        let message = format!("table {}: {column} {shown} is not mapped", self.shape.dump.name());
        Error::new(Kind::Data, message).hint("where it came into use while a move ran, start the move again; else say what it becomes at the destination")
    }
}

/// The condition for rows with these keys. Of a key of several columns each is named by itself too: a server
/// finds rows by a list of numbers in an index, but not by a list of tuples.
pub(super) fn among(shape: &Shape, keys: &[Vec<i64>]) -> String {
    let columns: Vec<String> = shape.key.iter().map(|column| format!("`{column}`")).collect();
    let one = |at: usize, column: &String| {
        let mut numbers: Vec<i64> = keys.iter().filter_map(|key| key.get(at).copied()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        format!("{column} IN ({})", crate::clients::db::numbers(&numbers))
    };
    let mut conditions: Vec<String> = columns.iter().enumerate().map(|(at, column)| one(at, column)).collect();
    if columns.len() > 1 {
        let tuples: Vec<String> = keys.iter().map(|key| format!("({})", crate::clients::db::numbers(key))).collect();
        conditions.push(format!("({}) IN ({})", columns.join(","), tuples.join(",")));
    }
    conditions.join(" AND ")
}

fn change(rewrite: &Rewrite) -> Change<'_> {
    match rewrite {
        Rewrite::Constant(n) => Change::Constant(n.to_string().into_bytes()),
        Rewrite::Map(map) => Change::Map(map.iter().map(|(a, b)| (a.as_bytes(), b.as_bytes())).collect()),
    }
}
