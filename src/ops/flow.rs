//! Waiting, asking, and doing several things at once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Watch};
use crate::run::Asker;

/// Waits; fails with [`Kind::Cancelled`] as soon as a stop is asked for.
pub fn wait(cancel: &Cancel, seconds: f64) -> Result<()> {
    cancel.wait(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// Waits because the script says so.
pub struct Sleep {
    /// How long, in seconds.
    pub seconds: f64,
}

impl Operation for Sleep {
    type Output = ();

    fn name(&self) -> &'static str {
        "sleep"
    }

    fn describe(&self) -> String {
        format!("wait {} s", self.seconds)
    }

    fn is_guarded(&self) -> bool {
        false
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<()> {
        wait(watch.cancel(), self.seconds)
    }
}

/// Asks the operator.
pub struct Confirm {
    /// The question.
    pub question: String,
    /// Who asks it, if anybody can.
    pub ask: Option<Asker>,
}

impl Operation for Confirm {
    type Output = bool;

    fn name(&self) -> &'static str {
        "confirm"
    }

    fn describe(&self) -> String {
        format!("ask: {}", self.question)
    }

    fn is_guarded(&self) -> bool {
        false
    }

    fn outcome(&self, answer: &bool) -> String {
        if *answer { "yes" } else { "no" }.to_owned()
    }

    fn pretend(&self) -> Result<bool> {
        Ok(true)
    }

    fn apply(&self, _: &Watch<'_>) -> Result<bool> {
        self.ask.as_ref().and_then(|ask| ask(&self.question)).ok_or_else(|| {
            Error::new(Kind::Usage, format!("{}: nobody can be asked here", self.question))
                .hint("run it on a terminal, or with --yes")
        })
    }
}

/// Does `work` with each of `items`, at most `jobs` at once; the results come in the items' order.
pub fn spread<I: Send, T: Send>(jobs: usize, items: Vec<I>, work: impl Fn(I) -> T + Sync) -> Vec<T> {
    let count = items.len();
    let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let results: Vec<_> = (0..count).map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, count.max(1)) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some(slot) = items.get(at) else { return };
                    if let Some(item) = take(slot) {
                        let result = work(item);
                        *results[at].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(result);
                    }
                }
            });
        }
    });
    // A worker that panicked has already been re-raised by the scope, so every slot is full.
    results.iter().filter_map(take).collect()
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_keeps_the_order_and_the_limit() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let squares = spread(3, (0..20).collect(), |n: usize| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            n * n
        });
        assert_eq!(squares, (0..20).map(|n| n * n).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 3);
    }

    #[test]
    fn a_wait_ends_when_it_is_asked_to() {
        let cancel = Cancel::default();
        cancel.request();
        assert_eq!(wait(&cancel, 60.0).unwrap_err().kind(), Kind::Cancelled);
    }
}
