//! Finds what the compiler lets pass: calls of functions that do not exist, with the wrong number of
//! arguments, or with an option that the function does not take. A typo in what follows a failure must not
//! come to light in the middle of a migration.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, Position, Stmt};

use super::diagnostic::Diagnostic;
use super::spelling::closest;
use crate::api;

/// Function names with the numbers of arguments they take.
type Functions = BTreeMap<String, BTreeSet<usize>>;

/// Names that the language itself answers to.
const KEYWORDS: &[&str] =
    &["print", "debug", "type_of", "Fn", "call", "curry", "is_def_var", "is_def_fn", "is_shared", "this"];

/// A text that was compiled, under the name it is known by.
pub(super) struct Source<'a> {
    /// Name for messages.
    pub(super) name: &'a str,
    /// Its text, for excerpts.
    pub(super) text: &'a str,
    /// Its compiled form.
    pub(super) ast: &'a AST,
}

/// Checks every call in `source`; `modules` are the imported ones by path.
pub(super) fn calls(engine: &Engine, source: &Source<'_>, modules: &BTreeMap<String, AST>) -> Vec<Diagnostic> {
    let mut global = natives(engine);
    for function in source.ast.iter_functions() {
        global.entry(function.name.to_owned()).or_default().insert(function.params.len());
    }
    let aliases = aliases(source.ast, modules);
    let mut found = Vec::new();
    source.ast.walk(&mut |path: &[ASTNode<'_>]| {
        let call = match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, at))) => Some((call, *at, 0)),
            Some(ASTNode::Expr(Expr::MethodCall(call, at))) => Some((call, *at, 1)),
            Some(ASTNode::Stmt(Stmt::FnCall(call, at))) => Some((call, *at, 0)),
            _ => None,
        };
        if let Some((call, at, receiver)) = call {
            found.extend(check_call(source, &global, &aliases, call, at, receiver));
        }
        true
    });
    found
}

fn check_call(
    source: &Source<'_>,
    global: &Functions,
    aliases: &BTreeMap<String, Functions>,
    call: &FnCallExpr,
    at: Position,
    receiver: usize,
) -> Option<Diagnostic> {
    let name = call.name.as_str();
    let at_call = |message: String| Diagnostic::new(source.name, Some(source.text), at, message);
    if call.op_token.is_some() || !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return None;
    }
    let space: Vec<&str> = call.namespace.path.iter().map(|ident| ident.as_str()).collect();
    let (functions, shown) = match space.as_slice() {
        [] if KEYWORDS.contains(&name) => return None,
        [] => (global, name.to_owned()),
        [alias] => match aliases.get(*alias) {
            Some(functions) => (functions, format!("{alias}::{name}")),
            None => return None, // strict variables have refused an unknown module already
        },
        _ => return None,
    };
    let given = call.args.len() + receiver;
    let Some(arities) = functions.get(name) else {
        let near = closest(name, functions.keys().map(String::as_str)).map(|n| format!("did you mean `{n}`?"));
        return Some(at_call(format!("unknown function `{shown}`")).hint(near));
    };
    // A method call of a script's function hands the receiver over as `this`, not as an argument.
    let fits = arities.contains(&given) || (receiver == 1 && arities.contains(&(given - 1)));
    if !fits {
        let takes: Vec<_> = arities.iter().map(ToString::to_string).collect();
        return Some(at_call(format!("`{shown}` takes {} arguments, not {given}", takes.join(" or "))));
    }
    if space.is_empty() { check_options(source, call, receiver) } else { None }
}

/// Calls of a module's own functions that Rhai may hand to another module's function of the same name: inside a
/// call from module to module it looks a plain name up in every module on the way, private functions included.
pub(super) fn clashes(source: &Source<'_>, others: &[&AST]) -> Vec<Diagnostic> {
    let defines = |ast: &AST, name: &str, arguments: usize| {
        ast.iter_functions().any(|f| f.name == name && f.params.len() == arguments)
    };
    let mut found = Vec::new();
    source.ast.walk(&mut |path: &[ASTNode<'_>]| {
        let (call, at) = match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at))) => (call, *at),
            _ => return true,
        };
        let (name, arguments) = (call.name.as_str(), call.args.len());
        let own = call.namespace.is_empty() && defines(source.ast, name, arguments);
        if own && let Some(other) = others.iter().find(|other| defines(other, name, arguments)) {
            let elsewhere = other.source().unwrap_or("the script");
            let message = format!("`{name}` with {arguments} arguments is a function of {elsewhere} too");
            let hint = "a plain call may reach the other one: give yours another name";
            found.push(Diagnostic::new(source.name, Some(source.text), at, message).hint(Some(hint.to_owned())));
        }
        true
    });
    found
}

/// A literal map of options may only hold names that the function knows.
fn check_options(source: &Source<'_>, call: &FnCallExpr, receiver: usize) -> Option<Diagnostic> {
    let (position, known) = api::option_names(call.name.as_str())?;
    let argument = call.args.get(position.checked_sub(receiver)?)?;
    let (given, at): (Vec<String>, Position) = match argument {
        Expr::Map(map, at) => (map.0.iter().map(|(name, _)| name.name.to_string()).collect(), *at),
        Expr::DynamicConstant(value, at) => {
            (value.read_lock::<rhai::Map>()?.keys().map(ToString::to_string).collect(), *at)
        }
        _ => return None,
    };
    let unknown = given.into_iter().find(|name| !known.contains(&name.as_str()))?;
    let near = closest(&unknown, known.iter().copied())
        .map(|n| format!("did you mean `{n}`?"))
        .unwrap_or_else(|| format!("it takes {}", known.join(", ")));
    let message = format!("`{}` has no option `{unknown}`", call.name);
    Some(Diagnostic::new(source.name, Some(source.text), at, message).hint(Some(near)))
}

/// Every native function of the engine, the standard packages' included.
fn natives(engine: &Engine) -> Functions {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Function {
        name: String,
        num_params: usize,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        functions: Vec<Function>,
    }
    let json = engine.gen_fn_metadata_to_json(true).unwrap_or_default();
    let metadata: Metadata = serde_json::from_str(&json).unwrap_or(Metadata { functions: Vec::new() });
    let mut functions = Functions::new();
    for function in metadata.functions {
        functions.entry(function.name).or_default().insert(function.num_params);
    }
    functions
}

/// The functions behind each `import ... as alias`.
fn aliases(ast: &AST, modules: &BTreeMap<String, AST>) -> BTreeMap<String, Functions> {
    let mut aliases = BTreeMap::new();
    for (path, alias) in imports(ast) {
        let (Some(alias), Some(module)) = (alias, modules.get(&path)) else { continue };
        let mut functions = Functions::new();
        for function in module.iter_functions().filter(|f| f.access == rhai::FnAccess::Public) {
            functions.entry(function.name.to_owned()).or_default().insert(function.params.len());
        }
        aliases.insert(alias, functions);
    }
    aliases
}

/// Path and alias of every literal import.
pub(super) fn imports(ast: &AST) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, _))) = path.last()
            && let Expr::StringConstant(name, _) = &import.0
        {
            let alias = import.1.name.to_string();
            found.push((name.to_string(), (!alias.is_empty()).then_some(alias)));
        }
        true
    });
    found
}
