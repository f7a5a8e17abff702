//! Items and rows that have hurt moves: every type, texts at the edges, revisions, data sources, rows
//! without keys, links, a huge row.

use std::fs;

use mysql::Value;

use super::build::{Build, Item, NOW, Place, kind};
use super::forms::{self, Person};
use super::tags::{COPIED, VERSIONED, bit};
use super::text::{self, EDGES, FOUR_BYTES};
use super::{calendar, tags};
use crate::Result;
use crate::bencode::{Dict, dict, encode, encode_narrow};

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

/// One of each kind that the bulk of a mailbox has none of.
fn types(build: &mut Build<'_>) -> Result<()> {
    let mut note = build.fresh(kind::NOTE, 16);
    note.index_id = Some(note.id);
    note.subject = Some("a note".into());
    note.metadata = Some(encode(&forms::note()));
    build.item(note)?;

    let mut chat = build.fresh(kind::CHAT, 14);
    envelope(build, &mut chat, "a chat");
    build.blob(&mut chat, &text::binary(3, 3000), Place::default())?;
    build.item(chat)?;

    let html = "text/html; charset=utf-8";
    let page = document(build, kind::WIKI, "StartPage", html, &[(3000, Place::default()), (2000, Place::default())])?;
    let mut comment = build.fresh(kind::COMMENT, 17);
    comment.parent = Some(page);
    comment.subject = Some("what is this?".into());
    comment.size = 13;
    comment.metadata = Some(encode(&forms::comment(&build.spec.account_id)));
    build.item(comment)
}

/// The columns of a message that hold no text of its own.
pub(super) fn envelope(build: &Build<'_>, item: &mut Item, subject: &str) {
    let from = Person { name: "at the edge".into(), address: "edge@elsewhere.test".into() };
    item.imap_id = Some(item.id);
    item.index_id = Some(item.id);
    item.unread = Some(0);
    item.sender = Some(from.column());
    item.recipients = Some(build.spec.email.clone());
    item.subject = Some(subject.into());
    item.metadata = Some(encode(&forms::message("words", &from.header(), &build.spec.email)));
}

fn message(build: &mut Build<'_>, subject: &str, place: Place) -> Result<Item> {
    let mut item = build.fresh(kind::MESSAGE, 2);
    envelope(build, &mut item, subject);
    let bytes = text::message(build.spec.mailbox, item.id, "edge@elsewhere.test", subject, 6000);
    build.blob(&mut item, &bytes, place)?;
    Ok(item)
}

/// A message and a document for each text at the edges, and those whose text needs four bytes a character: where a table takes
/// none, what is cut from the subject stands in the metadata, which is stored encoded.
fn texts(build: &mut Build<'_>) -> Result<()> {
    for edge in EDGES {
        let mut item = message(build, edge, Place::default())?;
        item.sender = Some(edge.chars().take(128).collect());
        item.recipients = item.sender.clone();
        item.prev_folders = Some(format!("{}:2;{}:3", item.mod_content, item.mod_metadata));
        item.metadata = Some(encode(&forms::message(edge, edge, edge)));
        build.item(item)?;
        let name = format!("{} {edge}", build.made.max_item);
        document(build, kind::DOCUMENT, &name, "text/plain", &[(100, Place::default())])?;
    }
    let mut item = message(build, "surrogates ?", Place::default())?;
    let mut metadata = forms::message(FOUR_BYTES, FOUR_BYTES, FOUR_BYTES);
    if build.four_bytes {
        item.subject = Some(FOUR_BYTES.into());
        item.sender = Some(FOUR_BYTES.into());
        item.metadata = Some(encode(&metadata));
        document(build, kind::DOCUMENT, FOUR_BYTES, "text/plain", &[(100, Place::default())])?;
    } else {
        metadata.insert("r".into(), FOUR_BYTES.into());
        item.metadata = Some(encode_narrow(&metadata));
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
        item.metadata = Some(encode(&forms::message(&subject, &id.to_string(), &subject)));
        build.item(item)?;
    }
    Ok(())
}

