//! Ending a move whose journal is lost.

use serde::Serialize;

use super::Host;
use crate::error::{Context, Kind, Result};
use crate::gate::Undo;
use crate::journal::{Pinned, Rebuilt, Switched};
use crate::ops::claim::Memory;
use crate::ops::reconcile::{Before, Copy, Verdict, find};
use crate::site::Site;

/// How an account stands, and what to do.
#[derive(Debug, Serialize)]
pub struct Reconciled {
    /// The account's address.
    pub email: String,
    /// Where the mailbox is and what its user can do, in a sentence.
    pub state: String,
    /// Claims that a run left, in words.
    pub claims: Vec<String>,
    /// Copies on other stores.
    pub copies: Vec<Copy>,
    /// What else should be known.
    pub notes: Vec<String>,
    /// What cannot be known, and what to look at.
    pub unknown: Option<String>,
    /// The commands that end it, one of which is to be chosen; none when nothing is under way.
    pub next: Vec<String>,
}

impl Host {
    /// Says how an account stands, from the directory, claims, locks and rows. The record of a run that died before its
    /// switch is made anew in this host's journal where that has none, so that it can be resumed or rolled back.
    ///
    /// Fails with [`Kind::Held`] while a run that is alive holds the account, or a process of
    /// this host has that run.
    pub fn reconcile(&self, email: &str) -> Result<Reconciled> {
        let site = Site::new(self.config.clone(), self.cancel.clone())?;
        let found = find(&site, email)?;
        let verdict = found.judge(&site)?;
        let mut reconciled = Reconciled {
            email: found.account.address.to_string(),
            state: found.state.to_string(),
            claims: found.claims.iter().map(|(store, claim)| format!("{} on {store}", claim.holder())).collect(),
            copies: found.copies,
            notes: found.unreached.iter().map(|(store, why)| format!("{store} was not reached: {why}")).collect(),
            unknown: None,
            next: Vec::new(),
        };
        match verdict {
            Verdict::Nothing => {}
            Verdict::Unknown(why) => reconciled.unknown = Some(why),
            Verdict::Switched { run, memory, pinned } => self.switched(&run, &memory, pinned, &mut reconciled)?,
            Verdict::Before(before) => self.before(*before, &mut reconciled)?,
        }
        Ok(reconciled)
    }

    fn switched(&self, run: &str, memory: &Memory, pinned: Option<String>, reconciled: &mut Reconciled) -> Result<()> {
        if self.has_open(run)? {
            // A journal knows what is done already.
            reconciled.notes.push(format!("run {run} is in this host's journal"));
            reconciled.next.extend([format!("zlm resume {run}"), format!("zlm finish {run}")]);
            return Ok(());
        }
        let nothing =
            || serde_json::to_string(&Pinned::nothing()).context(Kind::Io, || format!("run {run}: its script"));
        let pinned = pinned.map_or_else(nothing, Ok)?;
        self.rebuild(run, memory, &pinned, Switched::Yes, &[], reconciled)?;
        reconciled.next.push(format!("zlm finish {run}"));
        Ok(())
    }

    fn rebuild(
        &self,
        run: &str,
        memory: &Memory,
        pinned: &str,
        switched: Switched,
        undo: &[Undo],
        reconciled: &mut Reconciled,
    ) -> Result<()> {
        let subject = serde_json::to_value(&memory.subject).unwrap_or_default();
        let email = &reconciled.email;
        self.open_journal()?.rebuild(&Rebuilt { run, email, subject: &subject, pinned, switched, undo })?;
        reconciled.notes.push(format!("run {run} is in this host's journal now, made anew from its claim"));
        Ok(())
    }

    fn before(&self, before: Before, reconciled: &mut Reconciled) -> Result<()> {
        let Before { run, memory, pinned, undo, may_have_switched, notes } = before;
        reconciled.notes.extend(notes);
        match (self.has_open(&run)?, pinned) {
            (true, _) => reconciled.notes.push(format!("run {run} is in this host's journal")),
            (false, Some(pinned)) => {
                let switched = if may_have_switched { Switched::Maybe } else { Switched::No };
                self.rebuild(&run, &memory, &pinned, switched, &undo, reconciled)?;
            }
            (false, None) => {
                let (email, dest, status) = (&reconciled.email, &memory.subject.dest, &memory.subject.status);
                let next = format!("zlm run scripts/undo.rhai --email {email} --dest {dest} --status {status}");
                reconciled.next.push(next);
                return Ok(());
            }
        }
        reconciled.next.extend([format!("zlm rollback {run}"), format!("zlm resume {run}")]);
        Ok(())
    }

    /// Whether this host's journal has a run that is not over.
    fn has_open(&self, run: &str) -> Result<bool> {
        let journal = self.open_journal()?;
        Ok(journal.runs(false)?.iter().any(|record| record.run == run))
    }
}
