//! Commands and tunnels on a store, through the `ssh` program and one kept connection a store.
//!
//! rsync needs the program anyway, and with it come known hosts, keys, jump hosts and the operator's own
//! configuration. A [`Link`] keeps one authenticated connection; a [`Shell`] runs commands here or through a
//! link, with the same call; a [`RunDir`] holds the sockets.

mod child;
mod host;
mod link;
mod options;
mod quote;
mod refusal;
#[cfg(test)]
pub(crate) mod rig;
mod run_dir;
mod shell;
#[cfg(test)]
mod tests;
mod user;

pub use child::{Input, Limit, Output};
pub use host::check_host;
pub use link::Link;
pub use options::{Onward, Options};
pub use quote::quote;
pub use run_dir::RunDir;
pub use shell::Shell;
pub use user::User;
