//! The pipeline: makes the destination's rows equal to a dump's.
//!
//! It compares first and then moves what differs, so one function serves the first copy, each later pass and
//! the frozen difference, and running it again after any failure is always right.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::difference::{
    Known, Piece, Prints, both_prints, everything, is_empty, known, pieces, prints as prints_of, prints_at_once,
    read_again, replace, share,
};
use super::dump::{Dump, Side};
use super::over::Over;
use super::pipe::{Inlet, Queue, Size, pipe};
use super::prove::{Compared, Held, each_table};
use super::read::{BlobRef, KEYS, Reader, among};
use super::shape::Shape;
use super::write::{Writer, delete};
use crate::cancel::Cancel;
use crate::clients::db::{Lease, Pool, Session, pair};
use crate::error::{Kind, Result};
use crate::parallel::both;

/// How rows are moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InjectOptions {
    /// Whether to name the files of the inserted rows; their list grows with the difference.
    pub name_blobs: bool,
    /// Connections that write at once. Reading is several times faster than inserting, so one reads, in one
    /// snapshot, for all of them; a second snapshot could hold two items under one name.
    pub writers: usize,
    /// Bytes in a batch, and so in a transaction; never more than a quarter of the smaller
    /// `max_allowed_packet`, except for a single row.
    pub batch_bytes: usize,
    /// Rows in a batch.
    pub batch_rows: u64,
}

impl Default for InjectOptions {
    fn default() -> Self {
        Self { name_blobs: false, writers: 2, batch_bytes: 1 << 20, batch_rows: u64::MAX }
    }
}

/// How far a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// `database.table` at the source.
    pub table: String,
    /// Rows known to be equal already.
    pub unchanged: u64,
    /// Rows deleted so far.
    pub deleted: u64,
    /// Rows inserted so far.
    pub inserted: u64,
    /// Bytes of the inserted values so far.
    pub bytes: u64,
    /// Rows that are known to be inserted yet.
    pub left: u64,
    /// Rows written since the last word: deleted, or inserted.
    pub batch_rows: u64,
    /// Bytes of those that were inserted.
    pub batch_bytes: u64,
}

/// Hears how far a table is, before the first row is written and after every batch. It may wait, so that the copy goes
/// slower; its error ends the copy.
pub type Told<'a> = dyn Fn(Progress) -> Result<()> + Sync + 'a;

/// What became of a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Injected {
    /// Rows read from the source.
    pub read: u64,
    /// Rows inserted.
    pub inserted: u64,
    /// Rows deleted, changed ones included.
    pub deleted: u64,
    /// Rows that were equal already.
    pub unchanged: u64,
    /// Bytes of the inserted values.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Rows of the source that were compared with the destination's.
    pub compared: u64,
    /// How long tables took to be compared, one after the other.
    pub comparing: f64,
    /// How long batches took to be inserted, one after the other and without waits.
    pub writing: f64,
    /// The files that inserted rows name, when asked for.
    pub blobs: Vec<BlobRef>,
}

impl Injected {
    /// Adds what became of another table.
    pub fn add(&mut self, mut other: Injected) {
        self.read += other.read;
        self.inserted += other.inserted;
        self.deleted += other.deleted;
        self.unchanged += other.unchanged;
        self.bytes += other.bytes;
        self.seconds += other.seconds;
        self.compared += other.compared;
        self.comparing += other.comparing;
        self.writing += other.writing;
        self.blobs.append(&mut other.blobs);
    }
}

/// Makes the destination's rows of a dump equal to the source's.
///
/// Several calls may share the pools. The destination's rows of this mailbox must be nobody else's to write.
///
/// # Errors
/// `Refused` when rows would not fit; `Data` for a value that is not mapped or that the destination would
/// change; `Unreachable`, `Cancelled`: run it again.
pub fn inject(
    source: &Pool,
    destination: &Pool,
    dump: &Dump,
    options: &InjectOptions,
    progress: &Told<'_>,
    cancel: &Cancel,
) -> Result<Injected> {
    let Some(mut table) = Table::open(source, destination, dump, cancel)? else { return Ok(Injected::default()) };
    let (injected, _) = table.level(options, progress, None)?;
    Ok(injected)
}

/// The same for many tables, two at a time. The order of the dumps is that of the results; the largest should come
/// first.
pub fn inject_all(
    source: &Pool,
    destination: &Pool,
    dumps: &[Dump],
    options: &InjectOptions,
    progress: &Told<'_>,
    cancel: &Cancel,
) -> Result<Vec<Injected>> {
    each_table(dumps, cancel, |dump, cancel| inject(source, destination, dump, options, progress, cancel))
}

