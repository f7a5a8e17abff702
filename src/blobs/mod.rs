//! The files of a mailbox on a store: what is there, what must be, what differs.
//!
//! A store's files are writable by the user `zimbra`: a link or an odd name in them may be planted. Nothing
//! here follows a link, and every name that goes back out was parsed to numbers first.

mod access;
mod checksum;
mod difference;
mod index;
mod listing;
#[cfg(test)]
mod tests;
mod tree;

pub use access::{Writable, writable};
pub use checksum::{Compared, compare, unequal};
pub use difference::{Difference, Expected, difference, names};
pub use index::{IndexList, index_lists};
pub use listing::{File, Listing};
pub use tree::{Space, Tree};
