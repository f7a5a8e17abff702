//! Batches on their way from the one who reads them to the few who write them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::write::{Batch, Way};
use crate::clients::db::{Raw, Session};
use crate::error::{Error, Kind, Result};

/// What lies between them: a batch at most, so that memory does not grow with a table.
pub(super) struct Queue {
    batches: Mutex<Receiver<Batch>>,
    failed: AtomicBool,
}

/// Where the reader puts rows in.
pub(super) struct Inlet<'a> {
    size: Size,
    batch: Batch,
    send: SyncSender<Batch>,
    queue: &'a Queue,
}

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// What its rows are written with.
    pub way: Way,
    /// Bytes of values.
    pub bytes: usize,
    /// Rows.
    pub rows: u64,
}

impl Queue {
    /// The next batch to write; none when there are no more.
    pub fn next(&self) -> Option<Batch> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

impl Inlet<'_> {
    /// Takes a row; hands the batch over when it is full, as soon as there is room. Fails when writing failed.
    pub fn push(&mut self, row: Raw) -> Result<()> {
        self.batch.push(row.into_iter());
        match self.batch.bytes >= self.size.bytes || self.batch.rows >= self.size.rows {
            true => self.hand_over(),
            false => Ok(()),
        }
    }

    fn hand_over(&mut self) -> Result<()> {
        let stopped = || Error::new(Kind::Cancelled, "writing stopped");
        if self.queue.failed.load(Ordering::SeqCst) {
            return Err(stopped());
        }
        let batch = std::mem::replace(&mut self.batch, self.size.batch());
        self.send.send(batch).map_err(|_| stopped())
    }

    fn end(mut self) -> Result<()> {
        if self.batch.rows > 0 { self.hand_over() } else { Ok(()) }
    }
}

impl Size {
    fn batch(&self) -> Batch {
        Batch::new(self.way, self.bytes)
    }
}

/// The end of a writer. Where it ends before the rows do, in a panic too, nobody goes on waiting for it.
struct Ending<'a> {
    queue: &'a Queue,
    is_well: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.is_well {
            self.queue.failed.store(true, Ordering::SeqCst);
            // The reader may be waiting to hand over a batch.
            while self.queue.next().is_some() {}
        }
    }
}

/// One thread, this one, reads; each of the `writers` writes on one of its own.
pub(super) fn pipe<'s>(
    size: Size,
    writers: impl Iterator<Item = &'s mut Session>,
    read: impl FnOnce(&mut Inlet<'_>) -> Result<()>,
    write: impl Fn(&mut Session, &Queue) -> Result<()> + Sync,
) -> Result<()> {
    let (send, receive) = sync_channel(1);
    let queue = &Queue { batches: Mutex::new(receive), failed: AtomicBool::new(false) };
    let write = &|session: &mut Session| {
        let mut ending = Ending { queue, is_well: false };
        let result = write(session, queue);
        ending.is_well = result.is_ok();
        result
    };
    thread::scope(|scope| {
        let writing: Vec<_> = writers.map(|session| scope.spawn(move || write(session))).collect();
        let mut inlet = Inlet { size, batch: size.batch(), send, queue };
        // Its end is what writers see the end of everything by.
        let read = read(&mut inlet).and_then(|()| inlet.end());
        let joined =
            writing.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let failed: Vec<Error> = joined.filter_map(Result::err).collect();
        // A writer's error comes first: the reader only stopped because of it.
        gravest(failed).map_or(read, Err)
    })
}

/// One of rows comes last: a caller may take it for an answer, and of a connection that broke nobody knows what it has
/// written.
fn gravest(failed: Vec<Error>) -> Option<Error> {
    failed.into_iter().min_by_key(|error| matches!(error.kind(), Kind::Data | Kind::Denied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_not_hidden_by_rows_that_do_not_go_in() {
        let told = |kinds: &[Kind]| {
            let failed = kinds.iter().map(|kind| Error::new(*kind, "failed")).collect();
            gravest(failed).map(|error| error.kind())
        };
        assert_eq!(told(&[Kind::Data, Kind::Unreachable]), Some(Kind::Unreachable));
        assert_eq!(told(&[Kind::Held, Kind::Data]), Some(Kind::Held));
        assert_eq!(told(&[Kind::Data]), Some(Kind::Data));
        assert_eq!(told(&[]), None);
    }
}
