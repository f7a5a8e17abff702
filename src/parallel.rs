//! Work that several threads do at once. Whatever fails stops what is done beside it, so that nobody waits for work
//! whose result is of no use any more.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::cancel::{Cancel, Stop};
use crate::error::Result;

/// Bytes of a thread's stack, on which a script may go as deep as it is allowed to; only what is used of it is ever taken.
pub const STACK: usize = 256 * 1024 * 1024;

/// Does `work` with each of `items`, at most `jobs` at once, each to its end; the results come in the items' order.
pub fn all<I: Send, T: Send>(jobs: usize, items: Vec<I>, work: impl Fn(I) -> T + Sync) -> Vec<T> {
    let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let workers = vec![(); jobs.clamp(1, items.len().max(1))];
    let done = numbers(workers, items.len(), |(), at| lock(&items[at]).take().map(&work), |_| false);
    done.into_iter().filter_map(|(_, result)| result).collect()
}

/// Does `work` with each of `items`, at most `jobs` at once; the results come in the items' order.
///
/// Fails with the first failure. It keeps what has not begun from beginning, and ends what looks at its `Cancel`.
pub fn each<I: Send, T: Send>(
    jobs: usize,
    items: Vec<I>,
    cancel: &Cancel,
    work: impl Fn(I, &Cancel) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let workers = vec![(); jobs.clamp(1, items.len().max(1))];
    let done = each_with(workers, items.len(), cancel, |(), at, cancel| {
        lock(&items[at]).take().map(|item| work(item, cancel)).transpose()
    })?;
    Ok(done.into_iter().flatten().collect())
}

/// As [`each`], for the numbers up to `count`: one thread a worker, each doing the next number.
pub fn each_with<W: Send, T: Send>(
    workers: Vec<W>,
    count: usize,
    cancel: &Cancel,
    work: impl Fn(&mut W, usize, &Cancel) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let stop = Stop::default();
    let cancel = cancel.beside(&stop);
    let one = |worker: &mut W, at: usize| {
        let panics = StopsOnPanic(&stop);
        let result = cancel.check().and_then(|()| work(worker, at, &cancel));
        drop(panics);
        if result.is_err() {
            stop.set();
        }
        result
    };
    let mut done = numbers(workers, count, one, Result::is_err);
    // What was stopped is not what failed.
    let failed = |(_, result): &(usize, Result<T>)| result.as_ref().is_err_and(|error| !error.is_stopped_beside());
    match done.iter().position(failed) {
        Some(at) => done.swap_remove(at).1.map(|_| Vec::new()),
        None => done.into_iter().map(|(_, result)| result).collect(),
    }
}

/// Does two things at once; both end. Fails with the first one's error before the other's.
pub fn both<A: Send, B>(one: impl FnOnce() -> Result<A> + Send, other: impl FnOnce() -> Result<B>) -> Result<(A, B)> {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        let one = one.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok((one?, other?))
    })
}

/// Each worker does the next number until there are no more, or until what it did `ends` it; in the numbers' order.
fn numbers<W: Send, T: Send>(
    workers: Vec<W>,
    count: usize,
    work: impl Fn(&mut W, usize) -> T + Sync,
    ends: impl Fn(&T) -> bool + Sync,
) -> Vec<(usize, T)> {
    let next = AtomicUsize::new(0);
    let run = |mut worker: W| {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            if at >= count {
                return done;
            }
            let result = work(&mut worker, at);
            let ended = ends(&result);
            done.push((at, result));
            if ended {
                return done;
            }
        }
    };
    let mut all = thread::scope(|scope| {
        let mut workers = workers.into_iter();
        let mine = workers.next();
        let run = &run;
        // Where this host has no room for one more thread, fewer do the work.
        let start = |worker| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || run(worker)).ok();
        let others: Vec<_> = workers.filter_map(start).collect();
        let mut all = mine.map(run).unwrap_or_default();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        all
    });
    all.sort_by_key(|(at, _)| *at);
    all
}

/// A worker that panics lets nobody work on for nothing.
struct StopsOnPanic<'a>(&'a Stop);

impl Drop for StopsOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data, valid whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use super::*;
    use crate::error::{Error, Kind};

    #[test]
    fn results_come_in_order_and_the_limit_is_kept() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let squares = all(3, (0..20).collect(), |n: usize| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            n * n
        });
        assert_eq!(squares, (0..20).map(|n| n * n).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert!(all(3, Vec::<u8>::new(), |n| n).is_empty());
        assert_eq!(each(2, vec![1, 2, 3], &Cancel::default(), |n, _| Ok(n + 1)).unwrap(), [2, 3, 4]);
    }

    #[test]
    fn a_failure_stops_what_is_done_beside_it_and_is_what_is_told() {
        let done = AtomicUsize::new(0);
        let error = each(2, (0..100).collect(), &Cancel::default(), |n: usize, cancel| {
            if n == 1 {
                return Err(Error::new(Kind::Data, "the second one failed"));
            }
            // As long as a table of a million rows, if nobody ended it.
            cancel.wait(Duration::from_secs(600))?;
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap_err();
        assert_eq!((error.kind(), done.load(Ordering::SeqCst)), (Kind::Data, 0), "{error}");
    }

    #[test]
    fn a_panic_stops_what_is_done_beside_it_and_is_not_lost() {
        let work = |n: usize, cancel: &Cancel| {
            assert!(n != 1, "a worker panics");
            cancel.wait(Duration::from_secs(600))
        };
        let ended = catch_unwind(AssertUnwindSafe(|| each(2, vec![0, 1, 2], &Cancel::default(), work)));
        assert!(ended.is_err());
    }

    #[test]
    fn a_request_to_stop_ends_all() {
        let cancel = Cancel::default();
        cancel.request();
        let error = each(2, vec![1, 2, 3], &cancel, |_, cancel| cancel.wait(Duration::from_secs(600))).unwrap_err();
        assert_eq!((error.kind(), error.is_stopped_beside()), (Kind::Cancelled, false));
    }
}
