//! Scripts that scripts start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::script::{self, Script, arguments};
use super::{Begun, Checked, Host};
use crate::error::{Error, Kind, Result};
use crate::gate::Mode;
use crate::run::{Nested, Run};

/// How many scripts may be at work inside each other.
const MAX_DEPTH: usize = 8;

/// Starts scripts for one script.
pub(super) struct Nesting {
    host: Host,
    /// The scripts that are at work inside each other, the first one first; the last one is who asks.
    chain: Vec<Script>,
    /// The script that was read last: a list runs one for each of its entries.
    last: Mutex<Option<Arc<Checked>>>,
}

impl Nesting {
    /// For `script`, which those in `above` started.
    pub(super) fn new(host: Host, script: &Script, above: Vec<Script>) -> Self {
        Self { host, chain: above.into_iter().chain([script.clone()]).collect(), last: Mutex::default() }
    }

    /// The script that `path` names: one beside the script that asks, or as `zlm run` takes it.
    fn find(&self, path: &str) -> Result<Script> {
        let asking = self.chain.last().and_then(|script| script.path.as_deref());
        let beside = asking.and_then(|asking| asking.parent()).map(|folder| folder.join(path)).filter(|p| p.exists());
        let script = Script::load(&beside.unwrap_or_else(|| PathBuf::from(path)))?;
        self.refuse_endless(&script)?;
        Ok(script)
    }

    fn check(&self, script: &Script) -> Result<Arc<Checked>> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |checked: &Arc<Checked>| checked.script.name == script.name && checked.script.text == script.text;
        let known = last().clone().filter(same);
        if let Some(checked) = known {
            return Ok(checked);
        }
        let checked = Arc::new(self.host.check(script)?);
        *last() = Some(checked.clone());
        Ok(checked)
    }

    /// Scripts that start each other in a circle would never end.
    fn refuse_endless(&self, script: &Script) -> Result<()> {
        let begun = self.chain.iter().position(|other| place(other) == place(script));
        let fault = match begun {
            Some(_) => "scripts run each other in a circle",
            None if self.chain.len() >= MAX_DEPTH => "scripts run each other too deep",
            None => return Ok(()),
        };
        let links: Vec<&str> =
            self.chain[begun.unwrap_or(0)..].iter().chain([script]).map(|script| script.name.as_str()).collect();
        Err(Error::new(Kind::Usage, format!("{fault}: {}", links.join(" runs "))))
    }
}

impl Nested for Nesting {
    fn run_script(
        &self,
        parent: &Run,
        path: &str,
        options: &BTreeMap<String, String>,
        log: Option<&str>,
    ) -> Result<serde_json::Value> {
        let script = self.find(path)?;
        let checked = self.check(&script)?;
        let args = arguments(&checked.options, options)?;
        let mode = if parent.gate.is_dry() { Mode::Dry } else { Mode::Live };
        let reporter = match log {
            // A dry run leaves the disk as it was.
            Some(_) if mode == Mode::Dry => parent.gate.reporter().clone(),
            Some(file) => crate::logfile::tee(parent.gate.reporter().clone(), file)?,
            None => parent.gate.reporter().clone(),
        };
        let without = script::left_out(options);
        let above = self.chain.clone();
        let begun = Begun { args, options: options.clone(), without, mode, reporter, again: None, above };
        let outcome = self.host.run_on(parent.site.clone(), &checked, begun)?;
        parent.gate.absorb(&outcome.plan, outcome.subject.as_ref().map(|subject| subject.email.as_str()));
        Ok(serde_json::to_value(outcome.summary()).unwrap_or_default())
    }

    fn check_options(&self, parent: &Run, path: &str, options: &[BTreeMap<String, String>]) -> Result<Vec<Vec<Error>>> {
        let checked = self.check(&self.find(path)?)?;
        options
            .iter()
            .map(|given| {
                let mut faults = script::faults(&checked.options, given);
                for (option, name) in script::stores(&checked.options, given) {
                    match unknown_store(parent, name) {
                        // A directory that does not answer is no fault of a line.
                        Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Usage) => return Err(error),
                        Err(error) => faults.push(named(option, error)),
                        Ok(()) => {}
                    }
                }
                Ok(faults)
            })
            .collect()
    }
}

/// Fails where the directory knows no such mail store.
fn unknown_store(run: &Run, name: &str) -> Result<()> {
    let server = run.site.server(&name.parse()?)?;
    match server.is_store() {
        true => Ok(()),
        false => Err(Error::new(Kind::NotFound, format!("server {}: is not a mail store", server.host))),
    }
}

/// The error of an option's value, under the option's name.
fn named(option: &str, error: Error) -> Error {
    let named = Error::new(error.kind(), format!("--{}: {error}", script::flag(option)));
    match error.advice() {
        Some(hint) => named.hint(hint),
        None => named,
    }
}

/// Where a script came from, however it was called.
fn place(script: &Script) -> PathBuf {
    let path = script.path.as_ref().and_then(|path| path.canonicalize().ok());
    path.unwrap_or_else(|| PathBuf::from(&script.name))
}
