//! What a run tells whoever watches it. The library emits events and never prints; the command line draws
//! them, a test collects them, an embedder does what it likes.

use std::sync::Arc;

/// Something that happened in a run.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A script entered a step.
    StepStarted {
        /// The step's name.
        name: String,
    },
    /// A step ended well.
    StepDone {
        /// The step's name.
        name: String,
        /// How long it took.
        seconds: f64,
    },
    /// An operation is about to change something.
    Started {
        /// Number of the operation in this run.
        id: u64,
        /// The operation's name, as scripts call it.
        operation: &'static str,
        /// What it does to what.
        what: String,
    },
    /// An operation ended well.
    Done {
        /// Number of the operation in this run.
        id: u64,
        /// The operation's name.
        operation: &'static str,
        /// What came of it, in words.
        result: String,
        /// How long it took.
        seconds: f64,
    },
    /// An operation failed.
    Failed {
        /// Number of the operation in this run.
        id: u64,
        /// The operation's name.
        operation: &'static str,
        /// Why.
        error: String,
    },
    /// How far a long operation is.
    Progress {
        /// Number of the operation in this run.
        id: u64,
        /// What is counted: `rows`, `blobs` or `bytes`.
        unit: &'static str,
        /// How many are done.
        done: u64,
        /// How many there are, where that is known.
        total: Option<u64>,
    },
    /// A dry run met an effect; it was not carried out.
    Planned(PlanEntry),
    /// A script said something (`print`).
    Said {
        /// The text.
        text: String,
    },
    /// Something the operator should know though nothing failed.
    Warned {
        /// The text.
        text: String,
    },
    /// An effect was undone, or could not be.
    Undone {
        /// What was to be undone.
        what: String,
        /// Why it could not be, if so.
        error: Option<String>,
    },
}

/// One effect that a script would have, in the order it would have them.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PlanEntry {
    /// Its place in the order, from 1.
    pub number: u64,
    /// The operation's name, as scripts call it.
    pub operation: &'static str,
    /// What it would do to what.
    pub what: String,
    /// Statements, files and attributes, one a line.
    pub details: Vec<String>,
    /// The step it stands in.
    pub step: Option<String>,
}

/// The run that an event comes from. Numbers of operations are its own, so whoever follows them goes by both.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Origin<'a> {
    /// The run's name, as in the journal.
    pub run: &'a str,
    /// The address of the account that it is about, once that is known.
    pub account: Option<&'a str>,
}

/// Receives the events of runs; several runs and threads may call it at once.
pub trait Reporter: Send + Sync {
    /// Takes note of an `event` of the run `from`.
    fn event(&self, from: Origin<'_>, event: &Event);
}

/// A reporter that drops everything.
pub struct Silent;

impl Reporter for Silent {
    fn event(&self, _: Origin<'_>, _: &Event) {}
}

/// A shared reporter.
pub type SharedReporter = Arc<dyn Reporter>;
