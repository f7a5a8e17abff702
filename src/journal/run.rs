//! The journal of one run: what operations find in it, and what they leave.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Mutex, PoisonError};

use rusqlite::params;
use serde_json::Value;

use super::rebuild::REBUILT;
use super::undo::Undo;
use super::{Journal, MAYBE_OF_OLD, SENT, State, Switched, now};
use crate::error::{Context, Error, Kind, Result};

/// What an operation finds when it comes to the gate.
#[derive(Debug, PartialEq)]
pub enum Arrival {
    /// It was never begun.
    New(i64),
    /// It was begun, and its end is not known.
    Begun(i64),
    /// It ended well, with this result.
    Done(Value),
    /// It failed, and the script went on.
    Failed(String),
}

/// One run's part of the journal. It keeps every other process off the run for as long as it lives.
pub struct RunJournal {
    journal: Journal,
    run: String,
    memory: Mutex<Memory>,
    _lock: File,
}

/// An operation as it is kept.
pub(super) struct Kept {
    pub(super) number: i64,
    done: bool,
    result: Option<Value>,
    error: Option<String>,
}

#[derive(Default)]
pub(super) struct Memory {
    /// What was found when the run was taken up, by name, what and ordinal.
    pub(super) found: HashMap<(String, String, i64), Kept>,
    /// How often each name and what came by.
    pub(super) seen: HashMap<(String, String), i64>,
    /// The last number given out.
    pub(super) last: i64,
    /// What is to be written with the next thing that must be on disk.
    waiting: Vec<Write>,
    /// Errors, each with the section that it came in; they are kept once the script goes on after them.
    failed: Vec<(u64, i64, String)>,
    /// How many sections have ended in which operations come in no order.
    section: u64,
}

impl Memory {
    /// An operation has come, so the script has gone on after the errors before it; but those of the section that is
    /// under way may still end it: what came since may have been on its way beside them.
    fn went_on(&mut self, strict: bool) {
        let section = self.section;
        let (past, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.failed).into_iter().partition(|(came_in, ..)| strict || *came_in != section);
        self.failed = open;
        self.waiting.extend(past.into_iter().map(|(_, number, error)| Write::Failed { number, error }));
    }
}

enum Write {
    Begun { number: i64, name: String, what: String, ordinal: i64, undo: Option<String> },
    Done { number: i64, result: String },
    Failed { number: i64, error: String },
    Undone { what: String },
}

impl RunJournal {
    pub(super) fn load(journal: Journal, run: &str, lock: File) -> Result<Self> {
        let mut memory = Memory::default();
        let reading = || format!("run {run}: reading its operations");
        {
            let db = journal.db();
            let mut query = db
                .prepare("SELECT number, name, what, ordinal, done, result, error FROM operation WHERE run = ?")
                .context(Kind::Io, reading)?;
            let mut rows = query.query([run]).context(Kind::Io, reading)?;
            while let Some(row) = rows.next().context(Kind::Io, reading)? {
                let read = || -> rusqlite::Result<_> {
                    let key = (row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, i64>(3)?);
                    Ok((
                        key,
                        row.get::<_, i64>(0)?,
                        row.get::<_, bool>(4)?,
                        row.get::<_, Option<String>>(5)?,
                        row.get(6)?,
                    ))
                };
                let (key, number, done, result, error) = read().context(Kind::Data, reading)?;
                let result = result.map(|text| serde_json::from_str(&text)).transpose().context(Kind::Data, reading)?;
                memory.last = memory.last.max(number);
                if key.0 == REBUILT || key.0 == SENT {
                    // No step of the script: one says how to undo what is not known to have happened, the other what was
                    // asked for.
                    continue;
                }
                memory.found.insert(key, Kept { number, done, result, error });
            }
        }
        Ok(Self { journal, run: run.to_owned(), memory: Mutex::new(memory), _lock: lock })
    }

