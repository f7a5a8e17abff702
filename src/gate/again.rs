//! Copying goes on after a connection broke: it is done again, after longer and longer waits, for as long as nobody waits
//! for its end. It is still one operation, so that plans and journals do not know of it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Gate, Mode};
use crate::error::{Error, Kind, Result};
use crate::report::Event;

/// The first wait; each next one is twice as long, up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// So often it is done at most, however far it came in between.
const TRIES: u32 = 50;

/// How it went so far.
struct Tries {
    patience: Duration,
    /// How many in all.
    all: u32,
    /// When the first of those failed that came to nothing one after another, and what is waited after the next.
    row: Option<(Instant, Duration)>,
}

impl Gate {
    /// Lets copies whose connections broke be done again for `patience`.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Says whether the user waits: then nothing is done again, it fails at once, and the user works on where the
    /// mailbox was.
    pub fn set_hurried(&self, hurried: bool) {
        self.hurried.store(hurried, Ordering::SeqCst);
    }

    /// Does `work`, and does it again while it fails because a connection broke. Each time it must be right to do it once
    /// more. A request to stop ends the wait.
    pub fn again<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        let mut tries = Tries { patience: self.patience, all: 0, row: None };
        loop {
            let began = Instant::now();
            let error = match work() {
                Err(error) if is_broken(&error) && self.is_patient() => error,
                result => return result,
            };
            // Whoever asked to stop may have ended the connections as well.
            self.cancel.check()?;
            match tries.failed(began) {
                Some(wait) => {
                    self.emit(&Event::Warned { text: format!("{error}; trying again in {} s", wait.as_secs()) });
                    self.cancel.wait(wait)?;
                }
                None => {
                    self.emit(&Event::Warned { text: tries.given_up() });
                    return Err(error);
                }
            }
        }
    }

    fn is_patient(&self) -> bool {
        self.mode == Mode::Live && !self.patience.is_zero() && !self.hurried.load(Ordering::SeqCst)
    }
}

/// Only what a new connection may mend: neither what a peer refuses nor what it has no room for.
fn is_broken(error: &Error) -> bool {
    error.kind() == Kind::Unreachable && error.is_retryable()
}

impl Tries {
    /// Takes in that a try failed that began then; gives how long to wait before the next, if there is one.
    fn failed(&mut self, began: Instant) -> Option<Duration> {
        self.all += 1;
        if began.elapsed() > self.patience {
            // It was at work for longer than an outage may last: this is another one.
            self.row = None;
        }
        let (since, wait) = *self.row.get_or_insert((Instant::now(), FIRST));
        self.row = Some((since, (wait * 2).min(LONGEST)));
        (self.all < TRIES && since.elapsed() + wait <= self.patience).then_some(wait)
    }

    fn given_up(&self) -> String {
        let seconds = self.row.map_or(0, |(since, _)| since.elapsed().as_secs());
        format!("given up after {} tries, the last of them in {seconds} s", self.all)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cancel::Cancel;
    use crate::report::Silent;

    #[test]
    fn waits_grow_until_patience_ends() {
        let mut tries = Tries { patience: Duration::from_secs(600), all: 0, row: None };
        let waits: Vec<u64> = (0..8).map_while(|_| tries.failed(Instant::now())).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        let mut tries = Tries { patience: Duration::from_secs(3), all: 0, row: None };
        let waits: Vec<u64> = (0..8).map_while(|_| tries.failed(Instant::now())).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2], "a wait that would end too late is not begun");
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(4)) else { return };
        assert_eq!(tries.failed(long_ago), Some(FIRST), "whatever worked for long is waited for anew");
        tries.all = TRIES - 1;
        assert_eq!(tries.failed(long_ago), None);
    }

    fn gate() -> Gate {
        Gate::new(Mode::Live, Cancel::default(), Arc::new(Silent)).patient(Duration::from_secs(5))
    }

    fn broken() -> Error {
        Error::new(Kind::Unreachable, "the connection broke").retryable()
    }

    /// How often it was done that failed with `error`.
    fn tried(gate: &Gate, error: impl Fn() -> Error) -> (u32, Error) {
        let mut tried = 0;
        let result = gate.again(|| -> Result<()> {
            tried += 1;
            Err(error())
        });
        (tried, result.unwrap_err())
    }

    #[test]
    fn what_broke_is_done_again() {
        let mut tried = 0;
        let done = gate().again(|| {
            tried += 1;
            if tried == 1 { Err(broken()) } else { Ok(tried) }
        });
        assert_eq!(done.unwrap(), 2);
    }

    #[test]
    fn what_was_refused_or_is_waited_for_is_not() {
        for kind in [Kind::Denied, Kind::Data, Kind::Io, Kind::Held] {
            assert_eq!(tried(&gate(), || Error::new(kind, "no").retryable()).0, 1, "{kind:?}");
        }
        assert_eq!(tried(&gate(), || Error::new(Kind::Unreachable, "busy for too long")).0, 1);
        let hurried = gate();
        hurried.set_hurried(true);
        assert_eq!(tried(&hurried, broken).0, 1);
        let impatient = gate().patient(Duration::ZERO);
        assert_eq!(tried(&impatient, broken).0, 1);
    }

    #[test]
    fn a_stop_goes_before_the_next_try() {
        let gate = gate();
        let cancel = gate.cancel().clone();
        let (tried, error) = tried(&gate, || {
            cancel.request();
            broken()
        });
        assert_eq!((tried, error.kind()), (1, Kind::Cancelled));
    }
}
