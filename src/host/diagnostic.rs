//! What is wrong with a script, shown where it stands.

use std::fmt;

use rhai::{EvalAltResult, ParseError, Position};

use super::script::Script;
use super::shipped;
use super::spelling::closest;
use crate::api::Fault;
use crate::error::{Error, Kind};

/// A fault of a script, found before it ran.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Diagnostic {
    /// The script or module it stands in.
    pub source: String,
    /// Line, from 1; none when it is not known.
    pub line: Option<usize>,
    /// Column, from 1.
    pub column: Option<usize>,
    /// The text of that line.
    pub excerpt: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A fault at `position` of the text `text` that is called `source`.
    pub(super) fn new(source: &str, text: Option<&str>, position: Position, message: impl Into<String>) -> Self {
        let excerpt = position.line().and_then(|n| text?.lines().nth(n - 1)).map(str::to_owned);
        Self {
            source: source.to_owned(),
            line: position.line(),
            column: position.position(),
            excerpt,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// What the compiler says of a script.
    pub(super) fn from_parse(script: &Script, error: &ParseError) -> Self {
        let text = error.0.to_string();
        let hint = match &*error.0 {
            rhai::ParseErrorType::VariableUndefined(name) if name == "args" => {
                Some("closures see `args`, functions do not: hand them what they need".to_owned())
            }
            rhai::ParseErrorType::VariableUndefined(_) => Some("declare it with `let` before it is used".to_owned()),
            _ => None,
        };
        Self::new(&script.name, Some(&script.text), error.1, lower(&text)).hint(hint)
    }

    /// What went wrong while modules were resolved.
    pub(super) fn from_resolving(script: &Script, error: &EvalAltResult) -> Self {
        match error {
            EvalAltResult::ErrorParsing(kind, at) => Self::from_parse(script, &ParseError(Box::new(kind.clone()), *at)),
            EvalAltResult::ErrorModuleNotFound(name, at) => {
                let near = closest(name, shipped::module_names().into_iter())
                    .map(|n| format!("did you mean `{n}`?"))
                    .unwrap_or_else(|| format!("the standard library has {}", shipped::module_names().join(", ")));
                let at = if at.is_none() { import_position(&script.text, name) } else { *at };
                Self::new(&script.name, Some(&script.text), at, format!("no module `{name}`")).hint(Some(near))
            }
            // The innermost module is the one at fault.
            EvalAltResult::ErrorInModule(_, inner, _) if matches!(**inner, EvalAltResult::ErrorInModule(..)) => {
                Self::from_resolving(script, inner)
            }
            EvalAltResult::ErrorInModule(source, inner, _) => {
                let text = std::fs::read_to_string(source).ok();
                Self::new(source, text.as_deref(), inner.position(), words(inner))
            }
            other => Self::new(&script.name, Some(&script.text), other.position(), words(other)),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let (Some(line), Some(excerpt)) = (self.line, &self.excerpt) {
            let gutter = line.to_string().len();
            write!(f, "\n {:gutter$} |\n {line} | {excerpt}\n {:gutter$} | ", "", "")?;
            write!(f, "{:>width$}", "^", width = self.column.unwrap_or(1))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n help: {hint}")?;
        }
        Ok(())
    }
}

impl From<Vec<Diagnostic>> for Error {
    fn from(found: Vec<Diagnostic>) -> Self {
        let text: Vec<_> = found.iter().map(ToString::to_string).collect();
        Error::new(Kind::Usage, text.join("\n"))
    }
}

/// Rhai does not say where a literal `import` stood when its module is missing.
fn import_position(text: &str, name: &str) -> Position {
    let wanted = format!("import \"{name}\"");
    let found = text.lines().enumerate().find_map(|(n, line)| line.find(&wanted).map(|c| (n + 1, c + 1)));
    match found {
        Some((line, column)) if line <= u16::MAX.into() && column <= u16::MAX.into() => {
            Position::new(line as u16, column as u16)
        }
        _ => Position::NONE,
    }
}

/// The text of a Rhai error without its trailing `(line 3, position 4)`.
pub(super) fn without_position(error: &EvalAltResult) -> String {
    let text = error.to_string();
    match text.rfind(" (line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// What an error says: one of ours in its own words.
fn words(error: &EvalAltResult) -> String {
    match error {
        EvalAltResult::ErrorRuntime(value, _) if value.is::<Fault>() => {
            value.clone().cast::<Fault>().error().to_string()
        }
        other => lower(&without_position(other)),
    }
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
