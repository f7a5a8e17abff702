//! A run's record made anew from what is known of it elsewhere.

use rusqlite::params;

use super::{Journal, MAYBE_OF_OLD, Pinned, State, Switched, Undo, now};
use crate::error::{Context, Kind, Result};

/// The name of what stands for all that a run did whose journal was lost; no script does it.
pub(super) const REBUILT: &str = "reconcile";

/// What is known of a run.
pub struct Rebuilt<'a> {
    /// Its name.
    pub run: &'a str,
    /// The account it is about.
    pub email: &'a str,
    /// What it is about.
    pub subject: &'a serde_json::Value,
    /// What it is made of, as JSON.
    pub pinned: &'a str,
    /// Whether the mailbox has its new home; maybe, where it may have asked for its switch before it died.
    pub switched: Switched,
    /// What takes away what it may have done, oldest first.
    pub undo: &'a [Undo],
}

impl Journal {
    /// Writes the record of a run that died, as far as it is known. One that is over and has the same name gives way.
    ///
    /// Fails with [`Kind::Held`] while a process has the run, and [`Kind::Data`] for a script that cannot be read.
    pub fn rebuild(&self, rebuilt: &Rebuilt<'_>) -> Result<()> {
        let Rebuilt { run, email, subject, pinned, switched, undo } = rebuilt;
        let switched = if *switched == Switched::Maybe { MAYBE_OF_OLD } else { switched.number() };
        let _lock = self.lock_file(run)?;
        serde_json::from_str::<Pinned>(pinned).context(Kind::Data, || format!("run {run}: its script"))?;
        let writing = || format!("run {run}: writing the journal");
        let undo: Vec<(String, &str)> = undo
            .iter()
            .map(|undo| Ok((serde_json::to_string(undo)?, undo.what.as_str())))
            .collect::<serde_json::Result<_>>()
            .context(Kind::Io, writing)?;
        let mut db = self.db();
        let mut work = || -> rusqlite::Result<()> {
            let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            transaction.execute("DELETE FROM operation WHERE run = ?", [run])?;
            transaction.execute("DELETE FROM run WHERE run = ?", [run])?;
            transaction.execute(
                "INSERT INTO run (run, state, email, began, version, pinned, subject, switched) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    run,
                    State::Running.word(),
                    email,
                    now(),
                    env!("CARGO_PKG_VERSION"),
                    pinned,
                    subject.to_string(),
                    switched
                ],
            )?;
            for (at, (undo, what)) in undo.iter().enumerate() {
                let number = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1);
                transaction.execute(
                    "INSERT INTO operation (run, number, name, what, ordinal, undo, done) VALUES (?, ?, ?, ?, 1, ?, 1)",
                    params![run, number, REBUILT, what, undo],
                )?;
            }
            transaction.commit()
        };
        work().context(Kind::Io, writing)
    }
}
