//! Places where tests make a run die, fail or stand still: before and after every operation, and before and after
//! everything that is undone. They are only there in builds with the feature `failpoints`; without it this is nothing.

use crate::error::Result;

/// What comes by a failpoint.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "failpoints"), expect(dead_code, reason = "only failpoints ask who passes"))]
pub(super) enum Passing<'a> {
    /// The operation with this number and name.
    Operation(u64, &'a str),
    /// The undo with this number: the first that is carried out is 1.
    Undo(u64),
}

/// Does what the environment's `ZLM_FAILPOINT` says, a list with commas between: `12.before=kill`, `12.after=error`,
/// `stage.after=pause` (stopped until somebody continues the process), `switch_to:4.after=kill` (the fourth operation of
/// that name), `undo1.before=kill`.
#[cfg(feature = "failpoints")]
pub(super) fn reached(passing: Passing<'_>, after: bool) -> Result<()> {
    use crate::error::{Error, Kind};

    let Ok(wanted) = std::env::var("ZLM_FAILPOINT") else { return Ok(()) };
    let when = if after { "after" } else { "before" };
    let places = match passing {
        Passing::Operation(number, name) => {
            let nth = format!("{name}:{}.{when}", count(name, after));
            vec![format!("{number}.{when}"), format!("{name}.{when}"), nth]
        }
        Passing::Undo(number) => vec![format!("undo{number}.{when}")],
    };
    let found = wanted.split(',').find_map(|point| {
        let (place, action) = point.split_once('=')?;
        places.iter().any(|here| here == place).then_some((place, action))
    });
    let Some((place, action)) = found else { return Ok(()) };
    let this = rustix::process::getpid();
    let signal = |signal| rustix::process::kill_process(this, signal);
    match action {
        "kill" => drop(signal(rustix::process::Signal::KILL)),
        "pause" => drop(signal(rustix::process::Signal::STOP)),
        _ => {
            let error = Error::new(Kind::Io, format!("failpoint {place}: failed as it was told to"));
            // What fails after it happened is what a lost answer looks like.
            return Err(if after { error.code(super::AMBIGUOUS) } else { error });
        }
    }
    // A signal to oneself may take a moment to arrive at all threads.
    std::thread::sleep(std::time::Duration::from_millis(50));
    Ok(())
}

/// How many operations of a name have come to this place.
#[cfg(feature = "failpoints")]
fn count(name: &str, after: bool) -> u64 {
    use std::collections::HashMap;
    use std::sync::{Mutex, PoisonError};

    static PASSED: Mutex<Option<HashMap<(String, bool), u64>>> = Mutex::new(None);
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let count = passed.get_or_insert_with(HashMap::new).entry((name.to_owned(), after)).or_default();
    *count += 1;
    *count
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(super) fn reached(_: Passing<'_>, _: bool) -> Result<()> {
    Ok(())
}
