//! The one door that every effect, and every look at the outside world, goes through.
//!
//! Dry run, undo, progress, timing, logging and cancellation are written here once, so an operation knows
//! only what it does, what it would do, and what would undo it.

mod again;
mod failpoint;
mod operation;
mod part;
mod requests;
mod undo;

pub use again::may_mend;
pub use operation::{Effect, Kept, Operation, Watch};
pub use part::Part;
pub use undo::{Rollback, Undo};

pub use crate::journal::{Sent, Switched};

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use failpoint::Passing;

use crate::cancel::{Cancel, Deferral};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Arrival, RunJournal};
use crate::report::{Event, Origin, PlanEntry, SharedReporter};

/// Code of an error after which it is not known whether the peer acted.
pub const AMBIGUOUS: &str = "ambiguous";

/// After this a request to stop has reached a process that was sent the same signal as its children.
const MOMENT: Duration = Duration::from_millis(200);

/// Whether effects are carried out or only written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Effects happen.
    Live,
    /// Looks happen, effects become plan entries.
    Dry,
}

/// The gate of one run.
pub struct Gate {
    run: String,
    mode: Mode,
    cancel: Cancel,
    reporter: SharedReporter,
    subject: Mutex<Option<String>>,
    next: AtomicU64,
    plan: Mutex<Vec<PlanEntry>>,
    undo: Mutex<Vec<Undo>>,
    steps: Mutex<Vec<String>>,
    switched: Mutex<Switched>,
    /// Requests that change something, all that the run sent.
    sent: Mutex<Vec<Sent>>,
    /// The parts of the run that can be undone by themselves.
    parts: Mutex<Vec<part::Open>>,
    /// Keeps a request to stop waiting once the run is past its switch for certain.
    deferral: Mutex<Option<Deferral>>,
    /// How many sections are under way in which operations come in no order.
    unordered: AtomicU64,
    journal: Option<RunJournal>,
    /// Whether operations are kept in the journal, and taken from it.
    memoises: bool,
    guard: Option<Box<Guard>>,
    /// How long what fails because a peer is away is done again.
    patience: Duration,
}

/// Looks, right before each effect, that the run may still have one.
pub type Guard = dyn Fn() -> Result<()> + Send + Sync;

impl Gate {
    /// The gate of the run of that name.
    pub fn new(run: &str, mode: Mode, cancel: &Cancel, reporter: SharedReporter) -> Self {
        Self {
            run: run.to_owned(),
            mode,
            cancel: cancel.of_run(),
            reporter,
            subject: Mutex::default(),
            next: AtomicU64::new(0),
            plan: Mutex::default(),
            undo: Mutex::default(),
            steps: Mutex::default(),
            switched: Mutex::new(Switched::No),
            sent: Mutex::default(),
            parts: Mutex::default(),
            deferral: Mutex::default(),
            unordered: AtomicU64::new(0),
            journal: None,
            memoises: true,
            guard: None,
            patience: Duration::ZERO,
        }
    }

