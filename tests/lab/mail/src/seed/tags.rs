//! Tags of users, and flags, which have rows like tags.

use mysql::Value;

use super::build::Build;
use super::{FIRST_ITEM, Spec};
use crate::Result;
use crate::bencode::{self, dict, encode};

/// Names of the mailbox's tags; their ids follow those of the items.
pub(super) const TAGS: [&str; 5] = ["Work", "Privé", "重要", "two words", "it's \"quoted\""];

/// The flags that every mailbox has rows for: ids and names.
pub const FLAGS: [(i32, &str); 19] = [
    (-1, "\\Sent"),
    (-2, "\\Attached"),
    (-3, "\\Answered"),
    (-4, "\\Forwarded"),
    (-5, "\\Copied"),
    (-6, "\\Flagged"),
    (-7, "\\Draft"),
    (-8, "\\Deleted"),
    (-9, "\\Notified"),
    (UNREAD, "\\Unread"),
    (-11, "\\Urgent"),
    (-12, "\\Bulk"),
    (VERSIONED, "\\Versioned"),
    (-15, "\\Popped"),
    (-16, "\\Note"),
    (-17, "\\Priority"),
    (-18, "\\Post"),
    (-19, "\\Muted"),
    (-24, "\\Invite"),
];

/// The flag of sent mail.
pub(super) const SENT: i32 = -1;
/// The flag of an original and of its copies.
pub(super) const COPIED: i32 = -5;
/// The flag that has a column of its own instead of a bit.
pub(super) const UNREAD: i32 = -10;
/// The flag of a document that has revisions.
pub(super) const VERSIONED: i32 = -13;

/// A colour that is none of the numbered ones.
const RGB: u32 = 0x0100_0000;

/// The bit in `flags` of the flag with this (negative) id.
pub(super) fn bit(flag: i32) -> i32 {
    1 << (-flag - 1)
}

pub(super) fn tag_id(spec: &Spec, n: u32) -> i32 {
    i32::try_from(FIRST_ITEM + spec.items + n).unwrap_or(i32::MAX)
}

/// Makes the rows of all tags and flags, which count what carries them: all of that must be there.
pub(super) fn fill(build: &mut Build<'_>) -> Result<()> {
    for (id, name) in FLAGS {
        row(build, id, name, Value::NULL, 0, Value::NULL)?;
    }
    for (name, n) in TAGS.into_iter().zip(0u32..) {
        let color = if n == 1 { RGB + 0x3f_80ff } else { n };
        let lifetime = dict([("lifetime", "365d".into())]);
        let policy =
            dict([("keep", bencode::Value::List(Vec::new())), ("purge", bencode::Value::List(vec![lifetime.into()]))]);
        let policy = if n == 2 { encode(&policy).into() } else { Value::NULL };
        let sequence = build.next_change();
        row(build, tag_id(build.spec, n), name, color.into(), sequence, policy)?;
    }
    Ok(())
}

fn row(build: &mut Build<'_>, id: i32, name: &str, color: Value, sequence: u32, policy: Value) -> Result<()> {
    let tally = build.tags.get(&id).copied().unwrap_or_default();
    build.group(
        "tag",
        "id, name, color, item_count, unread, listed, sequence, policy",
        &[
            id.into(),
            name.into(),
            color,
            tally.count.into(),
            tally.unread.into(),
            u8::from(id > 0).into(),
            sequence.into(),
            policy,
        ],
    )
}
