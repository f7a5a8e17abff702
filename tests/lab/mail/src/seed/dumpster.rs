//! Deleted items that can still be had back: their rows live in tables of their own, their blobs stay.

use super::build::{Build, NOW, Place, kind};
use super::hurts::revision;
use super::text;
use crate::Result;

pub(super) fn fill(build: &mut Build<'_>) -> Result<()> {
    for n in 0..20u32 {
        message(build, n)?;
    }
    document(build)?;
    appointment(build)
}

fn message(build: &mut Build<'_>, n: u32) -> Result<()> {
    let mut item = build.fresh(kind::MESSAGE, 3);
    let subject = text::EDGES[n as usize % text::EDGES.len()];
    item.subject = Some(subject.into());
    item.imap_id = Some(item.id);
    item.index_id = Some(item.id);
    // The parent need not exist any more, and two may have had the same name.
    item.parent = Some(item.id + 1_000_000);
    item.name = Some("same name".into());
    let bytes = text::message(build.spec.mailbox, item.id, "gone@elsewhere.test", subject, 4000);
    let place = Place { secondary: n.is_multiple_of(3), gzip: n.is_multiple_of(4), legacy: n.is_multiple_of(5) };
    build.blob(&mut item, &bytes, place)?;
    item.mod_metadata = build.next_change();
    item.change_date = Some(NOW);
    build.dumped(item)
}

fn document(build: &mut Build<'_>) -> Result<()> {
    let mut item = build.fresh(kind::DOCUMENT, 16);
    item.name = Some("deleted.odt".into());
    for version in 1..=3u32 {
        item.mod_content = build.next_change();
        let bytes = text::binary(item.id + version, 7000);
        let place = Place { secondary: version == 2, ..Place::default() };
        build.blob(&mut item, &bytes, place)?;
        if version < 3 {
            revision(build, "revision_dumpster", &item, version)?;
        }
    }
    build.dumped(item)
}

fn appointment(build: &mut Build<'_>) -> Result<()> {
    let mut item = build.fresh(kind::APPOINTMENT, 10);
    let bytes = text::binary(item.id, 2500);
    build.blob(&mut item, &bytes, Place::default())?;
    build.group(
        "appointment_dumpster",
        "uid, item_id, start_time, end_time",
        &[
            format!("deleted-{}", item.id).into(),
            item.id.into(),
            "2023-10-29 02:30:00".into(),
            "2023-10-29 02:30:00".into(),
        ],
    )?;
    build.dumped(item)
}
