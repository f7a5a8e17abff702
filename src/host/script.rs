//! A script before it runs: its text, what it says of itself, the options it declares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rhai::{AST, Dynamic, Map};
use serde::Deserialize;

use crate::error::{Context, Error, Kind, Result};

/// The largest script that is read, in bytes.
const MAX_SCRIPT: u64 = 1024 * 1024;

/// The option that names servers which do not answer and are told nothing. It is the run's: whatever flushes caches leaves
/// them out, on the way back too.
pub const WITHOUT: &str = "without";

/// The options of `zlm run` itself, as scripts would declare them.
const OWN_NAMES: [&str; 8] = ["help", "version", "dry_run", "json", "yes", "config", "stdlib", "verbose"];
/// Their short forms.
const OWN_LETTERS: [char; 3] = ['h', 'v', 'V'];

/// The type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionType {
    /// Any text.
    String,
    /// A whole number.
    Int,
    /// Present or not; takes no value on the command line.
    Bool,
    /// A path of this host.
    Path,
    /// A number of seconds, or `90s`, `5m`, `2h`.
    Duration,
    /// The name of a mail store; lists are refused that name one which the directory does not know.
    Store,
    /// Texts, given one by one or with commas between them; an array, which is empty where none is given.
    List,
}

/// One option that a script declares in its `const OPTIONS`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptOption {
    /// Its name, as in `--name` and `args.name`; words are joined with `_` in scripts and `-` on the command line.
    pub name: String,
    /// The type of its value; text where it is not given.
    #[serde(default = "text", rename = "type")]
    pub kind: OptionType,
    /// One line for `--help`.
    pub help: String,
    /// Whether a run without it is refused.
    #[serde(default)]
    pub required: bool,
    /// One letter for the short form.
    #[serde(default)]
    pub short: Option<String>,
    /// Its value when it is not given; without one it is `()`. (`default` is a reserved word of Rhai.)
    #[serde(default)]
    pub preset: Option<serde_json::Value>,
}

fn text() -> OptionType {
    OptionType::String
}

/// A script's text and where it came from.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its name for messages: the path as it was given.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The file it came from; none when it was embedded or given as text.
    pub path: Option<PathBuf>,
}

impl Script {
    /// Reads a script from a file, or, where no such file exists, from those that zlm ships: `move`,
    /// `move.rhai` and `scripts/move.rhai` all name the shipped one.
    ///
    /// Fails with [`Kind::Usage`] when there is neither, and [`Kind::Io`] when the file cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        match std::fs::metadata(path) {
            Ok(meta) if meta.len() > MAX_SCRIPT => {
                Err(Error::new(Kind::Usage, format!("{name}: a script of more than {MAX_SCRIPT} bytes")))
            }
            Ok(_) => {
                let text = std::fs::read_to_string(path).context(Kind::Io, || format!("{name}: reading the script"))?;
                Ok(Self { name, text, path: Some(path.to_owned()) })
            }
            Err(_) => match super::shipped::script(path) {
                Some((name, text)) => Ok(Self { name: name.to_owned(), text: text.to_owned(), path: None }),
                None => Err(Error::new(Kind::Usage, format!("{name}: no such script"))
                    .hint(format!("shipped scripts: {}", super::shipped::script_names().join(", ")))),
            },
        }
    }

    /// A script from its text.
    pub fn from_text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), path: None }
    }
}

/// The options that a compiled script declares, in its order.
pub(super) fn declared(script: &Script, ast: &AST) -> Result<Vec<ScriptOption>> {
    let constant = ast.iter_literal_variables(true, false).find(|(name, _, _)| *name == "OPTIONS");
    let Some((_, _, value)) = constant else { return Ok(Vec::new()) };
    let options: Vec<ScriptOption> = rhai::serde::from_dynamic(&value)
        .context(Kind::Usage, || format!("{}: const OPTIONS is not an array of option maps", script.name))?;
    for (at, option) in options.iter().enumerate() {
        let fault = |what: String| Error::new(Kind::Usage, format!("{}: {what}", script.name));
        declaration(option).map_err(|(what, hint)| fault(what).hint(hint))?;
        let mut before = options[..at].iter();
        if before.any(|other| other.name == option.name || other.short.is_some() && other.short == option.short) {
            return Err(fault(format!("option `{}`: its name or its letter is declared twice", option.name)));
        }
    }
    Ok(options)
}

