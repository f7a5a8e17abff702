//! Undo is data, never a closure: it must be possible to carry it out when the script is gone.

use serde::{Deserialize, Serialize};

/// What would undo an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// Name of the undoing operation.
    pub operation: String,
    /// Its arguments.
    pub arguments: serde_json::Value,
    /// What it does, for people.
    pub what: String,
}
