//! A part of a run that can be undone by itself, while the run goes on.

use serde_json::{Value, json};

use super::{Gate, Mode, Undo, lock};
use crate::error::{Error, Result};
use crate::journal::{Arrival, PART};

/// A part that is under way, as the journal knows it.
#[derive(Clone, Copy)]
pub(super) struct Open {
    number: i64,
    /// The last operation of an earlier life of the run that was in it and was undone, or its own number.
    passed: i64,
}

/// A part that was begun.
pub struct Part {
    /// Where there is a journal.
    open: Option<Open>,
    /// How much there was to undo when it began.
    mark: usize,
}

impl Gate {
    /// Begins a part. None where nothing of it could be undone by itself: in a dry run, and when a run that is taken up
    /// again had gone past the end of it, or past its switch.
    ///
    /// A part that a run died in is undone first: how long its effects lasted meanwhile nobody knows. A part that was
    /// undone fails as it did, without being begun.
    pub fn begin_part(&self, what: &str, perform: impl Fn(&Undo) -> Result<()>) -> Result<Option<Part>> {
        self.cancel.check()?;
        let mark = lock(&self.undo).len();
        let journal = match (self.mode, &self.journal) {
            (Mode::Dry, _) => return Ok(None),
            (Mode::Live, None) => return Ok(Some(Part { open: None, mark })),
            (Mode::Live, Some(journal)) => journal,
        };
        let strict = self.unordered.load(std::sync::atomic::Ordering::SeqCst) == 0;
        let part = match journal.arrive(PART, what, strict)? {
            Arrival::Done(value) => {
                let number = |name: &str| value.get(name).and_then(Value::as_i64).unwrap_or_default();
                journal.pass_over(number("number"), number("passed"));
                return match value.get("error").and_then(Value::as_str) {
                    Some(error) => Err(Error::from_json(error)),
                    None => Ok(None),
                };
            }
            Arrival::Failed(error) => return Err(Error::from_json(&error)),
            Arrival::Begun(number) => {
                let left = journal.effects_after(number)?;
                let open = Open { number, passed: journal.last() };
                let part = Part { open: Some(open), mark: mark.saturating_sub(left) };
                journal.pass_over(number, i64::MAX);
                self.undo_from(&part, perform)?;
                part
            }
            Arrival::New(number) => {
                journal.begun(number, PART, what, None, true)?;
                Part { open: Some(Open { number, passed: number }), mark }
            }
        };
        lock(&self.parts).extend(part.open);
        Ok(Some(part))
    }

    /// Ends a part that stays: what it did is the run's from now on.
    pub fn keep_part(&self, part: &Part) -> Result<()> {
        let is_open = |open: &Open| lock(&self.parts).iter().any(|other| other.number == open.number);
        part.open.filter(is_open).map_or(Ok(()), |open| self.close(open, None))
    }

    /// Undoes all that was done in a part, newest first, and keeps that it failed with `error`.
    ///
    /// Fails with the first error of what could not be undone; it is tried again when the run ends.
    pub fn undo_part(&self, part: &Part, error: &Error, perform: impl Fn(&Undo) -> Result<()>) -> Result<()> {
        self.undo_from(part, perform)?;
        match (part.open, &self.journal) {
            (Some(Open { number, .. }), Some(journal)) => {
                self.close(Open { number, passed: journal.last() }, Some(error))
            }
            _ => Ok(()),
        }
    }

    /// Once the run can only go forward there are no parts: a run that is taken up again must not undo what is the
    /// mailbox's new home. It is on disk before that begins.
    pub(super) fn close_parts(&self) -> Result<()> {
        self.cancel.set_budget(None);
        let open = lock(&self.parts).clone();
        open.into_iter().try_for_each(|open| self.close(open, None))
    }

    /// Keeps how a part ended, and which operations behind its number were undone.
    fn close(&self, Open { number, passed }: Open, error: Option<&Error>) -> Result<()> {
        if let Some(journal) = &self.journal {
            let kept = json!({ "number": number, "passed": passed, "error": error.map(Error::to_json) });
            journal.done(number, &kept, true)?;
        }
        lock(&self.parts).retain(|open| open.number != number);
        Ok(())
    }

    fn undo_from(&self, part: &Part, perform: impl Fn(&Undo) -> Result<()>) -> Result<()> {
        let rollback = self.roll_back_from(part.mark, |_| true, perform);
        match rollback.failed.into_iter().next() {
            Some((what, error)) => Err(Error::new(error.kind(), format!("{what}: could not be undone")).because(error)),
            None => Ok(()),
        }
    }
}
