//! Rows between two real servers.

#![allow(missing_docs, clippy::unwrap_used)]

mod claims;
mod copy;
mod cut;
mod pool;
mod proof;
mod servers;
mod store;
