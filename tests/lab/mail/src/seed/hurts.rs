//! Items and rows that have hurt moves: every type, texts at the edges, revisions, data sources, rows
//! without keys, links, a huge row.

use std::fs;

use mysql::Value;

use super::build::{Build, NOW, Place, kind};
use super::text::{self, EDGES, FOUR_BYTES, Meta, metadata};
use crate::Result;

pub(super) fn fill(build: &mut Build<'_>) -> Result<()> {
    types(build)?;
    texts(build)?;
    own_id(build)?;
    huge(build)?;
    edges_of_numbers(build)?;
    documents(build)?;
    links(build)?;
    appointments(build)?;
    data_sources(build)?;
    without_keys(build)?;
    strays(build)
}

fn types(build: &mut Build<'_>) -> Result<()> {
    for (kind, folder, has_blob) in [
        (kind::NOTE, 12, false),
        (kind::WIKI, 12, true),
        (kind::CHAT, 14, true),
        (kind::COMMENT, 17, false),
        (kind::LINK, 16, false),
    ] {
        let mut item = build.fresh(kind, folder);
        item.name = Some(format!("item of type {kind}"));
        item.metadata = Some(metadata(vec![("ty", Meta::Int(kind.into()))]));
        if has_blob {
            let bytes = text::binary(item.id, 3000);
            build.blob(&mut item, &bytes, Place::default())?;
        }
        build.item(item)?;
    }
    Ok(())
}

fn message(build: &mut Build<'_>, subject: &str, place: Place) -> Result<super::build::Item> {
    let mut item = build.fresh(kind::MESSAGE, 2);
    item.imap_id = Some(item.id);
    item.index_id = Some(item.id);
    item.unread = Some(0);
    item.subject = Some(subject.into());
    let bytes = text::message(build.spec.mailbox, item.id, "edge@elsewhere.test", subject, 6000);
    build.blob(&mut item, &bytes, place)?;
    Ok(item)
}

/// A message for each text at the edges, and one whose metadata is stored encoded because its table
/// takes no characters of four bytes.
fn texts(build: &mut Build<'_>) -> Result<()> {
    for edge in EDGES {
        let mut item = message(build, edge, Place::default())?;
        item.sender = Some(edge.chars().take(128).collect());
        item.recipients = item.sender.clone();
        item.name = Some(format!("{} {edge}", item.id));
        item.prev_folders = Some(format!("{}:2;{}:3", item.mod_content, item.mod_metadata));
        item.metadata = Some(metadata(vec![("f", Meta::Text(edge)), ("v", Meta::Int(10))]));
        build.item(item)?;
    }
    let mut item = message(build, "surrogates", Place::default())?;
    let plain = metadata(vec![("f", Meta::Text(FOUR_BYTES)), ("v", Meta::Int(10))]);
    if build.four_bytes {
        item.subject = Some(FOUR_BYTES.into());
        item.sender = Some(FOUR_BYTES.into());
        item.name = Some(FOUR_BYTES.into());
        item.metadata = Some(plain);
    } else {
        item.metadata = Some(text::encoded_metadata(&plain));
    }
    build.item(item)
}

/// Text that looks like the rows of a dump of this very mailbox.
fn own_id(build: &mut Build<'_>) -> Result<()> {
    let id = build.spec.mailbox;
    for subject in [
        format!("see ({id},257,5,NULL,2) and ({id}, 258"),
        format!("INSERT INTO `mail_item` VALUES ({id},1,'a'),({id},2,'b');"),
        format!("/opt/zimbra/store/0/{id}/msg/0/257-101.msg"),
    ] {
        let mut item = message(build, &subject, Place::default())?;
        item.metadata = Some(metadata(vec![("f", Meta::Text(&subject)), ("s", Meta::Int(id.into()))]));
        build.item(item)?;
    }
    Ok(())
}

