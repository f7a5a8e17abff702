//! Taking a move back: what its journal tells of the way.

use std::collections::BTreeMap;

use super::Host;
use crate::error::{Error, Kind, Result};
use crate::journal::{Record, State, Switched};
use crate::ops::look_back::way_back;

/// The script that takes a move back.
pub const REVERSE: &str = "scripts/reverse.rhai";

impl Host {
    /// The options with which [`REVERSE`] takes a run of this host's journal back.
    ///
    /// Fails with [`Kind::NotFound`] for a run that is not in the journal, and with [`Kind::Refused`] for one that moved
    /// no mailbox, has not ended, or was taken back already.
    pub fn reversal(&self, run: &str) -> Result<BTreeMap<String, String>> {
        let journal = self.open_journal()?;
        let record = journal.record(run)?;
        refuse(&record)?;
        let mut stages = journal.results(run, "stage")?;
        let look = [journal.results(run, "look")?, journal.results(run, "look_back")?].concat().pop();
        let freeze = journal.results(run, "freeze")?.pop();
        let (Some(look), Some(stage), true, Some(freeze)) = (look, stages.pop(), stages.is_empty(), freeze) else {
            let message = format!("run {run}: the journal does not tell of one move of one mailbox");
            return Err(Error::new(Kind::Refused, message).hint(format!("zlm show {run}")));
        };
        let way = way_back(look, stage, freeze)?;
        let options = [
            ("email", way.email),
            ("source", way.taken.source.to_string()),
            ("dest", way.dest.to_string()),
            ("mailbox", way.taken.mailbox.to_string()),
            ("kept", way.taken.kept.to_string()),
            ("changes", way.taken.changes.to_string()),
            ("reverses", run.to_owned()),
        ];
        Ok(options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// Fails with [`Kind::Refused`] for a run that cannot be taken back, whatever the stores say.
fn refuse(record: &Record) -> Result<()> {
    let Record { run, state, switched, reversed_by, .. } = record;
    let (message, hint) = match (reversed_by, state, switched) {
        (Some(by), ..) => (format!("run {run}: was reversed already, by run {by}"), format!("zlm show {by}")),
        (None, State::Done, Switched::Yes) => return Ok(()),
        (None, State::Done | State::RolledBack, _) => {
            (format!("run {run}: gave no mailbox a new home: there is nothing to reverse"), format!("zlm show {run}"))
        }
        (None, State::TakenOver, _) => {
            (format!("run {run}: was taken over, and ended in another host's journal"), format!("zlm show {run}"))
        }
        (None, State::Running | State::Unfinished, Switched::Yes | Switched::Maybe) => {
            (format!("run {run}: has switched and not ended"), format!("zlm resume {run}"))
        }
        (None, State::Running | State::Unfinished, Switched::No) => {
            (format!("run {run}: has not ended"), format!("zlm rollback {run}"))
        }
    };
    Err(Error::new(Kind::Refused, message).hint(hint))
}
