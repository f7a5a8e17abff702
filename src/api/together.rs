//! Closures that run at once. Rhai shares what a closure captures; threads that share it would trip over each other.

use rhai::plugin::NativeCallContext;
use rhai::{Array, Dynamic, EvalAltResult, FnPtr, Map};

use super::Fault;
use crate::error::{Error, Kind};

/// Makes closures fit to run at once. What only one of them captures stays what it is, and what it writes there is kept, as
/// in a step. Of what several capture each gets a copy that it cannot change: nobody could say whose change counts.
pub(super) fn part(closures: &mut [FnPtr]) {
    let cells: Vec<(usize, usize)> =
        closures.iter().enumerate().flat_map(|(at, f)| (0..f.curry().len()).map(move |n| (at, n))).collect();
    let mut several = vec![false; cells.len()];
    for (number, &(at, n)) in cells.iter().enumerate() {
        if several[number] {
            continue;
        }
        let mut value = closures[at].curry()[n].clone();
        if !value.is_shared() || holds_closure(&value.flatten_clone()) {
            several[number] = true;
            continue;
        }
        // Whatever is locked along with it is the same, or holds it.
        let Some(_lock) = value.write_lock::<Dynamic>() else {
            several[number] = true;
            continue;
        };
        for (other, &(of, m)) in cells.iter().enumerate() {
            if of != at && closures[of].curry()[m].is_locked() {
                (several[number], several[other]) = (true, true);
            }
        }
    }
    let mut several = several.into_iter();
    for closure in closures {
        let parted: Vec<Dynamic> = closure
            .curry()
            .iter()
            .map(|value| {
                if several.next().unwrap_or(true) { copy(value).into_read_only().into_shared() } else { value.clone() }
            })
            .collect();
        closure.set_curry(parted);
    }
}

/// Whether a value is, or has in it, a closure, which has captured more.
fn holds_closure(value: &Dynamic) -> bool {
    match (value.read_lock::<Array>(), value.read_lock::<Map>()) {
        (Some(array), _) => array.iter().any(holds_closure),
        (_, Some(map)) => map.values().any(holds_closure),
        _ => value.is_fnptr(),
    }
}

/// A copy that shares nothing.
fn copy(value: &Dynamic) -> Dynamic {
    let value = value.flatten_clone();
    if !holds_closure(&value) {
        return value;
    }
    if let Some(closure) = value.clone().try_cast::<FnPtr>() {
        let mut closure = closure;
        let own: Vec<Dynamic> =
            closure.curry().iter().map(|value| copy(value).into_read_only().into_shared()).collect();
        closure.set_curry(own);
        return Dynamic::from(closure);
    }
    if let Some(array) = value.read_lock::<Array>() {
        return array.iter().map(copy).collect::<Array>().into();
    }
    match value.read_lock::<Map>() {
        Some(map) => map.iter().map(|(name, value)| (name.clone(), copy(value))).collect::<Map>().into(),
        None => value.clone(),
    }
}

/// Says what to do where a closure changes what several have captured.
pub(super) fn explained(ctx: &NativeCallContext<'_>, error: Box<EvalAltResult>) -> Box<EvalAltResult> {
    let what = match error.unwrap_inner() {
        EvalAltResult::ErrorAssignmentToConstant(name, _) => format!("`{name}` is changed by a closure of `parallel`"),
        EvalAltResult::ErrorNonPureMethodCallOnConstant(name, _) => {
            format!("`{name}` changes what a closure of `parallel` captured")
        }
        _ => return error,
    };
    let error = Error::new(Kind::Script, what)
        .hint("what several of them capture they cannot change: let each give back a value, `parallel` returns them");
    Fault::thrown(ctx, error)
}