    /// Asks `guard` before each effect.
    pub fn guarded(mut self, guard: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// Fails when the run may have no effect any more.
    pub fn check_guard(&self) -> Result<()> {
        self.guard.as_ref().map_or(Ok(()), |guard| guard())
    }

    /// Keeps what happens in `journal`; what it has of the run already is not done again.
    pub fn with_journal(mut self, journal: RunJournal) -> Result<Self> {
        self.undo = Mutex::new(journal.undo_stack()?);
        self.sent = Mutex::new(journal.sent()?);
        // Whatever fails before the switch comes by again: a run that may have switched undoes nothing.
        let switched = journal.switched()?;
        self.switched = Mutex::new(switched);
        self.journal = Some(journal);
        if switched == Switched::Yes {
            self.pass_switch();
        }
        Ok(self)
    }

    /// Carries everything out once more, whatever the journal has of it: for an end that is none of the script's.
    pub fn once_more(mut self) -> Self {
        self.memoises = false;
        self
    }

    /// The run's journal, if it has one.
    pub fn journal(&self) -> Option<&RunJournal> {
        self.journal.as_ref()
    }

    /// How many operations this process has carried out; what the journal gave back is not among them.
    pub fn carried_out(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// Runs `body`, in which operations may come in any order.
    pub fn unordered<T>(&self, body: impl FnOnce() -> T) -> T {
        self.unordered.fetch_add(1, Ordering::SeqCst);
        let result = body();
        self.unordered.fetch_sub(1, Ordering::SeqCst);
        if let Some(journal) = &self.journal {
            journal.section_ended();
        }
        result
    }

    /// The run's name.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Whether this run only plans.
    pub fn is_dry(&self) -> bool {
        self.mode == Mode::Dry
    }

    /// The run's stop flag.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Where the run's events go.
    pub fn reporter(&self) -> &SharedReporter {
        &self.reporter
    }

    /// Lets an operation through: carries it out, or in a dry run writes it down, or gives back what came of it
    /// before the run was taken up again.
    ///
    /// Fails with [`Kind::Cancelled`] before anything happens when the run was asked to stop, and with the
    /// operation's own error otherwise.
    pub fn pass<O: Operation>(&self, operation: &O) -> Result<O::Output> {
        self.cancel.check()?;
        if operation.is_pivot() && self.mode == Mode::Live {
            self.close_parts()?;
        }
        match (self.mode, operation.effect(), self.journal.as_ref().filter(|_| self.memoises)) {
            (Mode::Dry, Effect::Change, _) => self.plan(operation),
            (Mode::Dry, Effect::Look, _) => self.carry_out(operation),
            (Mode::Live, _, None) => {
                self.keep_undo(operation)?;
                self.carry_out(operation)
            }
            (Mode::Live, _, Some(journal)) => self.journaled(journal, operation),
        }
    }

    fn journaled<O: Operation>(&self, journal: &RunJournal, operation: &O) -> Result<O::Output> {
        let (name, what) = (operation.name(), operation.describe());
        let strict = self.unordered.load(Ordering::SeqCst) == 0;
        // What had to be known to be begun must be known to be done, too, before anything builds on it.
        let (number, durable) = match journal.arrive(name, &what, strict)? {
            Arrival::Done(value) if self.keeps(operation) => {
                self.note_switched(operation, Switched::Yes)?;
                return serde_json::from_value(value)
                    .context(Kind::Data, || format!("{name} {what}: what the journal has of it"));
            }
            Arrival::Failed(error) => return Err(Error::from_json(&error)),
            Arrival::Done(_) => return self.carry_out(operation),
            Arrival::Begun(number) => {
                if let Some(output) = operation.observe()? {
                    self.note_switched(operation, Switched::Yes)?;
                    return self.kept(journal, number, operation, output, true);
                }
                (number, true)
            }
            Arrival::New(number) => {
                let undo = self.keep_undo(operation)?;
                let durable = undo.is_some() || operation.is_pivot();
                journal.begun(number, name, &what, undo.as_ref(), durable)?;
                (number, durable)
            }
        };
        match self.carry_out(operation) {
            Ok(output) => self.kept(journal, number, operation, output, durable),
            Err(error) => {
                journal.failed(number, &error.to_json());
                Err(error)
            }
        }
    }

    fn kept<O: Operation>(
        &self,
        journal: &RunJournal,
        number: i64,
        operation: &O,
        output: O::Output,
        durable: bool,
    ) -> Result<O::Output> {
        let what = || format!("{}: keeping what came of it", operation.name());
        let value = serde_json::to_value(&output).context(Kind::Io, what)?;
        journal.done(number, &value, durable)?;
        Ok(output)
    }

    /// Written down before the action, so that an action whose end is unknown is undone too.
    fn keep_undo<O: Operation>(&self, operation: &O) -> Result<Option<Undo>> {
        // After the switch there is no way back, so nothing is kept for it.
        if self.has_switched() || operation.effect() == Effect::Look {
            return Ok(None);
        }
        let undo = operation.undo()?;
        lock(&self.undo).extend(undo.clone());
        Ok(undo)
    }

    fn keeps<O: Operation>(&self, operation: &O) -> bool {
        match operation.kept() {
            Kept::Always => true,
            // What a switch that may still fail builds on must be so now.
            Kept::UntilSwitch => self.is_past_switch(),
            Kept::Never => false,
        }
    }

    /// From the switch on a run only goes forward: what was done is part of the new home. Where nobody knows whether
    /// it happened, nothing is undone before that is proved; and from a switch that happened nothing leads back.
    fn note_switched<O: Operation>(&self, operation: &O, switched: Switched) -> Result<()> {
        match operation.is_pivot() {
            true => self.settle(switched),
            false => Ok(()),
        }
    }

    /// Keeps what is known of the switch. That it did not happen may be said of one that was begun only by whoever began it,
    /// when it asked for nothing that may still come, and by whoever proved it.
    pub fn settle(&self, switched: Switched) -> Result<()> {
        if self.is_past_switch() {
            return Ok(());
        }
        let keep = || self.journal.as_ref().map_or(Ok(()), |journal| journal.note_switched(switched));
        if switched == Switched::Yes {
            *lock(&self.switched) = switched;
            self.pass_switch();
            lock(&self.undo).clear();
            return keep();
        }
        // Nothing is begun that the journal has no room for.
        keep()?;
        *lock(&self.switched) = switched;
        Ok(())
    }

    /// From now on a first request to stop waits for the run's end, and the run insists on it.
    fn pass_switch(&self) {
        lock(&self.deferral).get_or_insert_with(|| self.cancel.defer());
    }

    fn plan<O: Operation>(&self, operation: &O) -> Result<O::Output> {
        let output = operation.pretend()?;
        let (operation, what, details) = (operation.name(), operation.describe(), operation.details()?);
        let step = lock(&self.steps).last().cloned();
        let entry = self.write_down(PlanEntry { number: 0, operation, what, details, step });
        self.emit(&Event::Planned(entry));
        Ok(output)
    }

    /// Gives an entry its place in the plan.
    fn write_down(&self, entry: PlanEntry) -> PlanEntry {
        let mut plan = lock(&self.plan);
        let entry = PlanEntry { number: plan.len() as u64 + 1, ..entry };
        plan.push(entry.clone());
        entry
    }

    /// Takes over what a run that this one started has written down; its steps carry `subject` too.
    pub fn absorb(&self, plan: &[PlanEntry], subject: Option<&str>) {
        for entry in plan {
            let step: Vec<&str> = [subject, entry.step.as_deref()].into_iter().flatten().collect();
            let step = (!step.is_empty()).then(|| step.join(": "));
            self.write_down(PlanEntry { step, ..entry.clone() });
        }
    }

    fn carry_out<O: Operation>(&self, operation: &O) -> Result<O::Output> {
        let id = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        let name = operation.name();
        log::debug!("{name}: {}", operation.describe());
        self.emit(&Event::Started { id, operation: name, what: operation.describe() });
        let started = Instant::now();
        let before = self.switched();
        self.note_switched(operation, Switched::Maybe)?;
        let allowed = || if operation.is_guarded() { self.check_guard() } else { Ok(()) };
        // As late as can be: a process may have stood still for hours.
        let apply = || allowed().and_then(|()| operation.apply(&Watch::new(self, id)));
        let result = failpoint::reached(Passing::Operation(id, name), false)
            .and_then(|()| match (self.is_past_switch(), operation.is_repeatable()) {
                (false, true) => self.again(apply),
                (false, false) => apply(),
                (true, _) => self.insist_on(operation, apply),
            })
            .map_err(|error| self.explained(error))
            .and_then(|output| failpoint::reached(Passing::Operation(id, name), true).map(|()| output));
        let seconds = started.elapsed().as_secs_f64();
        match &result {
            Ok(output) => {
                self.emit(&Event::Done { id, operation: name, result: operation.outcome(output), seconds });
            }
            Err(error) => self.emit(&Event::Failed { id, operation: name, error: error.to_string() }),
        }
        // An answer lost after the request was sent may hide a switch that happened; treating it as one that
        // did not would roll back under a mailbox that is already in use. What was unknown before stays so.
        let switched = match &result {
            Ok(_) => Switched::Yes,
            Err(error) if error.peer_code() == Some(AMBIGUOUS) => Switched::Maybe,
            Err(_) => before,
        };
        self.note_switched(operation, switched)?;
        let is_unsettled = operation.is_pivot() && self.switched() == Switched::Maybe;
        result.map_err(|error| if is_unsettled { error.unsettled() } else { error })
    }

    /// The error, or that somebody asked to stop where that may be why: a signal to all processes may end the children
    /// first that connections go through, and reach this one a moment later.
    fn explained(&self, error: Error) -> Error {
        let broke = error.kind() == Kind::Unreachable || error.is_retryable();
        if !broke || error.is_lost() || error.peer_code() == Some(AMBIGUOUS) {
            return error;
        }
        self.cancel.wait(MOMENT).err().filter(|stop| stop.kind() == Kind::Cancelled).unwrap_or(error)
    }

    /// Reports an event of this run.
    pub fn emit(&self, event: &Event) {
        // A reporter may take its time, or ask for the run's name itself.
        let account = lock(&self.subject).clone();
        self.reporter.event(Origin { run: &self.run, account: account.as_deref() }, event);
    }

    /// Names the account that the run is about, for its events from now on.
    pub fn set_subject(&self, subject: &str) {
        *lock(&self.subject) = Some(subject.to_owned());
    }

    /// Runs `body` as the step `name`; its operations carry the name in plans.
    pub fn step<T, E>(&self, name: &str, body: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        lock(&self.steps).push(name.to_owned());
        self.emit(&Event::StepStarted { name: name.to_owned() });
        let started = Instant::now();
        let result = body();
        lock(&self.steps).pop();
        if result.is_ok() {
            self.emit(&Event::StepDone { name: name.to_owned(), seconds: started.elapsed().as_secs_f64() });
        }
        result
    }

    /// Whether there is something to undo that `which` is true of.
    pub fn has_to_undo(&self, which: impl Fn(&Undo) -> bool) -> bool {
        lock(&self.undo).iter().any(which)
    }

    /// What there is to undo, oldest first.
    pub fn to_undo(&self) -> Vec<Undo> {
        lock(&self.undo).clone()
    }

    /// What a dry run has written down so far.
    pub fn planned(&self) -> Vec<PlanEntry> {
        lock(&self.plan).clone()
    }

    /// Whether the run has passed its switch, or may have.
    pub fn has_switched(&self) -> bool {
        self.switched() != Switched::No
    }

    /// Whether the run has passed its switch.
    pub fn switched(&self) -> Switched {
        *lock(&self.switched)
    }

    /// Undoes what was done, newest first, going on past what cannot be undone.
    ///
    /// An undo that has been carried out is forgotten, so that calling this again tries only the rest.
    pub fn roll_back(&self, perform: impl Fn(&Undo) -> Result<()>) -> Rollback {
        self.roll_back_from(0, |_| true, perform)
    }

    /// The same for some of what was done; the rest can still be undone later.
    pub fn roll_back_only(&self, which: impl Fn(&Undo) -> bool, perform: impl Fn(&Undo) -> Result<()>) -> Rollback {
        self.roll_back_from(0, which, perform)
    }

    /// The same for what was done after there were `mark` effects to undo.
    fn roll_back_from(
        &self,
        mark: usize,
        which: impl Fn(&Undo) -> bool,
        perform: impl Fn(&Undo) -> Result<()>,
    ) -> Rollback {
        let stack = {
            let mut all = lock(&self.undo);
            let mark = mark.min(all.len());
            all.split_off(mark)
        };
        let mut rollback = Rollback::default();
        let mut left = Vec::new();
        for (undo, number) in stack.into_iter().rev().zip(1..) {
            if !which(&undo) {
                left.push(undo);
                continue;
            }
            let result = self
                .cancel
                .patient()
                .check()
                .and_then(|()| failpoint::reached(Passing::Undo(number), false))
                .and_then(|()| perform(&undo))
                .and_then(|()| failpoint::reached(Passing::Undo(number), true));
            let error = result.as_ref().err().map(ToString::to_string);
            self.emit(&Event::Undone { what: undo.what.clone(), error: error.clone() });
            match result {
                Ok(()) => {
                    if let Some(journal) = &self.journal
                        && let Err(error) = journal.undone(&undo.what)
                    {
                        log::warn!("{error}; it would only be undone once more");
                    }
                    rollback.undone.push(undo.what);
                }
                Err(e) => {
                    rollback.failed.push((undo.what.clone(), e));
                    left.push(undo);
                }
            }
        }
        left.reverse();
        lock(&self.undo).append(&mut left);
        rollback
    }
}

/// A lock that outlives a panic in another thread: the guarded values are plain data, valid at any time.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