    /// The run's name.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// What the run is made of, as JSON.
    pub fn pinned(&self) -> Result<String> {
        let db = self.journal.db();
        db.query_row("SELECT pinned FROM run WHERE run = ?", [&self.run], |row| row.get(0))
            .context(Kind::Io, || format!("run {}: reading its script", self.run))
    }

    /// Whether it was made anew after it was lost.
    pub fn is_rebuilt(&self) -> Result<bool> {
        self.has_done(REBUILT)
    }

    /// Whether an operation of this name was done.
    pub fn has_done(&self, name: &str) -> Result<bool> {
        let db = self.journal.db();
        let sql = "SELECT EXISTS (SELECT 1 FROM operation WHERE run = ? AND name = ? AND done AND error IS NULL)";
        db.query_row(sql, [&self.run, name], |row| row.get(0))
            .context(Kind::Io, || format!("run {}: reading its operations", self.run))
    }

    /// What the journal knows of the operation `name` on `what`, which has come to the gate.
    ///
    /// `strict` says that operations come one after another. Then one that the journal does not know, while it
    /// knows others that have not come yet, means that the script takes another way than it did: that fails with
    /// [`Kind::Data`] before anything happens.
    pub fn arrive(&self, name: &str, what: &str, strict: bool) -> Result<Arrival> {
        let mut memory = self.memory();
        memory.went_on(strict);
        let seen = memory.seen.entry((name.to_owned(), what.to_owned())).or_insert(0);
        *seen += 1;
        let key = (name.to_owned(), what.to_owned(), *seen);
        match memory.found.remove(&key) {
            Some(Kept { error: Some(error), .. }) => Ok(Arrival::Failed(error)),
            Some(Kept { done: true, result, .. }) => Ok(Arrival::Done(result.unwrap_or(Value::Null))),
            Some(Kept { number, .. }) => Ok(Arrival::Begun(number)),
            None => {
                if strict && let Some((_, expected, _)) = memory.found.keys().next() {
                    let message =
                        format!("run {}: the script does {name} {what}, where it did {expected} before", self.run);
                    return Err(Error::new(Kind::Data, message)
                        .hint("it takes another way than it did, so nothing was done; `zlm rollback` undoes the run"));
                }
                memory.last += 1;
                Ok(Arrival::New(memory.last))
            }
        }
    }

    /// Keeps that an operation is begun. With `durable` it is on disk when this returns.
    pub fn begun(&self, number: i64, name: &str, what: &str, undo: Option<&Undo>, durable: bool) -> Result<()> {
        let undo = undo.map(serde_json::to_string).transpose().context(Kind::Io, || self.writing())?;
        let mut memory = self.memory();
        let ordinal = memory.seen.get(&(name.to_owned(), what.to_owned())).copied().unwrap_or(1);
        memory.waiting.push(Write::Begun { number, name: name.to_owned(), what: what.to_owned(), ordinal, undo });
        match durable {
            true => self.flush(&mut memory),
            false => Ok(()),
        }
    }

    /// Keeps what came of an operation.
    pub fn done(&self, number: i64, result: &Value, durable: bool) -> Result<()> {
        let mut memory = self.memory();
        memory.waiting.push(Write::Done { number, result: result.to_string() });
        match durable {
            true => self.flush(&mut memory),
            false => Ok(()),
        }
    }

    /// Remembers that an operation failed; it is kept if the script goes on all the same.
    pub fn failed(&self, number: i64, error: &str) {
        let mut memory = self.memory();
        let section = memory.section;
        memory.failed.push((section, number, error.to_owned()));
    }

    /// Notes that operations that came in no order have all ended: what comes now comes after them.
    pub fn section_ended(&self) {
        self.memory().section += 1;
    }

    /// Keeps that an effect was undone.
    pub fn undone(&self, what: &str) -> Result<()> {
        let mut memory = self.memory();
        memory.waiting.push(Write::Undone { what: what.to_owned() });
        self.flush(&mut memory)
    }

