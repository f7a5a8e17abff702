//! The host of scripts: compiles and checks them whole, runs them, and says how a run ended.

mod captures;
mod check;
mod diagnostic;
mod engine;
mod finish;
mod nesting;
mod outcome;
mod reconcile;
mod reference;
mod resolver;
mod reversal;
mod script;
mod shipped;
mod spelling;
mod stack;

pub use crate::api::Location;
pub use diagnostic::Diagnostic;
pub use outcome::{Entered, Failure, Outcome};
pub use reconcile::Reconciled;
pub use reversal::REVERSE;
pub use script::{OptionType, Script, ScriptOption, WITHOUT, arguments, flag};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nesting::Nesting;
use outcome::Next;
use resolver::Library;
use rhai::{AST, Dynamic, Engine, Map, Scope};

use crate::cancel::Cancel;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::gate::{Gate, Mode};
use crate::journal::{Journal, Pinned, Record, RunJournal};
use crate::report::{Event, SharedReporter, Silent};
use crate::run::{Asker, Run};
use crate::site::Site;

/// How deep what a script gives back may be nested; readers of JSON go about so far.
const MAX_VALUE_DEPTH: usize = 100;

/// Runs scripts on a Zimbra site.
///
/// Cheap to clone; clones share the configuration and the stop flag.
#[derive(Clone)]
pub struct Host {
    config: Arc<Config>,
    reporter: SharedReporter,
    cancel: Cancel,
    stdlib: Option<PathBuf>,
    extensions: Vec<engine::Extension>,
    asker: Option<Asker>,
    journal: Option<PathBuf>,
    pinned: BTreeMap<String, (String, String)>,
}

/// A script that was compiled and checked, and what it says of itself.
pub struct Checked {
    /// The script.
    pub script: Script,
    /// The options it declares, in its order.
    pub options: Vec<ScriptOption>,
    /// What its `//!` lines say: paragraphs, with an empty line between them.
    pub about: String,
    /// The modules it imports: name, where from, text.
    modules: BTreeMap<String, (String, String)>,
    ast: AST,
}

