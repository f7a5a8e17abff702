//! What fails because a peer is away is done again, after longer and longer waits: copies for as long as nobody waits for
//! their end, and everything that comes behind the switch, where there is no way back and only the end lets the user in. It
//! is still one operation, so that plans and journals do not know of it.

use std::time::{Duration, Instant};

use super::{Gate, Mode, Operation, lock};
use crate::error::{Error, Kind, Result};
use crate::report::Event;

/// The first wait; each next one is twice as long, up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// The same where the user waits: a peer that is back is not kept waiting.
const LONGEST_BEHIND_SWITCH: Duration = Duration::from_secs(8);

/// So often a copy is done at most, however far it came in between.
const TRIES: u32 = 50;

/// How it went so far.
struct Tries {
    patience: Duration,
    /// The longest wait.
    longest: Duration,
    /// How many may be made, and whether one that was at work for longer than an outage may last begins a new row.
    most: Option<u32>,
    /// How many in all.
    all: u32,
    /// When the first of those failed that came to nothing one after another, and what is waited after the next.
    row: Option<(Instant, Duration)>,
}

impl Gate {
    /// Lets what fails because a peer is away be done again for `patience`.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Says whether the user waits: then no copy is done again, it fails at once, and the user works on where the
    /// mailbox was. Behind the switch it makes no difference.
    pub fn set_hurried(&self, hurried: bool) {
        self.cancel.set_urgent(hurried);
    }

