//! A script run for each entry of a list. An entry's fault is that entry's: what can be known is known before the first
//! one begins, and what goes wrong later is that entry's outcome.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::lists::{Entry, Fault};
use crate::error::{Context, Error, Kind, Result};
use crate::parallel;
use crate::report::Event;
use crate::run::{Entered, Run};

/// A script, and how it is run for entries.
pub struct Batch<'a> {
    /// The run that starts it.
    pub run: &'a Run,
    /// The script, as `run_script` takes it.
    pub script: String,
    /// Options of every entry; its own win.
    pub common: BTreeMap<String, String>,
    /// Whether each account's events go to a log of its own in the present directory.
    pub separate_log: bool,
}

impl Batch<'_> {
    /// What is wrong with entries, as far as that can be known before the first one begins.
    ///
    /// Fails where that cannot be found out: the script is wrong, or the directory does not answer.
    pub fn faults(&self, entries: &[Entry]) -> Result<Vec<Fault>> {
        let options: Vec<_> = entries.iter().map(|entry| self.options(entry)).collect();
        let wrong = self.run.check_options(&self.script, &options)?;
        let mut faults = Vec::new();
        for (entry, errors) in entries.iter().zip(wrong) {
            faults.extend(errors.iter().map(|error| Fault { line: entry.line, what: with_hint(error) }));
        }
        if self.separate_log {
            faults.extend(entries.iter().filter_map(|entry| {
                self.unwritable(entry).err().map(|error| Fault { line: entry.line, what: with_hint(&error) })
            }));
        }
        faults.extend(self.repeated(entries)?);
        Ok(faults)
    }

    /// Runs the script for each entry, `jobs` at a time, and gives how each ended, in their order.
    ///
    /// Fails with [`Kind::Cancelled`] where a stop was asked for; the run knows how each entry ended all the same.
    pub fn carry_out(&self, entries: Vec<Entry>, jobs: usize) -> Result<Vec<Value>> {
        let first = self.run.enter(entries.iter().map(waiting));
        let numbered: Vec<(usize, Entry)> = (first..).zip(entries).collect();
        let count = numbered.len();
        let outcomes = parallel::all(jobs, numbered, |(at, entry)| {
            let outcome = self.one(&entry);
            let entered = ended(&entry, outcome);
            self.run.gate.emit(&Event::Said { text: format!("{}: {}", entry.email, entered.words()) });
            self.run.note_ended(at, entered.clone());
            entered.outcome
        });
        match self.run.gate.cancel().check() {
            Err(stop) if stop.kind() == Kind::Cancelled => {
                let entered = self.run.entered();
                let counted =
                    |words: &[&str]| entered[first..first + count].iter().filter(|e| words.contains(&e.word)).count();
                let (done, open) = (counted(&["done"]), counted(&["not begun"]));
                let message = format!("stopped on request: {done} of {count} done, {open} not begun");
                Err(Error::new(Kind::Cancelled, message))
            }
            _ => Ok(outcomes),
        }
    }

    fn one(&self, entry: &Entry) -> Result<Value> {
        self.run.gate.cancel().check()?;
        let log = self.separate_log.then(|| log_of(entry));
        self.run.run_script(&self.script, &self.options(entry), log.as_deref())
    }

    fn options(&self, entry: &Entry) -> BTreeMap<String, String> {
        let mut options = self.common.clone();
        options.extend(entry.options.clone());
        options
    }

    /// Whether the log of an entry can be written; it is not made yet.
    fn unwritable(&self, entry: &Entry) -> Result<()> {
        let log = log_of(entry);
        if log.contains('/') {
            let message = format!("{}: no log can be named after it", entry.email);
            return Err(Error::new(Kind::Usage, message).hint("without --separate-log it moves as others do"));
        }
        let hint = "start it in a directory that you may write to";
        let opened = match Path::new(&log).symlink_metadata() {
            Ok(_) => std::fs::OpenOptions::new().append(true).open(&log).map(drop),
            Err(_) => tempfile::tempfile_in(".").map(drop),
        };
        opened.context(Kind::Io, || "separate log: it cannot be written".to_owned()).map_err(|error| error.hint(hint))
    }

    /// Entries that name an account which another one names already, by an alias.
    fn repeated(&self, entries: &[Entry]) -> Result<Vec<Fault>> {
        let mut seen: BTreeMap<String, &Entry> = BTreeMap::new();
        let mut faults = Vec::new();
        for entry in entries {
            self.run.gate.cancel().check()?;
            // One that is not there is that entry's failure.
            let Some(account) = self.run.site.directory()?.account(&entry.email.parse()?)? else { continue };
            if let Some(before) = seen.insert(account.id.to_string(), entry) {
                let what = format!("{} is the account of {} in line {}", entry.email, before.email, before.line);
                faults.push(Fault { line: entry.line, what });
            }
        }
        Ok(faults)
    }
}

fn log_of(entry: &Entry) -> String {
    format!("{}.log", entry.email)
}

fn with_hint(error: &Error) -> String {
    error.advice().map_or_else(|| error.to_string(), |hint| format!("{error} ({hint})"))
}

fn waiting(entry: &Entry) -> Entered {
    let outcome = json!({ "ok": false, "message": "not begun", "email": entry.email, "line": entry.line });
    Entered { email: entry.email.clone(), word: "not begun", outcome }
}

/// How an entry ended: what its run says, or why it had none.
fn ended(entry: &Entry, result: Result<Value>) -> Entered {
    let error = match result {
        Ok(Value::Object(summary)) => return entered(entry, summary),
        Ok(_) => return waiting(entry),
        Err(error) if error.kind() == Kind::Cancelled => return waiting(entry),
        Err(error) => error,
    };
    let summary = json!({
        "ok": false, "code": error.kind().exit_code(), "kind": error.kind().word(), "message": error.to_string(), "hint": error.advice(),
        "switched": false, "frozen_s": 0.0, "seconds": 0.0, "undone": [], "not_undone": [],
        "state": null, "next": null, "value": null, "run": null, "at": null,
    });
    entered(entry, summary.as_object().cloned().unwrap_or_default())
}

fn entered(entry: &Entry, mut outcome: Map<String, Value>) -> Entered {
    let word = match outcome.get("code").and_then(Value::as_u64) {
        Some(0) => "done",
        Some(3) => "refused",
        Some(4) => "unfinished",
        Some(5) => "held",
        Some(6) => "partial",
        Some(130) => "stopped",
        _ => "failed",
    };
    outcome.insert("email".to_owned(), entry.email.clone().into());
    outcome.insert("line".to_owned(), entry.line.into());
    // The plan is the batch's.
    outcome.remove("plan");
    Entered { email: entry.email.clone(), word, outcome: Value::Object(outcome) }
}
