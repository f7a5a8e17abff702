//! Rows of a mailbox, from one store's MariaDB into another's: described, rewritten by column, moved where they
//! differ, and proved equal by content.

mod blobs;
mod clash;
mod difference;
mod dump;
mod fit;
mod inject;
mod layout;
mod over;
mod parts;
mod pipe;
mod prove;
mod read;
mod reread;
mod save;
mod shape;
mod tables;
mod write;

pub use blobs::{BLOB_TABLES, named_blobs, named_blobs_of};
pub use difference::Changes;
pub use dump::{Condition, Dump, MAILBOX_ID, Rewrite, Rewrites, dump_table, rewrite_ids};
pub use fit::{Comparison, compare_layouts};
pub use inject::{InjectOptions, Injected, Progress, Told, inject, inject_all, inject_compared, inject_held};
pub use layout::{Column, Key, Layout};
pub use parts::LONG;
pub use prove::{Compared, FreezeMark, Held, Proof, TableMark, TableProof, compare, freeze_mark, proof_of, prove};
pub use read::BlobRef;
pub use reread::{Proved, reread};
pub use save::{Count, count, save, statements};
pub use tables::{MailboxTable, count_rows, held_back, mailbox_dumps, mailbox_tables, unfit, with_mailbox_id};