/// Whether one option is declared well: what is wrong, and a hint.
fn declaration(option: &ScriptOption) -> Result<(), (String, String)> {
    let name = &option.name;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(good) {
        let hint = "names are lower-case letters, digits and _, and begin with a letter";
        return Err((format!("option name `{name}`"), hint.to_owned()));
    }
    // What the command has itself must mean the same for every script: who asks for help must get it.
    if OWN_NAMES.contains(&name.as_str()) {
        let hint = format!("zlm run has {}", OWN_NAMES.map(|own| format!("--{}", flag(own))).join(", "));
        return Err((format!("option `{name}`: --{} is an option of zlm run itself", flag(name)), hint));
    }
    if let Some(short) = &option.short {
        let mut letters = short.chars();
        let letter = letters.next().filter(|c| c.is_ascii_alphanumeric() && letters.next().is_none());
        if letter.is_none_or(|letter| OWN_LETTERS.contains(&letter)) {
            let hint = "one letter or digit; zlm run has -h, -v and -V itself";
            return Err((format!("option `{name}`: its short form `{short}`"), hint.to_owned()));
        }
    }
    match &option.preset {
        Some(preset) if !is_of(option.kind, preset) => {
            let kind = format!("{:?}", option.kind).to_lowercase();
            Err((format!("option `{name}`: its preset {preset} is no {kind}"), option.help.clone()))
        }
        _ => Ok(()),
    }
}

/// Whether a preset is a value of that type.
fn is_of(kind: OptionType, preset: &serde_json::Value) -> bool {
    match kind {
        OptionType::String | OptionType::Path | OptionType::Store => preset.is_string(),
        OptionType::Int => preset.is_i64(),
        OptionType::Bool => preset.is_boolean(),
        OptionType::List => preset.as_array().is_some_and(|items| items.iter().all(serde_json::Value::is_string)),
        OptionType::Duration => preset.as_f64().is_some_and(|seconds| seconds >= 0.0),
    }
}

/// Turns what was typed into the map that the script sees as `args`.
///
/// Fails with [`Kind::Usage`] on an option that the script does not declare, a missing required one, or a
/// value of the wrong type.
pub fn arguments(options: &[ScriptOption], given: &BTreeMap<String, String>) -> Result<Map> {
    let unknown = given.keys().find_map(|name| undeclared(options, name));
    unknown.map_or(Ok(()), Err)?;
    let mut args = Map::new();
    for option in options {
        args.insert(option.name.as_str().into(), value(option, given.get(&option.name))?);
    }
    Ok(args)
}

/// Everything for which [`arguments`] would fail.
pub(super) fn faults(options: &[ScriptOption], given: &BTreeMap<String, String>) -> Vec<Error> {
    let unknown = given.keys().filter_map(|name| undeclared(options, name));
    let wrong = options.iter().filter_map(|option| value(option, given.get(&option.name)).err());
    unknown.chain(wrong).collect()
}

/// The mail stores that options name, each with its option.
pub(super) fn stores<'a>(
    options: &'a [ScriptOption],
    given: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let stores = options.iter().filter(|option| option.kind == OptionType::Store);
    stores.filter_map(|option| Some((option.name.as_str(), given.get(&option.name)?.as_str())))
}

/// The error of an option that the script does not declare.
fn undeclared(options: &[ScriptOption], name: &str) -> Option<Error> {
    let names: Vec<_> = options.iter().map(|o| o.name.as_str()).collect();
    if names.contains(&name) {
        return None;
    }
    let error = Error::new(Kind::Usage, format!("--{}: no such option of this script", flag(name)));
    Some(match super::spelling::closest(name, names.iter().copied()) {
        Some(name) => error.hint(format!("did you mean `--{}`?", flag(name))),
        None => error.hint(format!(
            "it takes {}",
            names.iter().map(|n| format!("--{}", flag(n))).collect::<Vec<_>>().join(", ")
        )),
    })
}

