//! `zlm finish`: the end of a run that has switched and whose script cannot come to its own.

use std::sync::Arc;
use std::time::Instant;

use super::Host;
use super::outcome::{self, Next, Outcome};
use crate::error::{Error, Kind, Result};
use crate::gate::{Gate, Mode};
use crate::journal::Switched;
use crate::ops::{self, finish::Told};
use crate::run::Run;
use crate::site::Site;

impl Host {
    /// Ends a run that has switched, whatever its script would do: everybody learns the mailbox's new home, it opens the
    /// mailbox, and the account gets its status back. Done again, it does no harm.
    ///
    /// Fails as [`Host::resume`] does, and with [`Kind::Refused`] when the directory does not show the new home.
    pub fn finish(&self, run: &str, without: &[String]) -> Result<Outcome> {
        let started = Instant::now();
        let journal = self.open_journal()?;
        let record = journal.record(run)?;
        if record.state.is_over() {
            return Err(Error::new(Kind::Usage, format!("run {run}: has ended: {}", record.state.word())));
        }
        let site = Arc::new(Site::new(self.config.clone(), self.cancel.clone())?);
        let has_not = |why: String| {
            let next = format!("zlm rollback {run}, or zlm resume {run}");
            Error::new(Kind::Refused, format!("run {run}: {why}: it has not switched, and there is nothing to finish"))
                .hint(next)
        };
        let subject = outcome::subject_of(&record)?.ok_or_else(|| has_not("is about no account".to_owned()))?;
        let now = ops::state::look(&site, &subject)?;
        if now.store.as_deref() != Some(&subject.dest) {
            return Err(has_not(now.to_string()));
        }
        let without = outcome::left_out(&site, &record, without)?;
        let result = |name: &str| Ok::<_, Error>(journal.results(run, name)?.pop());
        let told = Told::of(result("look")?.or(result("look_back")?), result("stage")?)?;
        let journal = journal.take_up(run)?;
        journal.note_switched(Switched::Yes)?;
        let gate = Gate::new(run, Mode::Live, &self.cancel, self.reporter.clone());
        let gate = gate.patient(self.config.patience()).with_journal(journal)?.once_more();
        let run = Arc::new(Run::new(gate, &site, self.asker.clone()).leaving_out(without));
        match outcome::take_up(&run, &record, Next::Finish, &self.cancel) {
            Ok(true) => {}
            Ok(false) => return outcome::had_ended(&run, &record, started),
            Err(error) => return outcome::not_taken_up(&run, &record, started, error),
        }
        let finished = ops::finish::finish(&run, &subject, told.as_ref());
        Ok(outcome::finished(&run, started, finished))
    }
}