/// An appointment whose metadata is nearly as long as a packet may be.
fn huge(build: &mut Build<'_>) -> Result<()> {
    if build.spec.huge_metadata == 0 {
        return Ok(());
    }
    let mut item = build.fresh(kind::APPOINTMENT, 10);
    let filler = "exception".repeat(build.spec.huge_metadata / 9);
    item.metadata = Some(metadata(vec![("x", Meta::Text(&filler))]));
    item.subject = Some("a meeting with thousands of exceptions".into());
    let id = item.id;
    let uid = format!("huge-{id}");
    let bytes = text::binary(id, 20_000);
    build.blob(&mut item, &bytes, Place::default())?;
    appointment(build, &uid, id, "2024-01-01 00:00:00", Some("2034-01-01 00:00:00"))?;
    build.item(item)
}

fn edges_of_numbers(build: &mut Build<'_>) -> Result<()> {
    for (date, flags, tags) in [(0, i32::MIN, i64::MIN), (u32::MAX, i32::MAX, i64::MAX)] {
        let mut item = message(build, "edge of numbers", Place::default())?;
        item.date = date;
        item.change_date = (date == 0).then_some(u32::MAX);
        item.flags = flags;
        item.tags = tags;
        item.imap_id = Some(date);
        item.index_id = None;
        item.uuid = None;
        build.item(item)?;
    }
    Ok(())
}

/// An empty document, one that is gzip itself, and one with revisions on both volumes.
fn documents(build: &mut Build<'_>) -> Result<()> {
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &text::binary(9, 900)].concat();
    for (name, bytes) in [("empty.txt", &[][..]), ("archive.gz", &gzip)] {
        let mut item = build.fresh(kind::DOCUMENT, 16);
        item.name = Some(name.into());
        build.blob(&mut item, bytes, Place::default())?;
        build.item(item)?;
    }
    let mut item = build.fresh(kind::DOCUMENT, 16);
    item.name = Some("with revisions.odt".into());
    for version in 1..=4u32 {
        let bytes = text::binary(item.id + version, 5000 * version as usize);
        let place = Place { secondary: version % 2 == 0, gzip: version == 3, legacy: version == 1 };
        item.mod_content = build.next_change();
        build.blob(&mut item, &bytes, place)?;
        if version < 4 {
            revision(build, "revision", &item, version)?;
        }
    }
    item.mod_metadata = build.next_change();
    build.item(item)
}

/// A row of `revision` or `revision_dumpster` for what the item is now.
pub(super) fn revision(
    build: &mut Build<'_>,
    table: &'static str,
    item: &super::build::Item,
    version: u32,
) -> Result<()> {
    build.group(
        table,
        "item_id, version, date, size, locator, blob_digest, name, metadata, mod_metadata, change_date, \
         mod_content",
        &[
            item.id.into(),
            version.into(),
            item.date.into(),
            item.size.into(),
            item.locator.clone().into(),
            item.digest.clone().into(),
            item.name.clone().into(),
            metadata(vec![("ver", Meta::Int(version.into()))]).into(),
            item.mod_metadata.into(),
            Value::NULL,
            item.mod_content.into(),
        ],
    )
}

/// Copies inside the mailbox: items whose blobs are hard links to another item's.
fn links(build: &mut Build<'_>) -> Result<()> {
    let original = message(build, "the original", Place::default())?;
    let volume = build.volumes.current_message().clone();
    let path = volume.blob_path(build.spec.mailbox, original.id, original.mod_content);
    for _ in 0..3 {
        let fresh = build.fresh(kind::MESSAGE, 3);
        let copy = super::build::Item {
            id: fresh.id,
            folder: fresh.folder,
            imap_id: Some(fresh.id),
            mod_metadata: fresh.mod_metadata,
            mod_content: fresh.mod_content,
            uuid: fresh.uuid,
            ..original.clone()
        };
        volume.link_blob(&path, build.spec.mailbox, copy.id, copy.mod_content)?;
        build.made.blobs += 1;
        build.made.bytes += copy.size;
        build.item(copy)?;
    }
    build.item(original)
}

