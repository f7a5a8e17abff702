//! What a connection must find before it writes.

use std::sync::Arc;

use super::session::Session;
use crate::error::{Error, Kind, Result};

/// Asked at the beginning of every transaction, in that transaction: its row stays locked until the end, so that
/// whoever takes it away waits, and whoever comes later writes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// A locking read that gives a row.
    pub sql: String,
    /// What it means when there is none.
    pub lost: String,
}

/// The fences of a connection.
pub type Fences = Arc<Vec<Fence>>;

impl Fence {
    pub(super) fn pass(&self, session: &mut Session) -> Result<()> {
        match session.raw(&self.sql) {
            Ok(rows) if !rows.is_empty() => Ok(()),
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Err(Error::lost(self.lost.clone())),
        }
    }
}
