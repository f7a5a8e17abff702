//! Errors as scripts see them: values with `kind`, `message`, `hint` and the place they came from.

use std::sync::Arc;

use rhai::plugin::NativeCallContext;
use rhai::{Dynamic, Engine, EvalAltResult};

use crate::error::{Error, Kind};

/// A place in a script.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Location {
    /// The script or module.
    pub source: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// An error that a script can catch: `catch (e) { if e.kind == "unreachable" ... }`.
#[derive(Clone, Debug)]
pub struct Fault {
    error: Arc<Error>,
    at: Option<Location>,
}

impl Fault {
    /// A fault without a place.
    pub fn new(error: Error) -> Self {
        Self { error: Arc::new(error), at: None }
    }

    /// The error behind it.
    pub fn error(&self) -> Arc<Error> {
        self.error.clone()
    }

    /// The error behind what a script failed with, where it was one of ours.
    pub(super) fn of(error: &EvalAltResult) -> Option<Arc<Error>> {
        match error.unwrap_inner() {
            EvalAltResult::ErrorRuntime(value, _) | EvalAltResult::ErrorTerminated(value, _) => {
                value.clone().try_cast::<Fault>().map(|fault| fault.error)
            }
            _ => None,
        }
    }

    /// Where the script called what failed. Kept here because a `throw` inside a `catch` replaces Rhai's own
    /// position.
    pub fn location(&self) -> Option<Location> {
        self.at.clone()
    }

    /// `error` thrown at the call that `ctx` stands for.
    ///
    /// A stop request cannot be caught: a script must not go on with what it was asked to leave. Nor can a lost
    /// claim: what the script would go on with may be another run's by now; nor a switch of which nobody knows.
    pub(crate) fn thrown(ctx: &NativeCallContext<'_>, error: Error) -> Box<EvalAltResult> {
        let position = ctx.call_position();
        let at = position.line().map(|line| Location {
            source: ctx.call_source().unwrap_or("script").to_owned(),
            line,
            column: position.position().unwrap_or(1),
        });
        let is_final = is_final(&error);
        let value = Dynamic::from(Self { error: Arc::new(error), at });
        Box::new(match is_final {
            true => EvalAltResult::ErrorTerminated(value, position),
            false => EvalAltResult::ErrorRuntime(value, position),
        })
    }
}

/// What a script gave back though it failed: the `value` of the map that it threw.
pub(crate) fn thrown_value(error: &EvalAltResult) -> Option<Dynamic> {
    match error.unwrap_inner() {
        EvalAltResult::ErrorRuntime(value, _) => value.read_lock::<rhai::Map>()?.get("value").cloned(),
        _ => None,
    }
}

/// Whether no script may go on after it.
pub(super) fn is_final(error: &Error) -> bool {
    error.kind() == Kind::Cancelled || error.is_lost() || error.is_unsettled()
}

/// Makes faults readable for scripts.
pub(super) fn register(engine: &mut Engine) {
    let text = |value: Option<&str>| value.map_or(Dynamic::UNIT, |v| v.to_owned().into());
    engine
        .register_type_with_name::<Fault>("Fault")
        .register_get("kind", |f: &mut Fault| f.error.kind().word())
        .register_get("message", |f: &mut Fault| f.error.to_string())
        .register_get("hint", move |f: &mut Fault| text(f.error.advice()))
        .register_get("code", move |f: &mut Fault| text(f.error.peer_code()))
        .register_get("line", |f: &mut Fault| f.at.as_ref().map_or(0, |at| at.line as i64))
        .register_get("column", |f: &mut Fault| f.at.as_ref().map_or(0, |at| at.column as i64))
        .register_get("source", move |f: &mut Fault| text(f.at.as_ref().map(|at| at.source.as_str())))
        .register_fn("to_string", |f: &mut Fault| f.error.to_string())
        .register_fn("to_debug", |f: &mut Fault| format!("{:?}", f.error));
}
