//! Scripts that scripts start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::script::{self, Script, arguments};
use super::{Begun, Host};
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
}

impl Nesting {
    /// For `script`, which those in `above` started.
    pub(super) fn new(host: Host, script: &Script, above: Vec<Script>) -> Self {
        Self { host, chain: above.into_iter().chain([script.clone()]).collect() }
    }

    /// The script that `path` names: one beside the script that asks, or as `zlm run` takes it.
    fn find(&self, path: &str) -> Result<Script> {
        let asking = self.chain.last().and_then(|script| script.path.as_deref());
        let beside = asking.and_then(|asking| asking.parent()).map(|folder| folder.join(path)).filter(|p| p.exists());
        let script = Script::load(&beside.unwrap_or_else(|| PathBuf::from(path)))?;
        self.refuse_endless(&script)?;
        Ok(script)
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
        let checked = self.host.check(&script)?;
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
}

/// Where a script came from, however it was called.
fn place(script: &Script) -> PathBuf {
    let path = script.path.as_ref().and_then(|path| path.canonicalize().ok());
    path.unwrap_or_else(|| PathBuf::from(&script.name))
}
