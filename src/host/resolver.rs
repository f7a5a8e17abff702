//! Where `import` finds modules: beside the script, in a directory of the operator's, in the program.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread::ThreadId;

use rhai::{AST, Dynamic, Engine, EvalAltResult, Module, ModuleResolver, Position, Scope, Shared};

use super::shipped;
use crate::api::Fault;
use crate::error::{Error, Kind};

/// How many modules may be drawn in by one another, one inside the other.
const MAX_DEPTH: usize = 32;

/// Resolves a plain name (`account`) in the operator's directory, then in the program, and a name with a
/// slash (`./notice`) as a file beside the importing script.
pub(super) struct Library {
    stdlib: Option<PathBuf>,
    folder: Option<PathBuf>,
    /// Texts that a run was begun with; they win over everything, so that it goes on as it began.
    pinned: BTreeMap<String, (String, String)>,
    modules: RwLock<HashMap<String, Shared<Module>>>,
    /// What is being evaluated now, the importing module before the imported one; each thread of a script has its own.
    opening: Mutex<HashMap<ThreadId, Vec<String>>>,
}

impl Library {
    /// `stdlib` is the operator's directory, which wins over the program's modules; `folder` is the script's.
    pub(super) fn new(
        stdlib: Option<PathBuf>,
        folder: Option<PathBuf>,
        pinned: BTreeMap<String, (String, String)>,
    ) -> Self {
        Self { stdlib, folder, pinned, modules: RwLock::default(), opening: Mutex::default() }
    }

    /// Name for messages and text of the module `name`.
    pub(super) fn text(&self, name: &str) -> Option<(String, String)> {
        if let Some(pinned) = self.pinned.get(name) {
            return Some(pinned.clone());
        }
        let file = |folder: &Path| {
            let path = folder.join(name).with_extension("rhai");
            std::fs::read_to_string(&path).ok().map(|text| (path.display().to_string(), text))
        };
        if name.contains('/') {
            return self.folder.as_deref().and_then(file);
        }
        self.stdlib
            .as_deref()
            .and_then(file)
            .or_else(|| shipped::module(name).map(|(path, text)| (path.to_owned(), text.to_owned())))
    }

    fn compile(&self, engine: &Engine, name: &str, at: Position) -> Result<AST, Box<EvalAltResult>> {
        let (source, text) = self.text(name).ok_or_else(|| not_found(name, at))?;
        let mut ast = engine.compile(text).map_err(|e| {
            let inner = EvalAltResult::ErrorParsing(*e.0, e.1);
            Box::new(EvalAltResult::ErrorInModule(source.clone(), Box::new(inner), at))
        })?;
        ast.set_source(source);
        Ok(ast)
    }

    fn evaluate(&self, engine: &Engine, name: &str, at: Position) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let ast = self.compile(engine, name, at)?;
        let source = ast.source().unwrap_or(name).to_owned();
        let module = Module::eval_ast_as_new(Scope::new(), &ast, engine)
            .map_err(|e| Box::new(EvalAltResult::ErrorInModule(source, e, at)))?;
        Ok(module.into())
    }

    /// Notes that the module `name` is being evaluated; fails where that would never end.
    fn open(&self, name: &str, at: Position) -> Result<(), Box<EvalAltResult>> {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = opening.entry(std::thread::current().id()).or_default();
        let begun = chain.iter().position(|other| other == name);
        let fault = match begun {
            Some(_) => "modules import each other in a circle",
            None if chain.len() >= MAX_DEPTH => "modules import each other too deep",
            None => {
                chain.push(name.to_owned());
                return Ok(());
            }
        };
        let links = chain[begun.unwrap_or(0)..].iter().map(String::as_str).chain([name]).collect::<Vec<_>>();
        let error = Error::new(Kind::Usage, format!("{fault}: {}", links.join(" imports ")));
        Err(Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(Fault::new(error)), at)))
    }

    fn close(&self) {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let here = std::thread::current().id();
        if let Some(chain) = opening.get_mut(&here) {
            chain.pop();
            if chain.is_empty() {
                opening.remove(&here);
            }
        }
    }
}

impl ModuleResolver for Library {
    fn resolve(
        &self,
        engine: &Engine,
        _: Option<&str>,
        name: &str,
        at: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        // Each `import` asks again; a module is evaluated once.
        if let Some(module) = self.modules.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(module.clone());
        }
        self.open(name, at)?;
        let module = self.evaluate(engine, name, at);
        self.close();
        let module = module?;
        self.modules.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), module.clone());
        Ok(module)
    }

    fn resolve_ast(
        &self,
        engine: &Engine,
        _: Option<&str>,
        name: &str,
        at: Position,
    ) -> Option<Result<AST, Box<EvalAltResult>>> {
        Some(self.compile(engine, name, at))
    }
}

fn not_found(name: &str, at: Position) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorModuleNotFound(name.to_owned(), at))
}