    /// Does `work`, and does it again while it fails because a connection broke. Each time it must be right to do it once
    /// more. A request to stop ends the wait.
    pub fn again<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        let is_patient = |error: &Error| is_broken(error) && !self.cancel.is_urgent();
        self.repeat(Tries::of_copy(self.patience), is_patient, work)
    }

    /// Does `work`; past the run's switch it does it again while time may mend what it fails with. Each time it must do no
    /// harm to do it once more. Before the switch, and where nobody knows whether it happened, it is done once.
    pub fn insist<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        let is_patient = |error: &Error| self.is_past_switch() && may_mend(error);
        self.repeat(Tries::behind_switch(self.patience), is_patient, work)
    }

    /// Insists on an operation: what was begun and failed may have happened all the same.
    pub(super) fn insist_on<O: Operation>(
        &self,
        operation: &O,
        apply: impl Fn() -> Result<O::Output>,
    ) -> Result<O::Output> {
        let mut is_begun = false;
        self.insist(|| match std::mem::replace(&mut is_begun, true) {
            false => apply(),
            true => operation.observe()?.map_or_else(&apply, Ok),
        })
    }

    fn repeat<T>(
        &self,
        mut tries: Tries,
        is_patient: impl Fn(&Error) -> bool,
        mut work: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        loop {
            let began = Instant::now();
            let error = match work() {
                Err(error) if self.mode == Mode::Live && !self.patience.is_zero() && is_patient(&error) => error,
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

    /// Whether the run is past its switch for certain.
    pub fn is_past_switch(&self) -> bool {
        lock(&self.deferral).is_some()
    }
}

/// Only what a new connection may mend: neither what a peer refuses nor what it has no room for.
fn is_broken(error: &Error) -> bool {
    error.kind() == Kind::Unreachable && error.is_retryable()
}

/// What time may mend: a peer that is away, or is starting; a fault that it takes on itself; one that still knows what was.
/// An answer that got lost is asked for again. A refusal stays one, and so does a claim that is lost.
pub fn may_mend(error: &Error) -> bool {
    match error.kind() {
        Kind::Unreachable => true,
        Kind::Cancelled | Kind::Late | Kind::Usage | Kind::Config | Kind::Refused => false,
        _ => error.is_retryable() && !error.is_lost(),
    }
}

impl Tries {
    fn of_copy(patience: Duration) -> Self {
        Self { patience, longest: LONGEST, most: Some(TRIES), all: 0, row: None }
    }

    fn behind_switch(patience: Duration) -> Self {
        Self { patience, longest: LONGEST_BEHIND_SWITCH, most: None, all: 0, row: None }
    }

    /// Takes in that a try failed that began then; gives how long to wait before the next, if there is one.
    fn failed(&mut self, began: Instant) -> Option<Duration> {
        self.all += 1;
        if self.most.is_some() && began.elapsed() > self.patience {
            // It was at work for longer than an outage may last: this is another one.
            self.row = None;
        }
        let (since, wait) = *self.row.get_or_insert((Instant::now(), FIRST));
        self.row = Some((since, (wait * 2).min(self.longest)));
        (self.most.is_none_or(|most| self.all < most) && since.elapsed() + wait <= self.patience).then_some(wait)
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
        let mut tries = Tries::of_copy(Duration::from_secs(600));
        let waits: Vec<u64> = (0..8).map_while(|_| tries.failed(Instant::now())).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        let mut tries = Tries::of_copy(Duration::from_secs(3));
        let waits: Vec<u64> = (0..8).map_while(|_| tries.failed(Instant::now())).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2], "a wait that would end too late is not begun");
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(4)) else { return };
        assert_eq!(tries.failed(long_ago), Some(FIRST), "whatever worked for long is waited for anew");
        tries.all = TRIES - 1;
        assert_eq!(tries.failed(long_ago), None);
    }

    #[test]
    fn behind_the_switch_waits_stay_short_and_end_together() {
        let mut tries = Tries::behind_switch(Duration::from_secs(600));
        let waits: Vec<u64> = (0..80).map_while(|_| tries.failed(Instant::now())).map(|wait| wait.as_secs()).collect();
        assert_eq!((&waits[..6], waits.len()), (&[1, 2, 4, 8, 8, 8][..], 80));
        let mut tries = Tries::behind_switch(Duration::from_secs(6));
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(60)) else { return };
        tries.row = Some((long_ago, FIRST));
        assert_eq!(tries.failed(long_ago), None, "requests that hang begin no new row");
    }

    fn gate() -> Gate {
        Gate::new("r1", Mode::Live, &Cancel::default(), Arc::new(Silent)).patient(Duration::from_secs(5))
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

    /// How often it was done that failed with `error`, where a run insists for a moment.
    fn insisted(gate: &Gate, error: impl Fn() -> Error) -> u32 {
        let mut tried = 0;
        let result = gate.insist(|| -> Result<()> {
            tried += 1;
            Err(error())
        });
        result.unwrap_err();
        tried
    }

    #[test]
    fn behind_the_switch_time_mends_what_it_can() {
        let gate = gate().patient(Duration::from_secs(2));
        gate.set_hurried(true);
        assert_eq!(insisted(&gate, broken), 1, "before the switch there is a way back");
        gate.settle(crate::journal::Switched::Maybe).unwrap();
        assert_eq!(insisted(&gate, broken), 1, "nobody knows whether it has switched");
        gate.pass_switch();
        for error in [
            || Error::new(Kind::Unreachable, "no answer in time").code(super::super::AMBIGUOUS),
            || Error::new(Kind::Peer, "a Receiver fault").retryable(),
            || Error::new(Kind::Unequal, "still knows an older status").retryable(),
        ] {
            assert_eq!(insisted(&gate, error), 2, "{}", error());
        }
        for error in [
            || Error::new(Kind::Unequal, "opened another mailbox"),
            || Error::new(Kind::Peer, "a Sender fault"),
            || Error::new(Kind::Denied, "no right to"),
            || Error::new(Kind::Usage, "no such store").retryable(),
            || Error::new(Kind::Cancelled, "stopped on request"),
            || Error::lost("another run holds it").retryable(),
        ] {
            assert_eq!(insisted(&gate, error), 1, "{}", error());
        }
        assert_eq!(insisted(&gate.patient(Duration::ZERO), broken), 1);
    }

    #[test]
    fn behind_the_switch_only_a_second_stop_ends_it() {
        let gate = gate();
        gate.pass_switch();
        let cancel = gate.cancel().clone();
        let mut tried = 0;
        let error = gate.insist(|| -> Result<()> {
            tried += 1;
            cancel.request();
            Err(broken())
        });
        assert_eq!((tried, error.unwrap_err().kind()), (2, Kind::Cancelled));
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
