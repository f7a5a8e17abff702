//! Deleted items that can still be had back: their rows live in tables of their own, their blobs stay.

use super::build::{Build, Item, NOW, Place, kind};
use super::hurts::{envelope, revision};
use super::tags::{VERSIONED, bit};
use super::{calendar, forms, text};
use crate::Result;
use crate::bencode::{dict, encode};

/// How far above its own id the ids are that an item of the dumpster names and that are gone.
const GONE: u32 = 1_000_000;

pub(super) fn fill(build: &mut Build<'_>) -> Result<()> {
    for n in 0..20u32 {
        message(build, n)?;
    }
    // Two may have had the same name.
    document(build)?;
    document(build)?;
    contact(build)?;
    appointment(build)
}

/// Neither the conversation nor the folder need exist any more.
fn message(build: &mut Build<'_>, n: u32) -> Result<()> {
    let mut item = build.fresh(kind::MESSAGE, 3);
    let subject = text::EDGES[n as usize % text::EDGES.len()];
    envelope(build, &mut item, subject);
    item.parent = n.is_multiple_of(2).then_some(item.id + GONE);
    if n.is_multiple_of(5) {
        item.folder = Some(item.id + 2 * GONE);
    }
    let bytes = text::message(build.spec.mailbox, item.id, "gone@elsewhere.test", subject, 4000);
    let place = Place { secondary: n.is_multiple_of(3), gzip: n.is_multiple_of(4), legacy: n.is_multiple_of(5) };
    build.blob(&mut item, &bytes, place)?;
    item.mod_metadata = build.next_change();
    item.change_date = Some(NOW);
    build.dumped(item)
}

fn document(build: &mut Build<'_>) -> Result<()> {
    let mut item = build.fresh(kind::DOCUMENT, 16);
    item.index_id = Some(item.id);
    item.imap_id = Some(0);
    item.sender = Some(build.spec.email.clone());
    item.name = Some("deleted.odt".into());
    item.subject = item.name.clone();
    item.flags = bit(VERSIONED);
    for version in 1..=3u32 {
        item.mod_content = build.next_change();
        let bytes = text::binary(item.id + version, 7000);
        let place = Place { secondary: version == 2, ..Place::default() };
        build.blob(&mut item, &bytes, place)?;
        item.metadata = Some(encode(&forms::document(&build.spec.email, "text/plain", "deleted", version)));
        if version < 3 {
            revision(build, "revision_dumpster", &item, version)?;
        }
    }
    build.dumped(item)
}

fn contact(build: &mut Build<'_>) -> Result<()> {
    let fresh = build.fresh(kind::CONTACT, 7);
    let fields = dict([("fullName", "gone".into())]);
    let metadata = Some(encode(&forms::contact(fields)));
    build.dumped(Item { index_id: Some(fresh.id), imap_id: Some(fresh.id), metadata, ..fresh })
}

fn appointment(build: &mut Build<'_>) -> Result<()> {
    let mut item = build.fresh(kind::APPOINTMENT, 10);
    let uid = format!("deleted-{}", item.id);
    calendar::into_item(build.spec, &mut item, kind::APPOINTMENT, "a meeting that was");
    let metadata = calendar::metadata(build.spec, kind::APPOINTMENT, item.id, "a meeting that was", &uid, "gone", None);
    item.metadata = Some(encode(&metadata));
    let bytes = text::binary(item.id, 2500);
    build.blob(&mut item, &bytes, Place::default())?;
    let at = "2023-10-29 02:30:00";
    build.appointment("appointment_dumpster", &uid, item.id, at, Some(at))?;
    build.dumped(item)
}