/// An appointment whose metadata is nearly as long as a packet may be.
fn huge(build: &mut Build<'_>) -> Result<()> {
    if build.spec.huge_metadata == 0 {
        return Ok(());
    }
    let title = "a meeting with thousands of exceptions";
    let filler = "exception".repeat(build.spec.huge_metadata / 9);
    let item = build.fresh(kind::APPOINTMENT, 10);
    let uid = format!("huge-{}", item.id);
    appointment(build, item, title, &uid, &filler, ("2024-01-01 00:00:00", Some("2034-01-01 00:00:00")))
}

fn edges_of_numbers(build: &mut Build<'_>) -> Result<()> {
    for (date, flags, tags) in [(0, i32::MIN, i64::MIN), (u32::MAX, i32::MAX, i64::MAX)] {
        let mut item = message(build, "edge of numbers", Place::default())?;
        item.date = date;
        item.change_date = Some(u32::MAX - date);
        // What is unread has a column of its own.
        item.flags = flags & !bit(tags::UNREAD);
        item.tags = tags;
        item.imap_id = Some(date);
        build.item(item)?;
    }
    Ok(())
}

/// An empty document, one that is gzip itself, and one with revisions on both volumes.
fn documents(build: &mut Build<'_>) -> Result<()> {
    for (name, bytes) in
        [("empty.txt", Vec::new()), ("archive.gz", [&[0x1f, 0x8b, 8, 0][..], &text::binary(9, 900)].concat())]
    {
        let mut item = named(build, kind::DOCUMENT, name);
        item.metadata = Some(encode(&forms::document(&build.spec.email, "text/plain", "", 1)));
        build.blob(&mut item, &bytes, Place::default())?;
        build.item(item)?;
    }
    let versions: Vec<(usize, Place)> = (1..=4)
        .map(|version| {
            let place = Place { secondary: version % 2 == 0, gzip: version == 3, legacy: version == 1 };
            (5000 * version, place)
        })
        .collect();
    document(build, kind::DOCUMENT, "with revisions.odt", "application/vnd.oasis.opendocument.text", &versions)
        .map(drop)
}

/// A document without content so far.
fn named(build: &mut Build<'_>, kind: u8, name: &str) -> Item {
    let fresh = build.fresh(kind, 16);
    Item {
        index_id: Some(fresh.id),
        imap_id: Some(0),
        sender: Some(build.spec.email.clone()),
        subject: Some(name.into()),
        name: Some(name.into()),
        ..fresh
    }
}

/// A document that was saved as often as it has lengths; all but the last are revisions. Gives its id.
fn document(build: &mut Build<'_>, kind: u8, name: &str, content_type: &str, saved: &[(usize, Place)]) -> Result<u32> {
    let mut item = named(build, kind, name);
    if saved.len() > 1 {
        item.flags = bit(VERSIONED);
        build.tag(VERSIONED, item.id, false)?;
    }
    for (version, (length, place)) in (1..).zip(saved) {
        item.mod_content = build.next_change();
        item.metadata = Some(encode(&forms::document(&build.spec.email, content_type, name, version)));
        let bytes = text::binary(item.id + version, *length);
        build.blob(&mut item, &bytes, *place)?;
        if (version as usize) < saved.len() {
            revision(build, "revision", &item, version)?;
        }
    }
    item.mod_metadata = build.next_change();
    let id = item.id;
    build.item(item)?;
    Ok(id)
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
            item.metadata.clone().into(),
            item.mod_metadata.into(),
            NOW.into(),
            item.mod_content.into(),
        ],
    )
}

/// Copies inside the mailbox: items whose blobs are hard links to another item's. An IMAP client makes them as well, and says
/// less of where they came from.
fn links(build: &mut Build<'_>) -> Result<()> {
    let mut original = message(build, "the original", Place::default())?;
    original.flags |= bit(COPIED);
    build.tag(COPIED, original.id, false)?;
    let volume = build.volumes.current_message().clone();
    let path = volume.blob_path(build.spec.mailbox, original.id, original.mod_content);
    for by_imap in [false, false, true] {
        let fresh = build.fresh(kind::MESSAGE, 3);
        let copy = Item {
            id: fresh.id,
            folder: fresh.folder,
            prev_folders: (!by_imap).then(|| format!("{}:2", fresh.mod_metadata)),
            imap_id: Some(fresh.id),
            recipients: None,
            mod_metadata: fresh.mod_metadata,
            mod_content: fresh.mod_content,
            uuid: (!by_imap).then(|| text::uuid(&mut build.rng)),
            ..original.clone()
        };
        build.tag(COPIED, copy.id, false)?;
        volume.link_blob(&path, build.spec.mailbox, copy.id, copy.mod_content)?;
        build.made.blobs += 1;
        build.made.bytes += copy.size;
        build.item(copy)?;
    }
    build.item(original)
}

