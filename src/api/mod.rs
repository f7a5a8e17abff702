//! What scripts see: one small module a subject. Each function decodes its arguments, hands an operation to
//! the run's gate, and encodes what came back. No logic lives here.

mod accounts;
mod cutover;
mod fault;
mod files;
mod flow;
#[expect(clippy::unwrap_used, reason = "what export_module makes unwraps arguments that it counted before")]
mod handles;
mod lists;
mod options;
mod rows;
mod stores;
mod together;

pub(crate) use fault::thrown_value;
pub use fault::{Fault, Location};

use std::sync::Arc;

use rhai::plugin::{NativeCallContext, RhaiResult};
use rhai::{Dynamic, Engine, EvalAltResult, exported_module};

use crate::error::{Error, Kind, Result};
use crate::run::Run;

/// What an API function gives back.
pub(crate) type Scripted<T> = Result<T, Box<EvalAltResult>>;

/// Registers everything that scripts can call.
pub fn register(engine: &mut Engine) {
    fault::register(engine);
    for module in [
        exported_module!(accounts::accounts),
        exported_module!(stores::stores),
        exported_module!(rows::rows),
        exported_module!(files::files),
        exported_module!(cutover::cutover),
        exported_module!(flow::flow),
        exported_module!(lists::lists),
        exported_module!(handles::handles),
    ] {
        engine.register_global_module(module.into());
    }
}

/// Where the map of options of the function `name` stands among its arguments, and the names it may hold.
pub fn option_names(name: &str) -> Option<(usize, Vec<&'static str>)> {
    options::TABLE.iter().find(|(function, _, _)| *function == name).map(|(_, position, names)| (*position, names()))
}

/// The run that a script belongs to.
fn run(ctx: &NativeCallContext<'_>) -> Scripted<Arc<Run>> {
    match ctx.tag().and_then(|tag| tag.clone().try_cast::<Arc<Run>>()) {
        Some(run) => Ok(run),
        None => Err(Fault::thrown(
            ctx,
            Error::new(Kind::Usage, format!("{}: called while scripts are only being read", ctx.fn_name()))
                .hint("the top level of a module may define functions and constants, nothing else"),
        )),
    }
}

/// Calls `body` with the run; its error is thrown where the script made the call.
fn attempt<T>(ctx: &NativeCallContext<'_>, body: impl FnOnce(&Run) -> Result<T>) -> Scripted<T> {
    let run = run(ctx)?;
    body(&run).map_err(|e| Fault::thrown(ctx, e))
}

/// Data as a script sees it.
fn encode(ctx: &NativeCallContext<'_>, value: &impl serde::Serialize) -> RhaiResult {
    rhai::serde::to_dynamic(value).map_err(|e| Fault::thrown(ctx, Error::new(Kind::Script, e.to_string())))
}

/// An array of values as a script sees it.
fn array<T: Into<Dynamic>>(values: impl IntoIterator<Item = T>) -> rhai::Array {
    values.into_iter().map(Into::into).collect()
}