/// An option's value as the script sees it.
fn value(option: &ScriptOption, given: Option<&String>) -> Result<Dynamic> {
    Ok(match (given, &option.preset) {
        (Some(text), _) => parse(option, text)?,
        (None, Some(preset)) => rhai::serde::to_dynamic(preset).unwrap_or(Dynamic::UNIT),
        (None, None) if option.required => {
            return Err(Error::new(Kind::Usage, format!("--{}: required, and not given", flag(&option.name)))
                .hint(option.help.clone()));
        }
        (None, None) if option.kind == OptionType::Bool => Dynamic::FALSE,
        (None, None) if option.kind == OptionType::List => rhai::Array::new().into(),
        (None, None) => Dynamic::UNIT,
    })
}

/// An option's name on the command line.
pub fn flag(name: &str) -> String {
    name.replace('_', "-")
}

fn parse(option: &ScriptOption, text: &str) -> Result<Dynamic> {
    let wrong = |expected: &str| {
        Error::new(Kind::Usage, format!("--{} {text}: not {expected}", flag(&option.name))).hint(option.help.clone())
    };
    match option.kind {
        OptionType::String | OptionType::Path | OptionType::Store if text.is_empty() => Err(wrong("a value")),
        OptionType::String | OptionType::Path | OptionType::Store => Ok(text.to_owned().into()),
        OptionType::List => Ok(listed(text).map(Dynamic::from).collect::<rhai::Array>().into()),
        OptionType::Int => text.parse::<i64>().map(Dynamic::from).map_err(|_| wrong("a whole number")),
        OptionType::Bool => match text {
            "true" | "yes" => Ok(Dynamic::TRUE),
            "false" | "no" => Ok(Dynamic::FALSE),
            _ => Err(wrong("true or false")),
        },
        OptionType::Duration => seconds(text).map(Dynamic::from).ok_or_else(|| wrong("a duration such as 90s, 5m, 2h")),
    }
}

/// The texts of a list.
fn listed(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned)
}

/// The servers that a run leaves out: the option [`WITHOUT`], of every script that declares it.
pub(super) fn left_out(options: &BTreeMap<String, String>) -> Vec<String> {
    options.get(WITHOUT).map(|hosts| listed(hosts).collect()).unwrap_or_default()
}

fn seconds(text: &str) -> Option<f64> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    number.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).map(|n| n * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &str, kind: OptionType, required: bool) -> ScriptOption {
        ScriptOption { name: name.into(), kind, help: "what it is".into(), required, short: None, preset: None }
    }

    #[test]
    fn values_are_typed() {
        let options = [option("email", OptionType::String, true), option("max_frozen", OptionType::Duration, false)];
        let given = BTreeMap::from([("email".into(), "a@b".into()), ("max_frozen".into(), "2m".into())]);
        let args = arguments(&options, &given).unwrap();
        assert_eq!(args["email"].clone().into_string().unwrap(), "a@b");
        assert_eq!(args["max_frozen"].as_float().unwrap(), 120.0);
    }

    #[test]
    fn lists_are_given_one_by_one_or_with_commas() {
        let options = [option(WITHOUT, OptionType::List, false)];
        let given = BTreeMap::from([(WITHOUT.into(), "proxy1.lab.test, store7.lab.test".into())]);
        let args = arguments(&options, &given).unwrap();
        assert_eq!(args[WITHOUT].clone().into_typed_array::<String>().unwrap(), ["proxy1.lab.test", "store7.lab.test"]);
        assert_eq!(left_out(&given).len(), 2);
        assert!(arguments(&options, &BTreeMap::new()).unwrap()[WITHOUT].read_lock::<rhai::Array>().unwrap().is_empty());
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_name() {
        let options = [option("max_frozen", OptionType::Duration, false)];
        let error = arguments(&options, &BTreeMap::from([("max_frozn".into(), "1".into())])).unwrap_err();
        assert_eq!(error.message(), "--max-frozn: no such option of this script");
        assert_eq!(error.advice(), Some("did you mean `--max-frozen`?"));
    }

    #[test]
    fn a_missing_required_option_is_refused() {
        let error = arguments(&[option("email", OptionType::String, true)], &BTreeMap::new()).unwrap_err();
        assert_eq!(error.message(), "--email: required, and not given");
    }

    #[test]
    fn durations() {
        assert_eq!(seconds("90"), Some(90.0));
        assert_eq!(seconds("250ms"), Some(0.25));
        assert_eq!(seconds("1h"), Some(3600.0));
        assert_eq!(seconds("-1s"), None);
        assert_eq!(seconds("1d"), None);
    }
}
