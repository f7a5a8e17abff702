//! Whatever fails, nobody loses mail: a move that fails leaves the mailbox as it was and its copy without a trace, or
//! says what is left to do. Each test is one failure.

#![allow(missing_docs, clippy::unwrap_used)]

mod budget;
mod databases;
mod ends;
mod files;
mod guards;
#[cfg(feature = "failpoints")]
mod killed;
#[cfg(feature = "failpoints")]
mod late;
mod meanwhile;
mod onward;
mod peers;
mod preflight;
mod probe;
mod racing;
mod retried;
mod room;
mod run;
mod runs;
mod set_aside;
mod signals;
mod site;
mod snapshot;
mod soap;
mod ssh;
mod state;
mod stores;
mod switched;
#[cfg(feature = "failpoints")]
mod taken_over;