impl Host {
    /// A host for the site that `config` describes; it connects to nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            reporter: Arc::new(Silent),
            cancel: Cancel::default(),
            stdlib: None,
            extensions: Vec::new(),
            asker: None,
            journal: None,
            pinned: BTreeMap::new(),
        }
    }

    /// Sends the events of all runs to `reporter`.
    pub fn reporter(mut self, reporter: SharedReporter) -> Self {
        self.reporter = reporter;
        self
    }

    /// Uses `cancel` as the stop flag of all runs.
    pub fn cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Keeps what live runs do in the journal at `directory`, so that one that died can be taken up again.
    pub fn journal(mut self, directory: PathBuf) -> Self {
        self.journal = Some(directory);
        self
    }

    /// Lets modules in `directory` win over those of the standard library.
    pub fn stdlib(mut self, directory: Option<PathBuf>) -> Self {
        self.stdlib = directory;
        self
    }

    /// Lets scripts ask the operator.
    pub fn asker(mut self, asker: Asker) -> Self {
        self.asker = Some(asker);
        self
    }

    /// Adds an embedder's own functions and modules to every engine.
    pub fn extend(mut self, with: impl Fn(&mut Engine) + Send + Sync + 'static) -> Self {
        self.extensions.push(Arc::new(with));
        self
    }

    /// The names of the scripts that are part of the program.
    pub fn shipped_scripts() -> Vec<&'static str> {
        shipped::script_names()
    }

    /// The reference of everything that scripts can call, as Markdown, made from the functions' own docs.
    pub fn reference(&self) -> String {
        reference::markdown(&engine::compiler(self.library(None), &self.extensions))
    }

    /// Compiles a script and all it imports, and checks every call in them. Nothing of it is run.
    ///
    /// Fails with [`Kind::Usage`]; the message shows each fault with its line.
    pub fn check(&self, script: &Script) -> Result<Checked> {
        stack::roomy(|| self.checked(script))
    }

    fn checked(&self, script: &Script) -> Result<Checked> {
        let folder = script.path.as_ref().and_then(|p| p.parent()).map(ToOwned::to_owned);
        let library = self.library(folder.clone());
        let engine = engine::compiler(self.library(folder), &self.extensions);
        let ast = compile(&engine, script).map_err(crate::error::Error::from)?;
        let (found, modules) = check_all(&engine, &library, script, &ast);
        if !found.is_empty() {
            return Err(found.into());
        }
        Ok(Checked {
            options: script::declared(script, &ast)?,
            script: script.clone(),
            about: about(&ast),
            modules,
            ast,
        })
    }

    /// Runs a checked script with `options` as typed, and gives back how it ended, a failure included.
    ///
    /// Fails only where nothing was begun: with [`Kind::Usage`] for wrong options
    /// and [`Kind::Config`] for a site that is not described well enough.
    pub fn run(&self, checked: &Checked, options: &BTreeMap<String, String>, mode: Mode) -> Result<Outcome> {
        let args = arguments(&checked.options, options)?;
        let site = Arc::new(Site::new(self.config.clone(), self.cancel.clone())?);
        let without = script::left_out(options);
        let reporter = self.reporter.clone();
        let above = Vec::new();
        let begun = Begun { args, options: options.clone(), without, mode, reporter, again: None, above };
        self.run_on(site, checked, begun)
    }

    /// Takes a run up again that died, or that waits for something to be put right: its pinned script runs from the
    /// top, and what was done gives what it gave. It leaves the servers out that it left out, and `without`.
    ///
    /// Fails with [`Kind::NotFound`], [`Kind::Held`] while it is at work, [`Kind::Usage`] when it has ended, and
    /// [`Kind::Refused`] when part of it was undone, or a server that is to be left out answers.
    pub fn resume(&self, run: &str, without: &[String]) -> Result<Outcome> {
        let journal = self.open_journal()?;
        let record = journal.record(run)?;
        if record.state.is_over() {
            return Err(Error::new(Kind::Usage, format!("run {run}: has ended: {}", record.state.word())));
        }
        if journal.is_undone_in_part(run)? {
            let message = format!("run {run}: was undone in part, so it cannot go on where it stopped");
            return Err(
                Error::new(Kind::Refused, message).hint(format!("zlm rollback {run}, then start the script anew"))
            );
        }
        let Pinned { script, text, modules, options } = record.pinned.clone();
        let host = Self { pinned: modules, ..self.clone() };
        let checked = host.check(&Script::from_text(script, text))?;
        let args = arguments(&checked.options, &options)?;
        let site = Arc::new(Site::new(self.config.clone(), self.cancel.clone())?);
        let without = outcome::left_out(&site, &record, without)?;
        let again = Some((journal.take_up(run)?, record));
        let (mode, reporter) = (Mode::Live, self.reporter.clone());
        let begun = Begun { args, options, without, mode, reporter, again, above: Vec::new() };
        host.run_on(site, &checked, begun)
    }

    /// Undoes a run that died or was left, newest effect first.
    ///
    /// Fails as [`Host::resume`] does, and with [`Kind::Refused`] when the mailbox has
    /// its new home: then a run only goes forward.
    pub fn roll_back(&self, run: &str, without: &[String]) -> Result<Outcome> {
        let journal = self.open_journal()?;
        let record = journal.record(run)?;
        if record.state.is_over() {
            return Err(Error::new(Kind::Usage, format!("run {run}: has ended: {}", record.state.word())));
        }
        let cancel = self.cancel.patient();
        let site = Arc::new(Site::new(self.config.clone(), cancel.clone())?);
        let without = outcome::left_out(&site, &record, without)?;
        let journal = journal.take_up(run)?;
        let gate = Gate::new(run, Mode::Live, &cancel, self.reporter.clone()).with_journal(journal)?;
        let run = Arc::new(Run::new(gate, &site, self.asker.clone()).leaving_out(without));
        outcome::roll_back(&run, &record, &self.cancel)
    }

    /// This host's journal. Fails with [`Kind::Usage`] where it keeps none.
    pub fn open_journal(&self) -> Result<Journal> {
        match &self.journal {
            Some(directory) => Journal::open(directory),
            None => Err(Error::new(Kind::Usage, "journal: this host keeps none")),
        }
    }

    fn run_on(&self, site: Arc<Site>, checked: &Checked, begun: Begun) -> Result<Outcome> {
        stack::roomy(|| self.carried_out(site, checked, begun))
    }

    fn carried_out(&self, site: Arc<Site>, checked: &Checked, begun: Begun) -> Result<Outcome> {
        let started = std::time::Instant::now();
        let id = begun.again.as_ref().map_or_else(run_id, |(journal, _)| journal.run().to_owned());
        let mut gate = Gate::new(&id, begun.mode, &self.cancel, begun.reporter).patient(self.config.patience());
        let (again, record) = begun.again.unzip();
        let journal = match (again, begun.mode, &self.journal) {
            (Some(journal), _, _) => Some(journal),
            (None, Mode::Live, Some(_)) => {
                let Script { name, text, .. } = checked.script.clone();
                let pinned = Pinned { script: name, text, modules: checked.modules.clone(), options: begun.options };
                Some(self.open_journal()?.begin(&id, &pinned)?)
            }
            _ => None,
        };
        if let Some(journal) = journal {
            gate = gate.with_journal(journal)?;
        }
        let run = Arc::new(Run::new(gate, &site, self.asker.clone()).leaving_out(begun.without));
        run.set_nested(Arc::new(Nesting::new(self.clone(), &checked.script, begun.above)));
        let is_again = record.is_some();
        if let Some(record) = record {
            match outcome::take_up(&run, &record, Next::Resume, &self.cancel) {
                Ok(true) => {}
                Ok(false) => return outcome::had_ended(&run, &record, started),
                Err(error) => return outcome::not_taken_up(&run, &record, started, error),
            }
        }
        let mut engine = engine::compiler(self.library(None), &self.extensions);
        engine::attach(&mut engine, &run);
        let mut scope = scope(begun.args);
        let result = stack::unbroken(|| engine.eval_ast_with_scope::<Dynamic>(&mut scope, &checked.ast))
            .map(|value| presentable(&run, value));
        // One that fails in part says what it came to as well.
        let given = result.as_ref().err().and_then(|error| crate::api::thrown_value(error));
        let given = given.map(|value| presentable(&run, value));
        let mut outcome = outcome::settle(&run, started, result, is_again);
        if outcome.failure.is_some() && outcome.value.is_null() {
            let given = given.and_then(|value| serde_json::to_value(&value).ok());
            outcome.value = given.or_else(|| Entered::counted(&outcome.entries)).unwrap_or_default();
        }
        Ok(outcome)
    }

    fn library(&self, folder: Option<PathBuf>) -> Library {
        Library::new(self.stdlib.clone(), folder, self.pinned.clone())
    }
}

