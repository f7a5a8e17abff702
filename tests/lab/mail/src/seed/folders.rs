//! Folders, whose rows hold the sums of what is in them, and the search index on disk.

use super::build::{Build, Item, NOW, kind};
use super::items::{FOLDERS, folder_id};
use super::text::{self, Meta, metadata};
use crate::Result;
use crate::volume::{make_dirs, write_file};

const ROOT: u32 = 11;
const USER_ROOT: u32 = 1;
const DEPTH: u32 = 60;
const WIDTH: u32 = 200;

/// System folders: id, parent, name.
const SYSTEM: [(u32, u32, &str); 20] = [
    (ROOT, ROOT, "ROOT"),
    (USER_ROOT, ROOT, "USER_ROOT"),
    (2, USER_ROOT, "Inbox"),
    (3, USER_ROOT, "Trash"),
    (4, USER_ROOT, "Junk"),
    (5, USER_ROOT, "Sent"),
    (6, USER_ROOT, "Drafts"),
    (7, USER_ROOT, "Contacts"),
    (8, ROOT, "Tags"),
    (9, ROOT, "Conversations"),
    (10, USER_ROOT, "Calendar"),
    (12, USER_ROOT, "Notebook"),
    (13, USER_ROOT, "Emailed Contacts"),
    (14, USER_ROOT, "Chats"),
    (15, USER_ROOT, "Tasks"),
    (16, USER_ROOT, "Briefcase"),
    (17, ROOT, "Comments"),
    (18, ROOT, "Profile"),
    (19, ROOT, "Unsubscribe"),
    (20, USER_ROOT, "Files shared with me"),
];

/// Makes all folders. Everything that lies in them must be there already.
pub(super) fn fill(build: &mut Build<'_>) -> Result<()> {
    for (id, parent, name) in SYSTEM {
        folder(build, id, parent, name)?;
    }
    for (name, n) in FOLDERS.iter().zip(0..) {
        let parent = if (1..4).contains(&n) { folder_id(build.spec, 0) } else { USER_ROOT };
        folder(build, folder_id(build.spec, n), parent, name)?;
    }
    if build.spec.hurts {
        nested(build)?;
        names(build)?;
        others(build)?;
    }
    index(build)
}

fn fresh(build: &mut Build<'_>, parent: u32, name: &str) -> Result<u32> {
    let id = build.next_id();
    folder(build, id, parent, name)?;
    Ok(id)
}

fn folder(build: &mut Build<'_>, id: u32, parent: u32, name: &str) -> Result<()> {
    let tally = build.folders.get(&id).copied().unwrap_or_default();
    let change = build.next_change();
    let metadata = metadata(vec![
        ("i4next", Meta::Int(i64::from(build.made.max_item) + 1)),
        ("modseq", Meta::Int(i64::from(build.made.max_change))),
        ("sz", Meta::Int(tally.bytes as i64)),
        ("vt", Meta::Int(5)),
    ]);
    let uuid = text::uuid(&mut build.rng);
    build.item(Item {
        id,
        kind: kind::FOLDER,
        parent: Some(parent),
        folder: Some(parent),
        date: NOW,
        size: tally.count.into(),
        unread: Some(tally.unread),
        name: Some(name.into()),
        subject: Some(name.into()),
        metadata: Some(metadata),
        mod_metadata: change,
        change_date: Some(NOW),
        mod_content: change,
        uuid: Some(uuid),
        ..Item::default()
    })
}

fn nested(build: &mut Build<'_>) -> Result<()> {
    let mut parent = 2;
    for level in 0..DEPTH {
        parent = fresh(build, parent, &format!("niveau {level} é"))?;
    }
    let wide = fresh(build, USER_ROOT, "wide")?;
    for n in 0..WIDTH {
        fresh(build, wide, &format!("w{n}"))?;
    }
    Ok(())
}

/// Names that are equal to each other but for case or accents, and two whose exchange passes through
/// a duplicate.
fn names(build: &mut Build<'_>) -> Result<()> {
    for variant in ["Report", "REPORT", "rEPORT", "Répört"] {
        let parent = fresh(build, USER_ROOT, &format!("of {} {variant}", build.made.max_item))?;
        fresh(build, parent, variant)?;
    }
    for name in ["swap-a", "swap-b", "a'b\"c\\d%e_f", "  leading", "tab\tin", &"長".repeat(128)] {
        fresh(build, USER_ROOT, name)?;
    }
    if build.four_bytes {
        fresh(build, USER_ROOT, "\u{1f4c1} folder")?;
    }
    Ok(())
}

fn others(build: &mut Build<'_>) -> Result<()> {
    for (kind, name, key, value) in [
        (kind::SEARCH, "big and unread", "q", "is:unread larger:1MB"),
        (kind::MOUNTPOINT, "shared by a colleague", "zid", "11111111-2222-4333-8444-555555555555"),
    ] {
        let item = Item {
            parent: Some(USER_ROOT),
            name: Some(name.into()),
            metadata: Some(metadata(vec![(key, Meta::Text(value)), ("rid", Meta::Int(10))])),
            ..build.fresh(kind, USER_ROOT)
        };
        build.item(item)?;
    }
    Ok(())
}

/// Segment files of a search index, and a directory below it.
fn index(build: &mut Build<'_>) -> Result<()> {
    let volume = build.volumes.current_index();
    let dir = volume.index_dir(build.spec.mailbox);
    make_dirs(&volume.root, &dir)?;
    let length = build.spec.items as usize * 40;
    for (name, length) in
        [("segments_2", 300), ("segments.gen", 20), ("_0.cfs", length), ("_1.fdt", length / 4), ("_1.del", 0)]
    {
        write_file(&dir.join(name), &text::binary(build.spec.mailbox, length), false)?;
    }
    Ok(())
}