    /// Keeps what the run is about.
    pub fn about(&self, email: &str, subject: &Value) -> Result<()> {
        self.journal
            .db()
            .execute(
                "UPDATE run SET email = ?, subject = ? WHERE run = ?",
                params![email, subject.to_string(), self.run],
            )
            .context(Kind::Io, || self.writing())
            .map(drop)
    }

    /// Keeps whether the mailbox has its new home. Where it has, nothing takes that back.
    pub fn note_switched(&self, switched: Switched) -> Result<()> {
        let sql = "UPDATE run SET switched = ?1 WHERE run = ?2 AND switched <> ?3";
        self.journal
            .db()
            .execute(sql, params![switched.number(), self.run, Switched::Yes.number()])
            .context(Kind::Io, || self.writing())
            .map(drop)
    }

    /// Whether the switch was begun by a zlm that did not write down what it sent, or in a journal that was lost.
    pub fn keeps_no_requests(&self) -> Result<bool> {
        let db = self.journal.db();
        let sql = "SELECT switched = ? FROM run WHERE run = ?";
        db.query_row(sql, params![MAYBE_OF_OLD, self.run], |row| row.get(0))
            .context(Kind::Io, || format!("run {}: reading whether it has switched", self.run))
    }

    /// Whether the mailbox has its new home.
    pub fn switched(&self) -> Result<Switched> {
        self.journal.record(&self.run).map(|record| record.switched)
    }

    /// What the run failed with when it ended last.
    pub fn error(&self) -> Result<Option<String>> {
        self.journal.record(&self.run).map(|record| record.error)
    }

    /// Keeps how the run ended.
    pub fn end(&self, state: State, error: Option<&str>) -> Result<()> {
        self.flush(&mut self.memory())?;
        self.journal
            .db()
            .execute(
                "UPDATE run SET state = ?, ended = ?, error = ? WHERE run = ?",
                params![state.word(), now(), error, self.run],
            )
            .context(Kind::Io, || self.writing())
            .map(drop)
    }

    /// The undo of everything that was begun and not undone, oldest first; none after the switch.
    pub fn undo_stack(&self) -> Result<Vec<Undo>> {
        self.journal.undo_stack(&self.run)
    }

    fn flush(&self, memory: &mut Memory) -> Result<()> {
        let mut db = self.journal.db();
        let work = || -> rusqlite::Result<()> {
            let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for write in &memory.waiting {
                match write {
                    Write::Begun { number, name, what, ordinal, undo } => transaction.execute(
                        "INSERT INTO operation (run, number, name, what, ordinal, undo) VALUES (?, ?, ?, ?, ?, ?) \
                         ON CONFLICT DO NOTHING",
                        params![self.run, number, name, what, ordinal, undo],
                    )?,
                    Write::Done { number, result } => transaction.execute(
                        "UPDATE operation SET done = 1, result = ? WHERE run = ? AND number = ?",
                        params![result, self.run, number],
                    )?,
                    Write::Failed { number, error } => transaction.execute(
                        "UPDATE operation SET done = 1, error = ? WHERE run = ? AND number = ?",
                        params![error, self.run, number],
                    )?,
                    Write::Undone { what } => transaction.execute(
                        "UPDATE operation SET undone = 1 WHERE run = ? AND number = (SELECT MAX(number) FROM operation \
                         WHERE run = ? AND NOT undone AND json_extract(undo, '$.what') = ?)",
                        params![self.run, self.run, what],
                    )?,
                };
            }
            transaction.commit()
        };
        let mut work = work;
        work().context(Kind::Io, || self.writing())?;
        memory.waiting.clear();
        Ok(())
    }

    pub(super) fn db(&self) -> std::sync::MutexGuard<'_, rusqlite::Connection> {
        self.journal.db()
    }

    pub(super) fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> String {
        format!("run {}: writing the journal", self.run)
    }
}
