//! Operations, one file each: what it does, what it would do, and what would undo it. Everything that a script
//! does to the world, or reads from it, is one of these, handed to the gate.

pub mod abandon;
pub mod batch;
pub mod blobs;
pub mod claim;
pub mod dump_table;
pub mod finish;
pub mod flow;
pub mod flush_caches;
pub mod freeze;
pub mod index;
pub mod inject;
pub mod kept;
pub mod late;
pub mod ldap_get;
pub mod left;
pub mod lists;
pub mod look;
pub mod look_back;
pub mod notify;
pub mod pace;
pub mod peers;
mod probe;
mod readings;
pub mod reconcile;
pub mod rsync;
pub mod shares;
pub mod soap_modify;
pub mod stage;
pub mod state;
pub mod stores;
pub mod sweep;
pub mod switch;
pub mod undo;
pub mod verify;
pub mod within;
