//! What an operation is.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Gate, Undo};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::report::Event;

/// Whether an operation changes the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It only reads, so a dry run carries it out.
    Look,
    /// It changes something, so a dry run writes it down.
    Change,
}

/// How long what came of an operation holds, when its run is taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It holds.
    Always,
    /// It is done again, for what it knows only its process remembers; but not once the mailbox may have its new home:
    /// then there is nothing to compare any more, and what is new there must be left alone.
    UntilSwitch,
    /// It is done again: it lives as long as its process, such as a claim.
    Never,
}

/// One look at the world or one effect on it.
pub trait Operation: Send + Sync {
    /// What it gives back; plain data, so that it can be kept and given back again.
    type Output: Serialize + DeserializeOwned + Send;

    /// Its name, as scripts call it.
    fn name(&self) -> &'static str;

    /// What it does to what, on one line, without secrets.
    fn describe(&self) -> String;

    /// Statements, files and attributes for a plan, one a line.
    fn details(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// What came of it, on one line.
    fn outcome(&self, _output: &Self::Output) -> String {
        "done".to_owned()
    }

    /// Whether it changes anything.
    fn effect(&self) -> Effect {
        Effect::Change
    }

    /// Whether it touches what the run holds, so that it must not be once that is lost.
    fn is_guarded(&self) -> bool {
        self.effect() == Effect::Change
    }

    /// What a dry run gives back in its place. It may look, never change.
    fn pretend(&self) -> Result<Self::Output>;

    /// What would undo it, as data. It is asked for before the action and must be right whether the action
    /// then happens wholly, partly or not at all.
    fn undo(&self) -> Result<Option<Undo>> {
        Ok(None)
    }

    /// Whether a run that is taken up again gets the result it had.
    fn kept(&self) -> Kept {
        Kept::Always
    }

    /// Looks whether it happened, when it was begun and its end is not known. Asked only then; without an answer
    /// it is carried out again, so whoever gives none must do no harm the second time.
    fn observe(&self) -> Result<Option<Self::Output>> {
        Ok(None)
    }

    /// Whether it is done again while the user works when a connection broke in it: once more must always be right, however
    /// far it came. What has to be connected for it, it connects anew. Behind the switch that is asked of every operation:
    /// one that can tell whether it happened does so in `observe`.
    fn is_repeatable(&self) -> bool {
        false
    }

    /// Whether the run can only go forward once this is done.
    fn is_pivot(&self) -> bool {
        false
    }

    /// Carries it out. Long ones report progress and check for cancellation through `watch`.
    fn apply(&self, watch: &Watch<'_>) -> Result<Self::Output>;
}

/// An operation's line to its run while it is carried out.
pub struct Watch<'a> {
    gate: &'a Gate,
    id: u64,
}

impl<'a> Watch<'a> {
    pub(super) fn new(gate: &'a Gate, id: u64) -> Self {
        Self { gate, id }
    }

    /// The run's stop flag.
    pub fn cancel(&self) -> &Cancel {
        self.gate.cancel()
    }

    /// The run's gate, for the requests that it keeps.
    pub fn gate(&self) -> &Gate {
        self.gate
    }

    /// Fails when the run may have no effect any more; for an effect that comes a while after the operation began.
    pub fn check_guard(&self) -> Result<()> {
        self.gate.check_guard()
    }

    /// Whether the run is past its switch for certain, so that there is only the way on.
    pub fn is_past_switch(&self) -> bool {
        self.gate.is_past_switch()
    }

    /// Reports how far the operation is; `unit` is `rows`, `blobs` or `bytes`.
    pub fn progress(&self, unit: &'static str, done: u64, total: Option<u64>) {
        self.gate.emit(&Event::Progress { id: self.id, unit, done, total });
    }

    /// Tells the operator something that is not a failure.
    pub fn warn(&self, text: impl Into<String>) {
        self.gate.emit(&Event::Warned { text: text.into() });
    }
}
