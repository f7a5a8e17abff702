//! Leaving room for others: how a copy goes slower, or waits, while users work. Under a freeze nothing waits.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::flow::wait;
use crate::error::{Error, Kind, Result};
use crate::gate::Watch;
use crate::run::Run;
use crate::site::{Store, Throttle};

/// How often a copy that waits looks whether it may go on.
const LOOK: f64 = 0.5;

/// A batch is what goes through in this part of a second, so that a slow copy is a steady one.
const PART: u64 = 4;

/// The limits for a copy: those of the configuration, over them the script's own; none while the user waits.
pub fn limits(run: &Run, rows_per_second: Option<u32>, bytes_per_second: Option<u64>) -> Option<Throttle> {
    if run.is_frozen() {
        return None;
    }
    let usual = run.site.config().throttle();
    Some(Throttle {
        rows_per_second: rows_per_second.map(u64::from).or(usual.rows_per_second),
        bytes_per_second: bytes_per_second.or(usual.bytes_per_second),
        ..usual
    })
}

/// Rows and bytes of a batch at most, so that limits are kept evenly.
pub(super) fn batch(limits: Option<&Throttle>, rows: u64, bytes: usize) -> (u64, usize) {
    let part = |limit: Option<u64>| limit.map(|limit| (limit / PART).max(1));
    let most = |limit: Option<u64>| part(limit).and_then(|n| usize::try_from(n).ok());
    match limits {
        Some(limits) => (
            part(limits.rows_per_second).unwrap_or(rows).min(rows),
            most(limits.bytes_per_second).unwrap_or(bytes).min(bytes),
        ),
        None => (rows, bytes),
    }
}

/// The pace of one copy.
pub(super) struct Pace<'a> {
    limits: Option<&'a Throttle>,
    source: &'a Store,
    dest: &'a Store,
    watch: &'a Watch<'a>,
    /// Whoever waits for a store to become less busy holds it, so that one speaks for all.
    waiting: Mutex<()>,
}

impl<'a> Pace<'a> {
    pub fn new(limits: Option<&'a Throttle>, source: &'a Store, dest: &'a Store, watch: &'a Watch<'a>) -> Self {
        Self { limits, source, dest, watch, waiting: Mutex::new(()) }
    }

    /// Waits for as long as what was written asks for, and while a store is busy.
    ///
    /// Fails with [`Kind::Unreachable`] when it is busy for too long, and [`Kind::Cancelled`].
    pub fn keep(&self, rows: u64, bytes: u64) -> Result<()> {
        let Some(limits) = self.limits else { return Ok(()) };
        let place = |limit: Option<u64>, rate: &crate::site::Rate, amount: u64| {
            limit.map_or(Duration::ZERO, |limit| rate.take(amount, limit))
        };
        let until = place(limits.rows_per_second, self.dest.rows_rate(), rows).max(place(
            limits.bytes_per_second,
            self.dest.bytes_rate(),
            bytes,
        ));
        if !until.is_zero() {
            wait(self.watch.cancel(), until.as_secs_f64())?;
        }
        self.room(limits)
    }

    /// Waits while a store is busy, and says so once.
    fn room(&self, limits: &Throttle) -> Result<()> {
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let mut told = false;
        while let Some(why) = [self.source, self.dest].iter().find_map(|store| busy(store, limits)) {
            if !told {
                self.watch.warn(format!("the copy waits: {why}"));
                told = true;
            }
            if began.elapsed() >= limits.patience {
                // Not one to try again: it was waited for already.
                return Err(Error::new(Kind::Unreachable, format!("{why}, for {} s", limits.patience.as_secs()))
                    .hint("move it at another hour, or raise what is set in [throttle] of zlm.toml"));
            }
            wait(self.watch.cancel(), LOOK)?;
        }
        if told {
            self.watch.warn(format!("the copy goes on after {:.1} s", began.elapsed().as_secs_f64()));
        }
        Ok(())
    }
}

/// Why a store has no room for a copy now.
fn busy(store: &Store, limits: &Throttle) -> Option<String> {
    if limits.threads_running.is_none() && limits.lag.is_none() {
        return None;
    }
    let load = match store.gauge().read() {
        Ok(load) => load,
        Err(error) => {
            // The copy itself will say so where it meets the same.
            log::debug!("{error}; how busy the store is is not known");
            return None;
        }
    };
    let name = store.name();
    if load.is_full {
        return Some(format!("MariaDB of {name} has no connection left"));
    }
    if let Some(limit) = limits.threads_running
        && load.threads_running > limit
    {
        return Some(format!("MariaDB of {name} has {} threads running, more than {limit}", load.threads_running));
    }
    match (load.lag, limits.lag) {
        (Some(lag), Some(limit)) if lag > limit => {
            Some(format!("MariaDB of {name} is {lag} s behind its master, more than {limit}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rows: Option<u64>, bytes: Option<u64>) -> Throttle {
        let patience = Duration::from_secs(1);
        Throttle { rows_per_second: rows, bytes_per_second: bytes, threads_running: None, lag: None, patience }
    }

    #[test]
    fn batches_follow_the_limits() {
        assert_eq!(batch(None, u64::MAX, 1 << 20), (u64::MAX, 1 << 20));
        assert_eq!(batch(Some(&limits(None, None)), u64::MAX, 1 << 20), (u64::MAX, 1 << 20));
        assert_eq!(batch(Some(&limits(Some(2000), Some(4000))), u64::MAX, 1 << 20), (500, 1000));
        assert_eq!(batch(Some(&limits(Some(1), Some(1 << 30))), u64::MAX, 1 << 20), (1, 1 << 20));
    }
}
