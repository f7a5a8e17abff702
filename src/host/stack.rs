//! Room for scripts. How deep one may go is bounded by the engine; that much fits on a stack of its own, whatever thread
//! an embedding program calls from. And what panics in it fails as anything else does, so that it is undone.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::Builder;

use rhai::{Dynamic, EvalAltResult, Position};

use crate::api::Fault;
use crate::error::{Context, Error, Kind, Result};
use crate::parallel::STACK;

/// Does `work` on a stack of its own, and waits for it. A panic goes on in the caller.
///
/// Fails with [`Kind::Io`] where this host has no room for one more thread.
pub(super) fn roomy<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = Builder::new().name("script".to_owned()).stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.context(Kind::Io, || "script: starting a thread for it".to_owned())?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Evaluates a script; a panic, of an embedder's own function for one, is an error that no script catches.
pub(super) fn unbroken<T>(evaluate: impl FnOnce() -> Result<T, Box<EvalAltResult>>) -> Result<T, Box<EvalAltResult>> {
    catch_unwind(AssertUnwindSafe(evaluate)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("nobody knows why");
        let fault = Fault::new(Error::new(Kind::Script, format!("script: panicked: {text}")));
        Err(Box::new(EvalAltResult::ErrorTerminated(Dynamic::from(fault), Position::NONE)))
    })
}
