//! A store as its database knows it: its volumes and settings, the row of a mailbox, and what a move does with
//! that row.

mod aside;
mod barrier;
mod claim;
mod claims;
mod facts;
mod group;
mod hold;
mod kept;
mod mailbox;
mod objections;
mod refresh;
mod stage;
mod unstage;
mod zone;

pub use aside::{Aside, Share, put_shares, shares};
pub use barrier::barrier;
pub use claim::{Claim, Claimant, claim_of, note_copy};
pub use claims::Claims;
pub use facts::{Facts, facts};
pub use group::{GROUP_PREFIX, await_group, group_id, group_name, groups};
pub use hold::{Hold, Standing, held_by, hold, standing, take_over};
pub use kept::{counters, has_indexed, recount, row_differences, used_since};
pub use mailbox::{MailboxRow, mailbox_by_account, mailbox_by_id, mailboxes, publish, staged_for, unpublish};
pub use objections::objections;
pub use refresh::{Checkpoints, Steps, behind, checkpoints, refresh};
pub use stage::{IdFrom, Stage, Staged, placeholder, stage, would_stage};
pub use unstage::{Unstaged, unstage};
pub use zone::Zone;