/// As [`inject_all`]; gives with each what the destination holds then, for [`inject_compared`].
pub fn inject_held(
    source: &Pool,
    destination: &Pool,
    dumps: &[Dump],
    options: &InjectOptions,
    progress: &Told<'_>,
    cancel: &Cancel,
) -> Result<Vec<(Injected, Held)>> {
    each_table(dumps, cancel, |dump, cancel| {
        let Some(mut table) = Table::open(source, destination, dump, cancel)? else {
            return Ok((Injected::default(), Held(Prints::default())));
        };
        let (injected, prints) = table.level(options, progress, None)?;
        let there = match prints {
            Some((_, there)) => there,
            None => prints_of(&mut table.to, &table.shape, Side::Destination)?,
        };
        Ok((injected, Held(there)))
    })
}

/// As [`inject_all`], while the source stands still, and each table is compared again where it was touched.
///
/// `held` gives what the destination holds of a dump, where that is known: then only the source is read for it here.
/// What comes back proves both copies equal as long as nobody else writes to either of them: every row of both was
/// read, and what was written since was read again.
pub fn inject_compared(
    source: &Pool,
    destination: &Pool,
    dumps: &[Dump],
    held: &(dyn Fn(&Dump) -> Option<Held> + Sync),
    options: &InjectOptions,
    progress: &Told<'_>,
    cancel: &Cancel,
) -> Result<Vec<(Injected, Compared)>> {
    each_table(dumps, cancel, |dump, cancel| {
        let Some(mut table) = Table::open(source, destination, dump, cancel)? else {
            return Ok((Injected::default(), Compared::nothing(dump)));
        };
        let held = held(dump);
        let known = held.as_ref().map(|Held(there)| there.clone());
        let (injected, prints) = table.level(options, progress, held)?;
        let prints = match prints {
            Some(prints) => prints,
            None => both_prints(&mut table.from, &mut table.to, &table.shape)?,
        };
        Ok((injected, Compared::new(&table.shape, prints, known.as_ref())))
    })
}

/// A table that is there on both sides, with a connection to each.
struct Table<'a> {
    source: &'a Pool,
    destination: &'a Pool,
    from: Lease,
    to: Lease,
    shape: Shape,
    cancel: &'a Cancel,
}

impl<'a> Table<'a> {
    fn open(source: &'a Pool, destination: &'a Pool, dump: &Dump, cancel: &'a Cancel) -> Result<Option<Self>> {
        let (mut from, mut to) = pair(source, destination, cancel)?;
        let shape = Shape::fit(&mut from, &mut to, dump)?;
        Ok(shape.map(|shape| Self { source, destination, from, to, shape, cancel }))
    }

    /// Compares and copies what differs; gives back what both sides hold then, unless there was nothing to compare with.
    /// With `held` the source stands still.
    fn level(
        &mut self,
        options: &InjectOptions,
        progress: &Told<'_>,
        held: Option<Held>,
    ) -> Result<(Injected, Option<(Prints, Prints)>)> {
        let Self { source, destination, from, to, shape, cancel } = self;
        let copy = Copy {
            shape,
            options,
            progress,
            cancel,
            due: AtomicU64::new(0),
            counts: Mutex::default(),
            started: Instant::now(),
        };
        from.snapshot()?;
        if is_empty(to, shape)? {
            // A first copy need not read the source twice.
            let all = everything(from, shape)?;
            copy.carry_out(from, to, destination, &all)?;
            from.rollback()?;
            return Ok((copy.end(), None));
        }
        let rows = held.as_ref().map(|Held(there)| there.rows());
        let known = known(from, to, shape, rows)?;
        copy.expect(known.as_ref().map_or(0, |known| known.rows), |_| {})?;
        let began = Instant::now();
        let ((here, mut there), comparing) = match held {
            Some(Held(there)) => {
                let sides = copy.follow(source, destination, from, to, known.as_ref(), there)?;
                (sides, began.elapsed())
            }
            None => {
                if let Some(known) = &known {
                    copy.write_over(destination, from, to, known, None)?;
                }
                let began = Instant::now();
                (both_prints(from, to, shape)?, began.elapsed())
            }
        };
        let compared_after = copy.started.elapsed();
        let copied = copy.inserted();
        let began = Instant::now();
        let (pieces, equal) = pieces(from, to, shape, (&here, &there), cancel)?;
        let compared = here.rows();
        copy.expect(compared.saturating_sub(equal), |c| {
            c.unchanged = equal.saturating_sub(copied);
            c.compared = compared;
            c.comparing = (comparing + began.elapsed()).as_secs_f64();
        })?;
        copy.carry_out_followed(from, to, destination, &pieces, &mut there)?;
        from.rollback()?;
        let injected = copy.end();
        log::debug!(
            "{}: {} rows known to differ; compared after {:.3} s, level after {:.3} s",
            shape.dump.name(),
            known.map_or(0, |known| known.rows),
            compared_after.as_secs_f64(),
            injected.seconds
        );
        Ok((injected, Some((here, there))))
    }
}

