//! How fast rows go into a store, whoever copies them: what they may, and what was seen.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A limit that all who copy into a store share: each waits for its place in time.
#[derive(Debug, Default)]
pub struct Rate {
    next: Mutex<Option<Instant>>,
}

impl Rate {
    /// Counts `amount` against a limit; gives back how long to wait before there may be more.
    pub fn take(&self, amount: u64, per_second: u64) -> Duration {
        let now = Instant::now();
        let mut next = lock(&self.next);
        let cost = Duration::from_secs_f64(amount as f64 / per_second.max(1) as f64);
        let until = next.unwrap_or(now).max(now) + cost;
        *next = Some(until);
        until - now
    }
}

/// How fast work on a store went so far.
#[derive(Debug, Default)]
pub struct Speed {
    seen: Mutex<(u64, f64)>,
}

impl Speed {
    /// Notes that so much took so long.
    pub fn note(&self, amount: u64, seconds: f64) {
        if amount > 0 && seconds > 0.0 {
            let mut seen = lock(&self.seen);
            seen.0 += amount;
            seen.1 += seconds;
        }
    }

    /// How long so much will take; nothing where nothing was seen.
    pub fn expected(&self, amount: u64) -> Duration {
        let (seen, seconds) = *lock(&self.seen);
        if seen == 0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(amount as f64 * seconds / seen as f64).unwrap_or(Duration::MAX)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data, valid whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_shared_and_not_saved_up() {
        let rate = Rate::default();
        let first = rate.take(500, 1000);
        assert!(first <= Duration::from_millis(500) && first > Duration::from_millis(400), "{first:?}");
        let second = rate.take(500, 1000);
        assert!(second > Duration::from_millis(900), "the second waits behind the first: {second:?}");
        let idle = Rate::default();
        idle.take(1, 1000);
        std::thread::sleep(Duration::from_millis(50));
        let after = idle.take(100, 1000);
        assert!(after > Duration::from_millis(95), "what was not used is not added: {after:?}");
    }

    #[test]
    fn what_is_expected_is_what_was_seen() {
        let speed = Speed::default();
        assert_eq!(speed.expected(1_000_000), Duration::ZERO);
        speed.note(1000, 1.0);
        speed.note(3000, 1.0);
        assert_eq!(speed.expected(4000), Duration::from_secs(2));
    }
}
