//! What a mailbox looks like, for the lab: where its files are, how to make one that hurts, how mail
//! arrives in it, and how to tell that a move lost nothing.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bencode;
pub mod error;
pub mod golden;
pub mod journal;
mod lmtp;
pub mod oracle;
pub mod seed;
pub mod volume;
pub mod writer;

pub use error::{Error, Result};
