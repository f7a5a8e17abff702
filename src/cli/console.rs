//! What an operator sees: events as they come, then how it ended. Data goes to stdout, the rest to stderr.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::error::Error;
use crate::host::{Entered, Failure, Outcome};
use crate::report::{Event, Origin, PlanEntry, Reporter};

/// How often a long operation is heard of where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Draws events: bars on a terminal that can draw, plain lines elsewhere.
pub(super) struct Console {
    bars: Option<MultiProgress>,
    long: Mutex<HashMap<(String, u64), Long>>,
    /// How many steps each run is in; what operations do inside them is for `-v`.
    steps: Mutex<HashMap<String, usize>>,
    plan: bool,
    verbose: bool,
}

/// An operation that reports progress.
struct Long {
    what: String,
    bar: Option<ProgressBar>,
    said: Instant,
}

/// A console for one run; a plan's entries are printed at its end, not as they come.
pub(super) fn reporter(plan: bool, verbose: bool) -> Arc<Console> {
    // A terminal that cannot draw (TERM is dumb, or not set) would be shown nothing at all: it gets lines.
    let bars = std::io::stderr().is_terminal().then(MultiProgress::new).filter(|bars| !bars.is_hidden());
    Arc::new(Console { bars, long: Mutex::default(), steps: Mutex::default(), plan, verbose })
}

impl Console {
    /// Takes the bars away.
    pub(super) fn finish(&self) {
        if let Some(bars) = &self.bars {
            // What cannot be cleared stays on the screen; nothing follows from it.
            let _ = bars.clear();
        }
    }

    fn say(&self, from: Origin<'_>, text: &str) {
        let line = line(from, text);
        log::info!("{line}");
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(&line);
            }
            None => eprint_line(&line),
        }
    }

    fn progress(&self, from: Origin<'_>, id: u64, unit: &str, done: u64, total: Option<u64>) {
        let mut long = lock(&self.long);
        let Some(operation) = long.get_mut(&(from.run.to_owned(), id)) else { return };
        if let Some(bars) = &self.bars {
            let bar = operation.bar.get_or_insert_with(|| bar(bars, &operation.what, unit, total));
            bar.set_position(done);
        } else if operation.said.elapsed() >= EVERY {
            operation.said = Instant::now();
            let of = total.map(|t| format!(" of {t}")).unwrap_or_default();
            let text = format!("  {}: {done}{of} {unit}", operation.what);
            drop(long);
            self.say(from, &text);
        }
    }
}

/// A line that says whose it is.
fn line(from: Origin<'_>, text: &str) -> String {
    from.account.map_or_else(|| text.to_owned(), |account| format!("{account}: {text}"))
}

fn bar(bars: &MultiProgress, what: &str, unit: &str, total: Option<u64>) -> ProgressBar {
    let counted = if unit == "bytes" { "{bytes}/{total_bytes}" } else { "{pos}/{len}" };
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), format!("  {{wide_msg}} {counted} {unit} {{bar:20}} {{eta}}")),
        None => (ProgressBar::no_length(), format!("  {{wide_msg}} {{pos}} {unit} {{spinner}}")),
    };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = bars.add(bar.with_style(style));
    bar.set_message(what.to_owned());
    bar
}