/// What a run begins with.
struct Begun {
    args: Map,
    options: BTreeMap<String, String>,
    /// Servers that it leaves out.
    without: Vec<String>,
    mode: Mode,
    reporter: SharedReporter,
    /// The journal of a run that is taken up again, and what it has of it.
    again: Option<(RunJournal, Record)>,
    /// The scripts that started this one, the first one first.
    above: Vec<Script>,
}

/// What a script gives back, unless it is nested deeper than those who read it as JSON go.
fn presentable(run: &Run, value: Dynamic) -> Dynamic {
    if !is_deeper(&value, MAX_VALUE_DEPTH) {
        return value;
    }
    let text = format!("what the script gives back is nested more than {MAX_VALUE_DEPTH} deep, and is left out");
    run.gate.emit(&Event::Warned { text });
    Dynamic::UNIT
}

fn is_deeper(value: &Dynamic, limit: usize) -> bool {
    let inner = |value: &Dynamic| limit == 0 || is_deeper(value, limit - 1);
    match (value.read_lock::<rhai::Array>(), value.read_lock::<Map>()) {
        (Some(array), _) => array.iter().any(inner),
        (_, Some(map)) => map.values().any(inner),
        _ => false,
    }
}

fn scope(args: Map) -> Scope<'static> {
    // A variable, not a constant: the optimizer would fold what a constant holds into the script.
    let mut scope = Scope::new();
    scope.push("args", args);
    scope
}

/// The `//!` lines of a script, a line a paragraph: whoever shows them knows how wide lines may be.
fn about(ast: &AST) -> String {
    let lines: Vec<&str> = ast.doc().lines().map(|l| l.trim_start_matches("//!").trim()).collect();
    lines.split(|line| line.is_empty()).map(|paragraph| paragraph.join(" ")).collect::<Vec<_>>().join("\n\n")
}

fn compile(engine: &Engine, script: &Script) -> Result<AST, Vec<Diagnostic>> {
    let scope = scope(Map::new());
    // Twice: the first says best where the text is wrong, the second draws the modules in.
    engine.compile_with_scope(&scope, &script.text).map_err(|e| vec![Diagnostic::from_parse(script, &e)])?;
    let mut ast = engine
        .compile_into_self_contained(&scope, &script.text)
        .map_err(|e| vec![Diagnostic::from_resolving(script, &e)])?;
    ast.set_source(script.name.as_str());
    Ok(ast)
}

/// What is wrong in a script and its modules, and the modules' places and texts.
fn check_all(
    engine: &Engine,
    library: &Library,
    script: &Script,
    ast: &AST,
) -> (Vec<Diagnostic>, BTreeMap<String, (String, String)>) {
    let mut modules = BTreeMap::new();
    let mut left: Vec<String> = check::imports(ast).into_iter().map(|(path, _)| path).collect();
    while let Some(path) = left.pop() {
        if modules.contains_key(&path) {
            continue;
        }
        if let Some(Ok(module)) = engine.module_resolver().resolve_ast(engine, None, &path, rhai::Position::NONE) {
            left.extend(check::imports(&module).into_iter().map(|(path, _)| path));
            modules.insert(path, module);
        }
    }
    let source = check::Source { name: &script.name, text: &script.text, ast };
    let mut found = check::calls(engine, &source, &modules);
    found.extend(captures::of_loops(&source));
    let texts: BTreeMap<_, _> = modules.keys().filter_map(|path| Some((path.clone(), library.text(path)?))).collect();
    for (path, module) in &modules {
        let (name, text) = texts.get(path).map_or(("module", ""), |(name, text)| (name, text));
        let source = check::Source { name, text, ast: module };
        found.extend(check::calls(engine, &source, &modules));
        found.extend(captures::of_loops(&source));
        let others = modules.iter().filter(|(other, _)| *other != path).map(|(_, module)| module);
        found.extend(check::clashes(&source, &others.chain([ast]).collect::<Vec<_>>()));
    }
    (found, texts)
}

/// A word that tells one run from another: a time in milliseconds, which no other run of this process has, and the
/// process.
fn run_id() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    // Accounts of a list begin at one moment.
    let next = |last: u64| now.max(last.saturating_add(1));
    let last = LAST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last))).unwrap_or(now);
    format!("{:x}-{:x}", next(last), std::process::id())
}

#[cfg(test)]
mod tests;
