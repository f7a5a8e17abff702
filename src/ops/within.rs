//! A freeze that may not be longer than so much: where it would be, the account is opened again at its source.

use std::time::Duration;

use super::flow::Sleep;
use super::undo;
use crate::error::{Error, Kind, Result};
use crate::gate::Part;
use crate::report::Event;
use crate::run::Run;

/// Under this error number MariaDB ends a statement for which no time is left.
const STATEMENT_TIMEOUT: &str = "1969";

/// A freeze that was begun, and how long it may be.
pub struct Within {
    part: Option<Part>,
    limit: Duration,
}

/// Begins; the clock runs from when the account is put into maintenance.
///
/// Fails with [`Kind::Usage`] for a time that is none, and as it did where it was undone before the run was taken up
/// again.
pub fn begin(run: &Run, seconds: f64) -> Result<Within> {
    let limit = Duration::try_from_secs_f64(seconds)
        .map_err(|e| Error::new(Kind::Usage, format!("frozen_within: {seconds} s: {e}")))?;
    let perform = |undo: &_| undo::perform(run, &run.site, undo);
    let part = run.gate.begin_part(&format!("frozen for at most {seconds} s"), perform)?;
    if part.is_some() {
        run.gate.cancel().set_budget(Some(limit));
    }
    Ok(Within { part, limit })
}

/// Ends it with the error that the script's body failed with, if it did. For one of time the account is opened again.
///
/// Fails with [`Kind::Late`] then, and with the error of what could not be undone.
pub fn end(run: &Run, within: &Within, failed: Option<&Error>) -> Result<()> {
    let Some(part) = &within.part else { return Ok(()) };
    let cancel = run.gate.cancel();
    let (needed, is_over) = (cancel.needed(), cancel.left() == Some(Duration::ZERO));
    cancel.set_budget(None);
    let late = failed.filter(|error| match error.kind() {
        Kind::Late => true,
        _ => is_over && error.peer_code() == Some(STATEMENT_TIMEOUT),
    });
    let (Some(late), false) = (late, run.gate.has_switched()) else { return run.gate.keep_part(part) };
    let subject = run.subject().map(|subject| format!("account {}: ", subject.email)).unwrap_or_default();
    let (needed, limit) = (needed.unwrap_or_default().as_secs_f64(), within.limit.as_secs_f64());
    let message = format!("{subject}would be frozen for {needed:.2} s or more, and may be for {limit} s: {late}");
    let error = Error::new(Kind::Late, message).hint("allow it more, or move it at an hour when less comes in");
    run.gate.undo_part(part, &error, |undo| undo::perform(run, &run.site, undo))?;
    let lasted = run.set_frozen(false);
    let text = format!("{late}; opened again at its source after {lasted:.2} s");
    run.gate.emit(&Event::Warned { text });
    Err(error)
}

/// Waits before the next try, and says so.
pub fn pause(run: &Run, tried: u32, tries: u32, seconds: f64) -> Result<()> {
    let text = format!("try {tried} of {tries}: the next one comes after {seconds} s");
    run.gate.emit(&Event::Warned { text });
    run.gate.pass(&Sleep { seconds })
}
