//! Lists of accounts, and scripts that run scripts.

use std::collections::BTreeMap;

use rhai::plugin::*;
use rhai::{Array, Map};

use super::options::{ReadList, RunEach, RunScript, decode};
use super::{Scripted, attempt, encode};
use crate::error::{Error, Kind, Result};
use crate::ops;
use crate::ops::batch::Batch;
use crate::ops::lists::{Check, Entry};

#[export_module]
pub mod lists {
    /// Reads a list of accounts: an address a line, or CSV with a header `email,dest`. Blank lines and lines that
    /// start with `#` are left out, columns whose name starts with `#` too. A line is one entry, whatever quotes it holds.
    ///
    /// Returns an array of maps, one an account: `email`, `line`, and `options`, the columns of the header. Fails with
    /// `usage`, naming every line that is wrong: its form, its encoding, an account that is there twice.
    ///
    /// In a plan: it reads.
    ///
    /// Example: `for entry in read_list("users.csv") { print(entry.email); }`
    #[rhai_fn(volatile, return_raw, name = "read_list")]
    pub fn read_list(ctx: NativeCallContext, path: &str) -> Scripted<Array> {
        read_list_options(ctx, path, Map::new())
    }

    /// The same for entries that a script will be run for: whatever can be known of that is known here, for every line.
    ///
    /// Options: `script`, and as `run_each` takes them `options` and `separate_log`. Fails with `usage` also for columns
    /// that are no option of the script, values of the wrong type, options that are missing, mail stores that the directory
    /// does not know, an account under two names, and a log that cannot be written.
    ///
    /// Example: `let entries = read_list(args.list, #{ script: "move.rhai", options: #{ dest: args.dest } });`
    #[rhai_fn(volatile, return_raw, name = "read_list")]
    pub fn read_list_options(ctx: NativeCallContext, path: &str, options: Map) -> Scripted<Array> {
        let entries = attempt(&ctx, |run| {
            let ReadList { script, options, separate_log } = decode("read_list", &options)?;
            let batch = script.map(|script| Batch { run, script, common: all_typed(options), separate_log });
            let check = batch.as_ref().map(|batch| -> Check<'_> { Box::new(|entries| batch.faults(entries)) });
            run.gate.pass(&ops::lists::ReadList { path: path.into(), check })
        })?;
        entries.iter().map(|entry| encode(&ctx, entry)).collect()
    }

    /// Runs a script for each entry of a list, and waits for all. One that fails stops no other. How each ended is printed
    /// at the end, and is in `entries` of `--json`, however this script ends; what did not begin is there as `not begun`.
    ///
    /// Arguments: the script, as `run_script` takes it; an array of maps with `email` and `options`, as `read_list` gives
    /// them. Returns an array of maps as `run_script` does, in the entries' order. Fails with `cancelled` once a stop was asked
    /// for: what runs is undone or ended, and nothing more is begun.
    ///
    /// Options: `jobs`, how many run at once (1); `options` of every entry, which its own win over; `separate_log`, whether
    /// each account's events go to a log of its own, ADDRESS.log in the present directory.
    ///
    /// In a plan: the script runs dry, one entry after the other.
    ///
    /// Example: `run_each("move.rhai", entries, #{ jobs: 4, options: #{ dest: args.dest } });`
    #[rhai_fn(volatile, return_raw)]
    pub fn run_each(ctx: NativeCallContext, script: &str, entries: Array, options: Map) -> Scripted<Array> {
        let outcomes = attempt(&ctx, |run| {
            let RunEach { options, jobs, separate_log } = decode("run_each", &options)?;
            let entries = entries.into_iter().map(entry).collect::<Result<Vec<_>>>()?;
            let batch = Batch { run, script: script.to_owned(), common: all_typed(options), separate_log };
            // A plan must come out in the order of the list.
            let jobs = if run.gate.is_dry() { 1 } else { jobs.unwrap_or(1) };
            batch.carry_out(entries, jobs)
        })?;
        outcomes.iter().map(|outcome| encode(&ctx, outcome)).collect()
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
            run.run_script(path, &all_typed(script_options), log.as_deref())
        })?;
        encode(&ctx, &outcome)
    }

    /// An error that says some of several things failed; the process ends with status 6.
    ///
    /// Example: `if failed > 0 { throw partial(failed + " of " + total + " failed"); }`
    #[rhai_fn(name = "partial")]
    pub fn partial(message: &str) -> Map {
        Map::from([("kind".into(), "partial".into()), ("message".into(), message.to_owned().into())])
    }

    /// The same with what the script gives back all the same: it is printed, and is `value` of `--json`.
    ///
    /// Example: `if total.problems > 0 { throw partial("problems were found", total); }`
    #[rhai_fn(name = "partial")]
    pub fn partial_value(message: &str, value: Map) -> Map {
        let mut error = partial(message);
        error.insert("value".into(), value.into());
        error
    }
}

/// An entry as a script has it.
fn entry(value: Dynamic) -> Result<Entry> {
    let wrong = || Error::new(Kind::Usage, "run_each: an entry is a map with `email` and `options`");
    let mut map = value.try_cast::<Map>().ok_or_else(wrong)?;
    let email = map.get("email").map(ToString::to_string).ok_or_else(wrong)?;
    let options = map.remove("options").and_then(Dynamic::try_cast::<Map>).unwrap_or_default();
    let line = map.get("line").and_then(|line| line.as_int().ok()).and_then(|line| u64::try_from(line).ok());
    Ok(Entry { email, options: all_typed(options), line: line.unwrap_or(0) })
}

/// A map of options as they are typed on the command line; one that is `()` is not given.
fn all_typed<N: ToString>(options: impl IntoIterator<Item = (N, Dynamic)>) -> BTreeMap<String, String> {
    let given = options.into_iter().filter(|(_, value)| !value.is_unit());
    given.map(|(name, value)| (name.to_string(), typed(value))).collect()
}

/// A value as it is typed on the command line: the items of a list with commas between them.
fn typed(value: Dynamic) -> String {
    match value.try_cast_result::<Array>() {
        Ok(items) => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        Err(value) => value.to_string(),
    }
}
