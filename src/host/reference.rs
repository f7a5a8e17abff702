//! The reference of what scripts can call, made from the docs of the functions themselves.

use std::fmt::Write as _;

use rhai::Engine;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Function {
    name: String,
    signature: String,
    #[serde(default)]
    doc_comments: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    functions: Vec<Function>,
}

/// Every documented getter and native function as Markdown, in alphabetical order.
pub(super) fn markdown(engine: &Engine) -> String {
    let json = engine.gen_fn_metadata_to_json(false).unwrap_or_default();
    let metadata: Metadata = serde_json::from_str(&json).unwrap_or(Metadata { functions: Vec::new() });
    // How a handle prints is no call of its own.
    let shown = |f: &Function| !f.doc_comments.is_empty() && !matches!(f.name.as_str(), "to_string" | "to_debug");
    let mut functions: Vec<_> =
        metadata.functions.into_iter().filter(shown).map(|f| (signature(&f.signature), f)).collect();
    functions.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut page = String::from("# What scripts can call\n");
    for (signature, function) in functions {
        // Writing to a String cannot fail.
        let _ = write!(page, "\n## `{signature}`\n\n");
        for line in function.doc_comments.iter().flat_map(|block| block.lines()) {
            let line = line.trim_start();
            let line = line.strip_prefix("///").unwrap_or(line);
            let _ = writeln!(page, "{}", line.strip_prefix(' ').unwrap_or(line));
        }
    }
    page
}

/// A signature as a script's author reads it: without the context and the result wrapper, and a getter as it is used.
fn signature(text: &str) -> String {
    let text = text.replace("_: NativeCallContext, ", "").replace("ctx: NativeCallContext, ", "");
    let text = text.replace("ctx: NativeCallContext", "").replace(", Box<EvalAltResult>>", ">");
    let (call, result) = text.split_once(" -> ").unwrap_or((&text, ""));
    let unwrapped = ["Result<", "Scripted<"].iter().find_map(|wrapper| result.strip_prefix(wrapper)?.strip_suffix('>'));
    match (as_used(call), unwrapped.unwrap_or(result)) {
        (call, "" | "()") => call,
        (call, result) => format!("{call} -> {result}"),
    }
}

/// `Account.email` for `get$email(account: &mut Account)`, `Account[name: &str]` for an index; a function as it is.
fn as_used(call: &str) -> String {
    let getter = || {
        let (name, arguments) = call.strip_suffix(')')?.split_once('(')?;
        let (_, receiver) = arguments.split_once("&mut ")?;
        let (of, rest) = receiver.split_once(", ").unwrap_or((receiver, ""));
        match name.strip_prefix("get$") {
            Some(property) => Some(format!("{of}.{property}")),
            None if name == "index$get$" => Some(format!("{of}[{rest}]")),
            None => None,
        }
    };
    getter().unwrap_or_else(|| call.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_read_as_scripts_use_them() {
        for (is, shown) in [
            ("look(ctx: NativeCallContext, account: Account) -> Scripted<Survey>", "look(account: Account) -> Survey"),
            ("claim(ctx: NativeCallContext) -> Result<(), Box<EvalAltResult>>", "claim()"),
            ("get$email(account: &mut Account) -> String", "Account.email -> String"),
            ("get$ids(ctx: NativeCallContext, mv: &mut Move) -> Dynamic", "Move.ids -> Dynamic"),
            ("index$get$(account: &mut Account, name: &str) -> Array", "Account[name: &str] -> Array"),
        ] {
            assert_eq!(signature(is), shown);
        }
    }
}
