//! Moves that succeed, and runs that must change nothing, in a lab of real servers.

#![allow(missing_docs, clippy::unwrap_used)]

mod absent;
mod accounts;
mod batch;
mod bench;
mod claims;
mod contents;
mod dry;
mod groups;
mod life;
#[cfg(feature = "failpoints")]
mod reconcile;
mod reverse;
mod secrets;
mod third;
