//! What can go wrong when a mailbox is made or looked at.

use std::{fmt, io};

/// The result of everything in this crate that touches a store.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a mailbox could not be made or looked at.
#[derive(Debug)]
pub enum Error {
    /// The store's MariaDB refused or went away.
    Sql(mysql::Error),
    /// A file or a socket.
    Io(io::Error),
    /// The store is not as it was said to be.
    Refused(String),
}

impl Error {
    /// The store is not as it was said to be: `what` says which part, object first.
    pub fn refused(what: impl Into<String>) -> Self {
        Self::Refused(what.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql(e) => e.fmt(f),
            Self::Io(e) => e.fmt(f),
            Self::Refused(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

impl From<mysql::Error> for Error {
    fn from(e: mysql::Error) -> Self {
        Self::Sql(e)
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}