/// Rows that are written over go in batches of this part of the usual size: nobody may wait long for the last one.
const OVER_PART: usize = 2;

struct Copy<'a> {
    shape: &'a Shape,
    options: &'a InjectOptions,
    progress: &'a Told<'a>,
    cancel: &'a Cancel,
    /// How many rows are known to be inserted, those that were included.
    due: AtomicU64,
    counts: Mutex<Injected>,
    started: Instant,
}

impl Copy<'_> {
    fn carry_out(&self, from: &mut Session, to: &mut Session, destination: &Pool, pieces: &[Piece]) -> Result<()> {
        // All deletes come before all inserts: two items may have swapped what a unique key holds.
        self.delete(to, pieces)?;
        self.insert(from, to, destination, pieces)
    }

    /// The same, and `there` follows what becomes of the destination.
    fn carry_out_followed(
        &self,
        from: &mut Session,
        to: &mut Session,
        destination: &Pool,
        pieces: &[Piece],
        there: &mut Prints,
    ) -> Result<()> {
        let (mut ranges, mut gone, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Ranges { first, last, .. } => ranges.extend(*first..=*last),
                Piece::Rows { delete, insert } => {
                    gone.extend_from_slice(delete);
                    new.extend_from_slice(insert);
                }
            }
        }
        let before = share(to, self.shape, &gone)?;
        self.carry_out(from, to, destination, pieces)?;
        replace(there, before, share(to, self.shape, &new)?);
        read_again(to, self.shape, &ranges, there)
    }

    /// Says that so many more rows will be inserted, and what else is known by now.
    fn expect(&self, more: u64, add: impl FnOnce(&mut Injected)) -> Result<()> {
        self.due.store(self.inserted() + more, Ordering::SeqCst);
        self.count(add)
    }

    fn inserted(&self) -> u64 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).inserted
    }

    fn end(self) -> Injected {
        let injected = self.counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        Injected { seconds: self.started.elapsed().as_secs_f64(), ..injected }
    }

    /// Writes changed rows over while the source is read, which stands still; `there` is what the destination held, and
    /// follows what becomes of it.
    fn follow(
        &self,
        source: &Pool,
        destination: &Pool,
        from: &mut Session,
        to: &mut Session,
        known: Option<&Known>,
        there: Prints,
    ) -> Result<(Prints, Prints)> {
        let readers = self.shape.readers(there.rows());
        let Some(known) = known else {
            let mut beside = source.try_get_many(readers - 1, self.cancel)?;
            let sessions = std::iter::once(from).chain(beside.iter_mut().map(|lease| &mut **lease));
            return Ok((prints_at_once(sessions.collect(), self.shape, self.cancel)?, there));
        };
        let mut beside = source.try_get_many(readers, self.cancel)?;
        let write = |from: &mut Session| {
            let there = Mutex::new(there);
            self.write_over(destination, from, to, known, Some(&there))?;
            Ok(there.into_inner().unwrap_or_else(PoisonError::into_inner))
        };
        if beside.is_empty() {
            return write(from).and_then(|there| Ok((prints_of(from, self.shape, Side::Source)?, there)));
        }
        let sessions = beside.iter_mut().map(|lease| &mut **lease).collect();
        both(|| prints_at_once(sessions, self.shape, self.cancel), || write(from))
    }

    /// Writes changed rows, those that are there already and those that are not; `there` follows. Where that cannot be
    /// done it leaves them to the comparison: a new item may have the name of one that is yet to be found gone, and must
    /// come after that was deleted; or this user make no temporary tables.
    fn write_over(
        &self,
        destination: &Pool,
        from: &mut Session,
        to: &mut Session,
        known: &Known,
        there: Option<&Mutex<Prints>>,
    ) -> Result<()> {
        match self.write_known(destination, from, to, known, there) {
            Err(error) if matches!(error.kind(), Kind::Data | Kind::Denied) => {
                log::debug!("{error}; comparing first");
                Ok(())
            }
            done => done,
        }
    }

    fn write_known(
        &self,
        destination: &Pool,
        from: &mut Session,
        to: &mut Session,
        known: &Known,
        there: Option<&Mutex<Prints>>,
    ) -> Result<()> {
        let size = self.size(from, to);
        let size = Size { bytes: size.bytes / OVER_PART, ..size };
        let mut helpers = if known.rows < KEYS as u64 {
            Vec::new()
        } else {
            destination.try_get_many(self.options.writers.saturating_sub(1), self.cancel)?
        };
        let writers = std::iter::once(to).chain(helpers.iter_mut().map(|lease| &mut **lease));
        let reader = Reader::new(self.shape)?;
        let read = |inlet: &mut Inlet<'_>| {
            reader.read_known(from, known, &mut |row, blob| {
                self.name(blob);
                inlet.push(row)
            })
        };
        pipe(size, writers, read, |session, queue| self.put_over(session, queue, there))
    }

    fn put_over(&self, session: &mut Session, queue: &Queue, there: Option<&Mutex<Prints>>) -> Result<()> {
        let mut over = Over::new(session, self.shape)?;
        while let Some(batch) = queue.next() {
            self.cancel.check()?;
            let (rows, bytes, began) = (batch.rows, batch.bytes as u64, Instant::now());
            let new = over.write(batch, there)?;
            self.count(|c| {
                c.read += rows;
                c.inserted += rows;
                c.deleted += rows - new.min(rows);
                c.bytes += bytes;
                c.writing += began.elapsed().as_secs_f64();
            })?;
        }
        over.end()
    }

    fn size(&self, from: &Session, to: &Session) -> Size {
        let bytes = self.options.batch_bytes.min(from.packet().min(to.packet()) / 4).max(1);
        Size { way: Writer::way(to), bytes, rows: self.options.batch_rows }
    }

    fn name(&self, blob: Option<BlobRef>) {
        if self.options.name_blobs {
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).blobs.extend(blob);
        }
    }

    fn delete(&self, to: &mut Session, pieces: &[Piece]) -> Result<()> {
        for piece in pieces {
            self.cancel.check()?;
            match piece {
                Piece::Ranges { stale: false, .. } => {}
                Piece::Ranges { first, last, .. } => {
                    let deleted = delete(to, self.shape, &self.shape.within(*first, *last))?;
                    self.count(|c| c.deleted += deleted)?;
                }
                Piece::Rows { delete: keys, .. } => {
                    for keys in keys.chunks(KEYS) {
                        let deleted = delete(to, self.shape, &among(self.shape, keys))?;
                        self.count(|c| c.deleted += deleted)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One thread reads, a few write; between them waits no more than a batch or two.
    fn insert(&self, from: &mut Session, to: &mut Session, destination: &Pool, pieces: &[Piece]) -> Result<()> {
        let work = |piece: &Piece| match piece {
            Piece::Ranges { fresh, .. } => *fresh,
            Piece::Rows { insert, .. } => !insert.is_empty(),
        };
        if !pieces.iter().any(work) {
            return Ok(());
        }
        let size = self.size(from, to);
        // A few rows by their keys are one batch, for which nobody must connect.
        let is_little = pieces.iter().all(|piece| matches!(piece, Piece::Rows { insert, .. } if insert.len() < KEYS));
        let mut helpers = if is_little {
            Vec::new()
        } else {
            destination.try_get_many(self.options.writers.saturating_sub(1), self.cancel)?
        };
        let writers = std::iter::once(to).chain(helpers.iter_mut().map(|lease| &mut **lease));
        let reader = Reader::new(self.shape)?;
        let read = |inlet: &mut Inlet<'_>| {
            pieces.iter().try_for_each(|piece| {
                reader.read(from, piece, &mut |row, blob| {
                    self.name(blob);
                    inlet.push(row)
                })
            })
        };
        pipe(size, writers, read, |session, queue| self.write_each(session, queue))
    }

    fn write_each(&self, session: &mut Session, queue: &Queue) -> Result<()> {
        let mut writer = Writer::new(session, self.shape)?;
        while let Some(batch) = queue.next() {
            self.cancel.check()?;
            let (rows, bytes) = (batch.rows, batch.bytes as u64);
            let began = Instant::now();
            writer.write(batch)?;
            self.count(|c| {
                c.read += rows;
                c.inserted += rows;
                c.bytes += bytes;
                c.writing += began.elapsed().as_secs_f64();
            })?;
        }
        Ok(())
    }

    fn count(&self, add: impl FnOnce(&mut Injected)) -> Result<()> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (rows, bytes) = (counts.deleted + counts.inserted, counts.bytes);
        add(&mut counts);
        let progress = Progress {
            table: self.shape.dump.name(),
            unchanged: counts.unchanged,
            deleted: counts.deleted,
            inserted: counts.inserted,
            bytes: counts.bytes,
            left: self.due.load(Ordering::SeqCst).saturating_sub(counts.inserted),
            batch_rows: counts.deleted + counts.inserted - rows,
            batch_bytes: counts.bytes - bytes,
        };
        drop(counts);
        (self.progress)(progress)
    }
}