fn appointments(build: &mut Build<'_>) -> Result<()> {
    for (n, times) in [
        ("2024-03-31 02:30:00", Some("2024-03-31 03:30:00")),
        ("0000-00-00 00:00:00", Some("0000-00-00 00:00:00")),
        ("1000-01-01 00:00:00", None),
        ("9999-12-31 23:59:59", Some("9999-12-31 23:59:59")),
        ("1969-12-31 23:59:59", Some("2038-01-19 03:14:08")),
    ]
    .into_iter()
    .enumerate()
    {
        let item = build.fresh(kind::APPOINTMENT, 10);
        let uid = format!("040000008200E00074C5B7101A82E008-{n} ü");
        appointment(build, item, "appointment", &uid, "Zoë's", times)?;
    }
    Ok(())
}

/// An appointment with an attachment, so that it has a blob, and with any row of times.
fn appointment(
    build: &mut Build<'_>,
    mut item: Item,
    title: &str,
    uid: &str,
    notes: &str,
    (start, end): (&str, Option<&str>),
) -> Result<()> {
    let id = item.id;
    calendar::into_item(build.spec, &mut item, kind::APPOINTMENT, title);
    item.metadata = Some(encode(&calendar::metadata(build.spec, kind::APPOINTMENT, id, title, uid, notes, None)));
    let bytes = text::message(build.spec.mailbox, id, "a@lab.test", title, 20_000);
    build.blob(&mut item, &bytes, Place::default())?;
    build.item(item)?;
    build.appointment("appointment", uid, id, start, end)
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
        let (remote, metadata) = remote(n);
        build.group(
            "data_source_item",
            "data_source_id, item_id, folder_id, remote_id, metadata",
            &[source.clone(), item.into(), 2.into(), remote.into(), encode(&metadata).into()],
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

/// What a data source remembers of a folder, of a message in one, of a message that came by POP3.
fn remote(n: u32) -> (String, Dict) {
    let number = i64::from(n);
    let mut metadata = dict([("v", 10.into())]);
    let (id, more) = match n % 3 {
        0 => (format!("Remote-{n}"), dict([("lp", format!("/Inbox/é{n}").into()), ("uv", (1 << 31).into())])),
        1 => (format!("257_{n}"), dict([("f", 512.into()), ("u", number.into())])),
        _ => (format!("UID-{n}-aA"), Dict::new()),
    };
    metadata.extend(more);
    (id, metadata)
}

/// Rows of tables that have no unique key, some of them twice; deletions of ids above all that exist.
fn without_keys(build: &mut Build<'_>) -> Result<()> {
    let gone = build.next_id();
    let uuid = text::uuid(&mut build.rng);
    for (kind, ids) in [
        (kind::MESSAGE, format!("{gone}")),
        (kind::MESSAGE, format!("{},{}", gone + 1, gone + 2)),
        (kind::DOCUMENT, format!("{gone}:{uuid}")),
    ] {
        let sequence = build.next_change();
        for _ in 0..2 {
            build.group(
                "tombstone",
                "sequence, date, type, ids",
                &[sequence.into(), NOW.into(), kind.into(), ids.clone().into()],
            )?;
        }
    }
    build.made.max_item += 2;
    let account = build.spec.account_id.clone();
    for n in 0..20u32 {
        let name = dict([("name", format!("Übersicht {n}").into())]);
        build.group(
            "event",
            "account_id, item_id, folder_id, op, ts, version, user_agent, arg",
            &[
                account.clone().into(),
                (super::FIRST_ITEM + n / 2).into(),
                16.into(),
                [53, 61, 94][n as usize % 3].into(),
                NOW.into(),
                (n % 4).into(),
                "Mozilla/5.0 \"é\"".into(),
                encode(&name).into(),
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
