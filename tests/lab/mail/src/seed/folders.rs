//! Folders, whose rows hold the sums of what is in them, and the search index on disk.

use super::build::{Build, Item, NOW, kind};
use super::items::{FOLDERS, folder_id};
use super::{forms, text};
use crate::Result;
use crate::bencode::{Dict, encode};
use crate::volume::{make_dirs, write_file};

const ROOT: u32 = 11;
const USER_ROOT: u32 = 1;
const DEPTH: u32 = 60;
const WIDTH: u32 = 200;

/// A system folder: its id and parent, what its metadata says of its kind and of what it shows, its name.
type System = (u32, u32, i64, Option<i64>, &'static str);

const SYSTEM: [System; 17] = [
    (ROOT, ROOT, 3, None, "ROOT"),
    (USER_ROOT, ROOT, 1, None, "USER_ROOT"),
    (2, USER_ROOT, 1, Some(5), "Inbox"),
    (3, USER_ROOT, 1, None, "Trash"),
    (4, USER_ROOT, 1, Some(5), "Junk"),
    (5, USER_ROOT, 1, Some(5), "Sent"),
    (6, USER_ROOT, 1, Some(5), "Drafts"),
    (7, USER_ROOT, 1, Some(6), "Contacts"),
    (8, ROOT, 3, Some(3), "Tags"),
    (9, ROOT, 3, Some(4), "Conversations"),
    (10, USER_ROOT, 1, Some(11), "Calendar"),
    (13, USER_ROOT, 1, Some(6), "Emailed Contacts"),
    (14, USER_ROOT, 1, Some(5), "Chats"),
    (15, USER_ROOT, 1, Some(15), "Tasks"),
    (16, USER_ROOT, 1, Some(8), "Briefcase"),
    (17, ROOT, 3, Some(17), "Comments"),
    (20, USER_ROOT, 1, Some(8), "Files shared with me"),
];

/// The flag of a folder that a calendar shows, and that of one that is shared.
const CHECKED: i32 = 1 << 21;
const SHARED: i32 = 1 << 22;

/// Makes all folders. Everything that lies in them must be there already.
pub(super) fn fill(build: &mut Build<'_>) -> Result<()> {
    for (id, parent, attributes, view, name) in SYSTEM {
        let metadata = metadata(build, id, Some(attributes), view);
        let flags = if matches!(view, Some(11 | 15)) { CHECKED } else { 0 };
        folder(build, id, parent, name, metadata, flags)?;
    }
    for (name, n) in FOLDERS.iter().zip(0..) {
        let parent = if (1..4).contains(&n) { folder_id(build.spec, 0) } else { USER_ROOT };
        let id = folder_id(build.spec, n);
        let metadata = metadata(build, id, None, Some(5));
        folder(build, id, parent, name, metadata, 0)?;
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
    let metadata = metadata(build, id, None, Some(5));
    folder(build, id, parent, name, metadata, 0)?;
    Ok(id)
}

/// What a folder's metadata says, beside its kind, of what is in it. One that never had anything in it knows of no item but
/// itself.
fn metadata(build: &Build<'_>, id: u32, attributes: Option<i64>, view: Option<i64>) -> Dict {
    let tally = build.folders.get(&id).copied().unwrap_or_default();
    let last = if tally.count == 0 { id } else { build.made.max_item };
    forms::folder(attributes, last + 1, build.made.max_change, tally.bytes, view)
}

fn folder(build: &mut Build<'_>, id: u32, parent: u32, name: &str, metadata: Dict, flags: i32) -> Result<()> {
    let tally = build.folders.get(&id).copied().unwrap_or_default();
    let change = build.next_change();
    let uuid = text::uuid(&mut build.rng);
    build.item(Item {
        id,
        kind: kind::FOLDER,
        parent: Some(parent),
        folder: Some(parent),
        date: NOW,
        size: tally.count.into(),
        unread: Some(tally.unread),
        flags,
        name: Some(name.into()),
        subject: Some(name.into()),
        metadata: Some(encode(&metadata)),
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
    const COLLEAGUE: &str = "11111111-2222-4333-8444-555555555555";
    let remote = text::uuid(&mut build.rng);
    for (kind, name, metadata, flags) in [
        (kind::SEARCH, "big and unread", forms::search("is:unread larger:1MB"), 0),
        (kind::MOUNTPOINT, "shared by a colleague", forms::mountpoint(COLLEAGUE, 10, &remote), CHECKED),
    ] {
        let item = Item {
            parent: Some(USER_ROOT),
            unread: Some(0),
            flags,
            name: Some(name.into()),
            subject: Some(name.into()),
            metadata: Some(encode(&metadata)),
            ..build.fresh(kind, USER_ROOT)
        };
        build.item(item)?;
    }
    let id = build.next_id();
    let mut metadata = metadata(build, id, None, Some(5));
    forms::share(&mut metadata, COLLEAGUE);
    folder(build, id, USER_ROOT, "shared with a colleague", metadata, SHARED)
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
