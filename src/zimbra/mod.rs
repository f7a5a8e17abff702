//! What is known of Zimbra without asking a server: ids, groups, blob paths, volumes, route keys, statuses.
//! Pure: no input, no output.

pub mod account;
pub mod blob;
pub mod entry;
pub mod ids;
pub mod route;
pub mod server;
pub mod volume;
