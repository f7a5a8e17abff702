//! Files from one store to another, by rsync.
//!
//! Both ends run as the user of the files, never as root; links and devices are not copied, no link is
//! followed; the exit status judges, never the error output. Works with rsync 3.1.2 and later.

mod ending;
mod names;
mod progress;
#[cfg(test)]
mod tests;
mod transfer;

pub use progress::{Progress, Transferred};
pub use transfer::{Place, Transfer, What};
