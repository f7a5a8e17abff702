//! `zlm ps`, `show`, `history`, `resume`, `finish`, `rollback`: runs as the journal has them.

use clap::Args;

use super::{Common, console, logging, run};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::host::{Host, Outcome};
use crate::journal::{Journal, Record, State};

#[derive(Args)]
pub(super) struct Ps {
    /// All runs, ended ones too
    #[arg(short, long)]
    all: bool,
    /// One line of JSON a run
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Show {
    /// The run
    run: String,
}

#[derive(Args)]
pub(super) struct History {
    /// The account's address
    email: String,
}

#[derive(Args)]
pub(super) struct Resume {
    /// The run
    run: String,
    /// A server that does not answer, and is left out: it is told nothing; may be given several times
    #[arg(long, value_name = "HOST")]
    without: Vec<String>,
    /// Print the outcome as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Finish {
    /// The run
    run: String,
    /// A server that does not answer, and is left out: it is told nothing; may be given several times
    #[arg(long, value_name = "HOST")]
    without: Vec<String>,
    /// Print the outcome as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Rollback {
    /// The run
    run: String,
    /// A server that does not answer, and is left out: it is told nothing; may be given several times
    #[arg(long, value_name = "HOST")]
    without: Vec<String>,
    /// Print the outcome as one line of JSON
    #[arg(long)]
    json: bool,
}

impl Ps {
    pub(super) fn run(&self, common: &Common) -> Result<u8> {
        let journal = common.journal()?;
        for record in journal.runs(self.all)? {
            if self.json {
                console::print_line(&serde_json::to_string(&record).unwrap_or_default());
            } else {
                console::print_line(&line(&journal, &record));
            }
        }
        Ok(0)
    }
}

impl Show {
    pub(super) fn run(&self, common: &Common) -> Result<u8> {
        let journal = common.journal()?;
        let record = journal.record(&self.run)?;
        console::print_line(&line(&journal, &record));
        for (name, value) in &record.pinned.options {
            console::print_line(&format!("  --{} {value}", crate::host::flag(name)));
        }
        if let Some(by) = &record.reversed_by {
            console::print_line(&format!("  reversed by {by}"));
        }
        for step in journal.steps(&self.run)? {
            let mark = match (&step.error, step.undone, step.done) {
                (Some(_), _, _) => "failed",
                (None, true, _) => "undone",
                (None, false, true) => "done",
                (None, false, false) => "begun",
            };
            console::print_line(&format!("{:>4} {mark:<7} {:<14} {}", step.number, step.operation, step.what));
        }
        if let Some(error) = &record.error {
            console::print_line(&format!("error: {error}"));
        }
        Ok(0)
    }
}

impl History {
    pub(super) fn run(&self, common: &Common) -> Result<u8> {
        let journal = common.journal()?;
        for record in journal.history(&self.email)? {
            console::print_line(&line(&journal, &record));
        }
        Ok(0)
    }
}

impl Resume {
    pub(super) fn run(&self, common: &Common, cancel: Cancel) -> Result<u8> {
        // Asked for once more, what has ended is well.
        if let Some(status) = ended(common, &self.run, State::Done)? {
            return Ok(status);
        }
        end(common, cancel, self.json, |host| host.resume(&self.run, &self.without))
    }
}

impl Finish {
    pub(super) fn run(&self, common: &Common, cancel: Cancel) -> Result<u8> {
        if let Some(status) = ended(common, &self.run, State::Done)? {
            return Ok(status);
        }
        end(common, cancel, self.json, |host| host.finish(&self.run, &self.without))
    }
}

impl Rollback {
    pub(super) fn run(&self, common: &Common, cancel: Cancel) -> Result<u8> {
        if let Some(status) = ended(common, &self.run, State::RolledBack)? {
            return Ok(status);
        }
        end(common, cancel, self.json, |host| host.roll_back(&self.run, &self.without))
    }
}

/// The status of a run that stands as it is wished to.
fn ended(common: &Common, run: &str, wished: State) -> Result<Option<u8>> {
    let state = common.journal()?.record(run)?.state;
    if state != wished {
        return Ok(None);
    }
    console::print_note(&format!("run {run}: has ended already: {}", state.word()));
    Ok(Some(0))
}

fn end(common: &Common, cancel: Cancel, json: bool, how: impl Fn(&Host) -> Result<Outcome>) -> Result<u8> {
    let config = common.load_config()?;
    logging::start(&config, common.verbose, false)?;
    let reporter = console::reporter(false, common.verbose > 0);
    let journal = config.journal_dir();
    let host = Host::new(config)
        .stdlib(common.stdlib.clone())
        .journal(journal)
        .cancel(cancel)
        .reporter(reporter.clone())
        .asker(std::sync::Arc::new(console::ask));
    let outcome = how(&host)?;
    reporter.finish();
    run::show(&outcome, json, false);
    Ok(outcome.exit_code())
}

impl Common {
    fn journal(&self) -> Result<Journal> {
        Journal::open(&self.load_config()?.journal_dir())
    }
}

/// One line on a run: name, state, account, script, and when it began.
fn line(journal: &Journal, record: &Record) -> String {
    let state = match record.state {
        _ if record.reversed_by.is_some() => "reversed",
        State::Running if !journal.is_at_work(&record.run) => "died",
        state => state.word(),
    };
    let email = record.email.as_deref().unwrap_or("-");
    format!("{:<22} {state:<11} {email:<32} {:<24} {}", record.run, record.pinned.script, age(record.began))
}

/// How long ago it was, as people say it.
fn age(seconds: i64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
    match now.saturating_sub(seconds).max(0) {
        s @ 0..120 => format!("{s} s ago"),
        s @ 120..7200 => format!("{} min ago", s / 60),
        s @ 7200..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}