impl Reporter for Console {
    fn event(&self, from: Origin<'_>, event: &Event) {
        match event {
            Event::StepStarted { name } => {
                *lock(&self.steps).entry(from.run.to_owned()).or_default() += 1;
                self.say(from, name);
            }
            Event::StepDone { name, seconds } => {
                let mut steps = lock(&self.steps);
                if let Some(depth) = steps.get_mut(from.run) {
                    *depth = depth.saturating_sub(1);
                }
                steps.retain(|_, depth| *depth > 0);
                drop(steps);
                self.say(from, &format!("{name} done in {seconds:.2} s"));
            }
            Event::Started { id, what, .. } => {
                let long = Long { what: what.clone(), bar: None, said: Instant::now() };
                lock(&self.long).insert((from.run.to_owned(), *id), long);
            }
            Event::Progress { id, unit, done, total } => self.progress(from, *id, unit, *done, *total),
            Event::Done { id, result, seconds, .. } => {
                let long = lock(&self.long).remove(&(from.run.to_owned(), *id));
                let Some(long) = long else { return };
                if let Some(bar) = long.bar {
                    bar.finish_and_clear();
                }
                let text = format!("{}: {result} ({seconds:.2} s)", long.what);
                let inside = lock(&self.steps).get(from.run).is_some_and(|depth| *depth > 0);
                match (self.plan, inside && !self.verbose) {
                    (true, _) => {}
                    (false, true) => log::info!("{}", line(from, &text)),
                    (false, false) => self.say(from, &if inside { format!("  {text}") } else { text }),
                }
            }
            Event::Failed { id, error, .. } => {
                lock(&self.long).remove(&(from.run.to_owned(), *id));
                log::error!("{}", line(from, error));
            }
            Event::Planned(_) => {}
            Event::Said { text } => self.say(from, text),
            Event::Warned { text } => self.say(from, &format!("warning: {text}")),
            // What a roll-back came to is said once, at the end.
            Event::Undone { what, error: None } => log::info!("{}", line(from, &format!("undone: {what}"))),
            Event::Undone { what, error: Some(error) } => {
                log::warn!("{}", line(from, &format!("not undone: {what}: {error}")));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is drawn may be odd after a panic elsewhere; that it is drawn matters more.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints a line of data.
pub(super) fn print_line(line: &str) {
    print_text(&format!("{line}\n"));
}

/// Prints data as it is. A reader that went away is no failure.
pub(super) fn print_text(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints something that is not data.
pub(super) fn print_note(text: &str) {
    eprint_line(&format!("zlm: {text}"));
}

/// Prints an error and what can be done about it.
pub(super) fn print_error(error: &Error) {
    eprint_line(&format!("error: {error}"));
    if let Some(hint) = error.advice() {
        eprint_line(&format!("help: {hint}"));
    }
}

/// Prints why a run failed, what was undone, where the mailbox is, and what to do next.
pub(super) fn print_failure(outcome: &Outcome, failure: &Failure) {
    print_error(&failure.error);
    if let Some(at) = &failure.at {
        eprint_line(&format!("at: {}:{}:{}", at.source, at.line, at.column));
    }
    for what in &failure.undone {
        eprint_line(&format!("undone: {what}"));
    }
    for (what, why) in &failure.not_undone {
        eprint_line(&format!("not undone: {what}: {why}"));
    }
    if let Some(state) = &failure.state {
        eprint_line(&format!("now: {state}"));
    }
    if let Some(next) = outcome.next_command() {
        eprint_line(&format!("next: {next}"));
    }
}

/// Prints a plan, one effect after the other.
pub(super) fn print_plan(plan: &[PlanEntry]) {
    let mut step = None;
    for entry in plan {
        if entry.step != step {
            step.clone_from(&entry.step);
            if let Some(step) = &step {
                print_line(&format!("{step}:"));
            }
        }
        let indent = if entry.step.is_some() { "  " } else { "" };
        print_line(&format!("{indent}{:>3} {:<14} {}", entry.number, entry.operation, entry.what));
        for detail in &entry.details {
            print_line(&format!("{indent}{:19}{detail}", ""));
        }
    }
    print_line(&format!("{} effects planned; nothing was changed", plan.len()));
}

/// Prints how each entry of a list ended, and what is left to do for it.
pub(super) fn print_entries(entries: &[Entered]) {
    let width = entries.iter().map(|entry| entry.email.len()).max().unwrap_or(0);
    for entry in entries {
        print_line(&format!("{:<width$}  {}", entry.email, entry.words()));
        if entry.word == "done" {
            continue;
        }
        for (name, label) in [("hint", "help"), ("state", "now"), ("next", "next")] {
            if let Some(text) = entry.outcome.get(name).and_then(serde_json::Value::as_str) {
                print_line(&format!("{:<width$}  {label}: {text}", ""));
            }
        }
    }
}

/// Prints what a script gave back: a map line by line, anything else as JSON.
pub(super) fn print_value(value: &serde_json::Value) {
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                print_line(&format!("{name:<10} {text}"));
            }
        }
        other => print_line(&other.to_string()),
    }
}

/// Asks a question on the terminal; none where there is none.
pub(super) fn ask(question: &str) -> Option<bool> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    eprint_text(&format!("{question} [y/N] "));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn eprint_line(line: &str) {
    eprint_text(&format!("{line}\n"));
}

fn eprint_text(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_of_runs_that_name_no_account_yet_are_told_apart() {
        let console = reporter(false, false);
        let started = |run, what: &str| {
            let event = Event::Started { id: 1, operation: "look", what: what.to_owned() };
            console.event(Origin { run, account: None }, &event);
        };
        started("one", "account ada@example.com");
        started("other", "account bea@example.com");
        let of = |run: &str| lock(&console.long)[&(run.to_owned(), 1)].what.clone();
        assert_eq!([of("one"), of("other")], ["account ada@example.com", "account bea@example.com"]);
    }

    #[test]
    fn steps_of_one_run_are_no_steps_of_another() {
        let console = reporter(false, false);
        let tell = |run, event: &Event| console.event(Origin { run, account: None }, event);
        tell("one", &Event::StepStarted { name: "copy".to_owned() });
        tell("other", &Event::StepStarted { name: "copy".to_owned() });
        tell("one", &Event::StepDone { name: "copy".to_owned(), seconds: 0.0 });
        assert_eq!(lock(&console.steps).keys().collect::<Vec<_>>(), ["other"]);
    }
}
