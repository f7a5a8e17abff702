//! Undoing what a run did.

pub use crate::journal::Undo;

use crate::error::Error;

/// What came of a roll-back.
#[derive(Debug, Default)]
pub struct Rollback {
    /// What was undone, in the order it was.
    pub undone: Vec<String>,
    /// What could not be undone, and why.
    pub failed: Vec<(String, Error)>,
}