fn appointments(build: &mut Build<'_>) -> Result<()> {
    for (n, (start, end)) in [
        ("2024-03-31 02:30:00", Some("2024-03-31 03:30:00")),
        ("0000-00-00 00:00:00", Some("0000-00-00 00:00:00")),
        ("1000-01-01 00:00:00", None),
        ("9999-12-31 23:59:59", Some("9999-12-31 23:59:59")),
        ("1969-12-31 23:59:59", Some("2038-01-19 03:14:08")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut item = build.fresh(kind::APPOINTMENT, 10);
        let id = item.id;
        let uid = format!("040000008200E00074C5B7101A82E008-{n} ü");
        let bytes = text::message(build.spec.mailbox, id, "a@lab.test", "appointment", 2000);
        build.blob(&mut item, &bytes, Place::default())?;
        build.item(item)?;
        appointment(build, &uid, id, start, end)?;
    }
    Ok(())
}

fn appointment(build: &mut Build<'_>, uid: &str, item: u32, start: &str, end: Option<&str>) -> Result<()> {
    build.group(
        "appointment",
        "uid, item_id, start_time, end_time",
        &[uid.into(), item.into(), start.into(), end.into()],
    )
}

fn data_sources(build: &mut Build<'_>) -> Result<()> {
    let source = text::uuid(&mut build.rng);
    let hash = crate::volume::legacy_digest(b"purged");
    for n in 0..10u32 {
        let item = super::FIRST_ITEM + n;
        let source = Value::from(&source);
        build.group(
            "imap_folder",
            "item_id, data_source_id, local_path, remote_path, uid_validity",
            &[
                item.into(),
                source.clone(),
                format!("/Inbox/é{n}").into(),
                format!("INBOX/&AOk-{n}").into(),
                u32::MAX.into(),
            ],
        )?;
        for message in 0..5u32 {
            build.group(
                "imap_message",
                "imap_folder_id, uid, item_id, flags",
                &[
                    item.into(),
                    (i64::from(message) + i64::from(u32::MAX)).into(),
                    (super::FIRST_ITEM + n * 10 + message).into(),
                    (-1).into(),
                ],
            )?;
        }
        build.group(
            "pop3_message",
            "data_source_id, uid, item_id",
            &[source.clone(), format!("UID-{n}-aA").into(), item.into()],
        )?;
        build.group(
            "data_source_item",
            "data_source_id, item_id, folder_id, remote_id, metadata",
            &[source.clone(), item.into(), 2.into(), format!("Remote-{n}").into(), "de".into()],
        )?;
        build.group(
            "purged_messages",
            "data_source_id, item_id, parent_id, remote_id, remote_folder_id, purge_date",
            &[source.clone(), item.into(), Value::NULL, format!("r{n}").into(), "f".into(), NOW.into()],
        )?;
    }
    build.group(
        "purged_conversations",
        "data_source_id, item_id, hash",
        &[source.into(), super::FIRST_ITEM.into(), hash.into()],
    )
}

/// Rows of tables that have no unique key, some of them twice; deletions of ids above all that exist.
fn without_keys(build: &mut Build<'_>) -> Result<()> {
    let gone = build.next_id();
    for ids in [format!("{gone}"), format!("{},{}", gone + 1, gone + 2), String::new()] {
        let sequence = build.next_change();
        for _ in 0..2 {
            build.group(
                "tombstone",
                "sequence, date, type, ids",
                &[sequence.into(), NOW.into(), 5.into(), ids.clone().into()],
            )?;
        }
    }
    build.made.max_item += 2;
    let account = build.spec.account_id.clone();
    for n in 0..20u32 {
        build.group(
            "event",
            "account_id, item_id, folder_id, op, ts, version, user_agent, arg",
            &[
                account.clone().into(),
                (super::FIRST_ITEM + n / 2).into(),
                16.into(),
                (n % 5).into(),
                NOW.into(),
                Value::NULL,
                "Mozilla/5.0 \"é\"".into(),
                "d1:a1:be".into(),
            ],
        )?;
        build.group("watch", "target, item_id", &[account.clone().into(), (super::FIRST_ITEM + n).into()])?;
    }
    Ok(())
}

/// Files that no row names.
fn strays(build: &mut Build<'_>) -> Result<()> {
    for n in 0..build.spec.stray_files {
        let volume = build.volumes.current_message();
        let blob = volume.write_blob(build.spec.mailbox, 900_000 + n, 1, b"left behind")?;
        fs::rename(&blob.path, blob.path.with_extension("msg.bak"))?;
    }
    Ok(())
}
