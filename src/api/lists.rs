//! Lists of accounts, and scripts that run scripts.

use std::collections::BTreeMap;

use rhai::plugin::*;
use rhai::{Array, Map};

use super::options::{RunScript, decode};
use super::{Scripted, attempt, encode};
use crate::ops;

#[export_module]
pub mod lists {
    /// Reads a list of accounts: an address a line, or CSV with a header `email,dest`. Blank lines and lines that
    /// start with `#` are left out.
    ///
    /// Returns an array of maps, one an account, with the columns of the header (or `email`), and `line`. Fails
    /// with `data`, naming every line that is wrong, and `io`.
    ///
    /// In a plan: it reads.
    ///
    /// Example: `for entry in read_list("users.csv") { print(entry.email); }`
    #[rhai_fn(volatile, return_raw)]
    pub fn read_list(ctx: NativeCallContext, path: &str) -> Scripted<Array> {
        let entries = attempt(&ctx, |run| run.gate.pass(&ops::lists::ReadList { path: path.into() }))?;
        entries.iter().map(|entry| encode(&ctx, entry)).collect()
    }

    /// Runs another script, as `zlm run` would, and waits for its end. Its failure is no error here: it is in
    /// what comes back.
    ///
    /// Arguments: the script, beside this one or as `zlm run` takes it; a map of its options. Returns a map of
    /// `ok`, `code`, `email`, `message`, `hint`, `state`, `next`, `frozen_s`, `seconds`, `value`. Fails with `usage` for a
    /// script or an option that is wrong, and for a script that is at work already: it would run itself for ever.
    ///
    /// In a plan: the script runs dry; its entries are its own.
    ///
    /// Example: `let result = run_script("move.rhai", #{ email: entry.email, dest: args.dest });`
    #[rhai_fn(volatile, return_raw, name = "run_script")]
    pub fn run_script(ctx: NativeCallContext, path: &str, script_options: Map) -> RhaiResult {
        run_script_options(ctx, path, script_options, Map::new())
    }

    /// The same with options: `log` is a file for this run's events.
    #[rhai_fn(volatile, return_raw, name = "run_script")]
    pub fn run_script_options(ctx: NativeCallContext, path: &str, script_options: Map, options: Map) -> RhaiResult {
        let outcome = attempt(&ctx, |run| {
            let RunScript { log } = decode("run_script", &options)?;
            let typed: BTreeMap<String, String> = script_options
                .into_iter()
                .filter(|(_, value)| !value.is_unit())
                .map(|(name, value)| (name.to_string(), typed(value)))
                .collect();
            run.run_script(path, &typed, log.as_deref())
        })?;
        encode(&ctx, &outcome)
    }

    /// An error that says some of several runs failed; the process ends with status 6.
    ///
    /// Example: `if failed > 0 { throw partial(failed + " of " + total + " failed"); }`
    pub fn partial(message: &str) -> Map {
        Map::from([("kind".into(), "partial".into()), ("message".into(), message.to_owned().into())])
    }
}

/// A value as it is typed on the command line: the items of a list with commas between them.
fn typed(value: Dynamic) -> String {
    match value.try_cast_result::<Array>() {
        Ok(items) => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        Err(value) => value.to_string(),
    }
}
