//! The bulk of a mailbox: messages in conversations, contacts, appointments, documents, tasks.
//!
//! Every item is a function of the seed and its id, so blobs are written by several threads while rows
//! are sent by one.

use std::sync::mpsc::sync_channel;
use std::thread;

use mysql::Value;

use super::build::{Build, Item, NOW, Place, kind, write};
use super::text::{self, Meta, message, metadata};
use super::{FIRST_ITEM, Spec};
use crate::Result;
use crate::volume::Volumes;

/// Names of the mailbox's tags; their ids follow those of the items.
pub(super) const TAGS: [&str; 5] = ["Work", "Privé", "重要", "two words", "it's \"quoted\""];

/// Names of the user's folders; their ids follow those of the tags.
pub(super) const FOLDERS: [&str; 8] = ["Archive", "2021", "2022", "2023", "Projects", "Kunden", "Übersicht", "会議"];

/// Flags as Zimbra numbers them: the bit in `flags`, and the (negative) id of the tag row.
pub(super) const FLAGS: [(i32, i32, &str); 4] =
    [(1 << 1, -2, "\\Attached"), (1 << 2, -3, "\\Answered"), (1 << 5, -6, "\\Flagged"), (1 << 9, -10, "\\Unread")];

const UNREAD: i32 = 1 << 9;

/// Items in one block: the first is a conversation that holds some of those that follow.
const BLOCK: u32 = 20;

/// Items that one thread makes before it hands them over.
const CHUNK: u32 = 1000;

const THREADS: u32 = 2;

const YEAR: u32 = 31_536_000;

/// An item and what else must be said about it.
struct Planned {
    item: Item,
    blob: Option<(Vec<u8>, Place)>,
    tags: Vec<i32>,
}

pub(super) fn tag_id(spec: &Spec, n: u32) -> i32 {
    i32::try_from(FIRST_ITEM + spec.items + n).unwrap_or(i32::MAX)
}

pub(super) fn folder_id(spec: &Spec, n: u32) -> u32 {
    FIRST_ITEM + spec.items + TAGS.len() as u32 + n
}

/// Makes all items and reserves the ids of tags and user folders.
pub(super) fn fill(build: &mut Build<'_>) -> Result<()> {
    let (spec, volumes) = (build.spec, build.volumes);
    thread::scope(|scope| {
        let (send, receive) = sync_channel::<Result<Vec<Planned>>>(4);
        for first in 0..THREADS {
            let send = send.clone();
            scope.spawn(move || {
                for chunk in (first..spec.items.div_ceil(CHUNK)).step_by(THREADS as usize) {
                    // The other end is gone only when the rows could not be sent: nothing is left to do.
                    if send.send(make(spec, volumes, chunk)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        receive.into_iter().try_for_each(|chunk| chunk?.into_iter().try_for_each(|planned| add(build, planned)))
    })?;
    build.made.max_item = folder_id(spec, FOLDERS.len() as u32) - 1;
    tags(build)
}

fn make(spec: &Spec, volumes: &Volumes, chunk: u32) -> Result<Vec<Planned>> {
    (chunk * CHUNK..spec.items.min((chunk + 1) * CHUNK))
        .map(|n| {
            let mut planned = plan(spec, n);
            if let Some((bytes, place)) = &planned.blob {
                write(volumes, spec.mailbox, &mut planned.item, bytes, *place)?;
            }
            // Only the length is of use from here on.
            Ok(planned)
        })
        .collect()
}

fn add(build: &mut Build<'_>, planned: Planned) -> Result<()> {
    let Planned { item, blob, tags } = planned;
    if let Some((bytes, _)) = blob {
        build.made.blobs += 1;
        build.made.bytes += bytes.len() as u64;
    }
    for tag in tags {
        build.tag(tag, item.id, item.unread == Some(1))?;
    }
    if matches!(item.kind, kind::APPOINTMENT | kind::TASK) {
        let start = format!("20{:02}-0{}-{:02} 09:30:00", item.id % 37, item.id % 9 + 1, item.id % 28 + 1);
        let end = (item.kind == kind::APPOINTMENT).then(|| start.replace("09:30", "10:15"));
        let uid = format!("{}-{}@lab.test", item.id, build.spec.seed);
        build.group(
            "appointment",
            "uid, item_id, start_time, end_time",
            &[uid.into(), item.id.into(), start.into(), end.into()],
        )?;
    }
    if item.kind == kind::CONVERSATION && item.id.is_multiple_of(3) {
        let hash = crate::volume::legacy_digest(&item.id.to_le_bytes());
        build.group("open_conversation", "hash, conv_id", &[hash.into(), item.id.into()])?;
    }
    build.item(item)
}

fn tags(build: &mut Build<'_>) -> Result<()> {
    let names = TAGS
        .iter()
        .zip(0u32..)
        .map(|(name, n)| (tag_id(build.spec, n), *name, 1))
        .chain(FLAGS.iter().map(|(_, id, name)| (*id, *name, 0)))
        .collect::<Vec<_>>();
    for (id, name, listed) in names {
        let tally = build.tags.get(&id).copied().unwrap_or_default();
        let sequence = build.next_change();
        build.group(
            "tag",
            "id, name, color, item_count, unread, listed, sequence, policy",
            &[
                id.into(),
                name.into(),
                Value::NULL,
                tally.count.into(),
                tally.unread.into(),
                listed.into(),
                sequence.into(),
                Value::NULL,
            ],
        )?;
    }
    Ok(())
}

fn plan(spec: &Spec, n: u32) -> Planned {
    let id = FIRST_ITEM + n;
    let mut rng = fastrand::Rng::with_seed(spec.seed.wrapping_mul(0x9e37_79b9) ^ u64::from(id));
    let change = 101 + n;
    let changed_later = rng.u32(..10) < 3;
    let mut item = Item {
        id,
        date: NOW - rng.u32(..3 * YEAR),
        mod_content: change,
        mod_metadata: if changed_later { change + rng.u32(..=spec.items - n) } else { change },
        change_date: Some(NOW - rng.u32(..YEAR)),
        imap_id: Some(id),
        uuid: Some(text::uuid(&mut rng)),
        ..Item::default()
    };
    let mut planned = Planned { item: Item::default(), blob: None, tags: Vec::new() };
    match n % BLOCK {
        0 => conversation(spec, &mut rng, &mut item, n),
        1 => contact(spec, &mut rng, &mut item, &mut planned),
        2 if n.is_multiple_of(3) => calendar(spec, &mut rng, &mut item, &mut planned, kind::APPOINTMENT),
        2 if n.is_multiple_of(5) => calendar(spec, &mut rng, &mut item, &mut planned, kind::TASK),
        3 if n.is_multiple_of(2) => document(spec, &mut rng, &mut item, &mut planned),
        slot => mail(spec, &mut rng, &mut item, &mut planned, slot),
    }
    planned.item = item;
    planned
}

fn conversation(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, n: u32) {
    let members = (4..9).filter(|slot| n + slot < spec.items).count();
    item.kind = kind::CONVERSATION;
    item.folder = Some(9);
    item.imap_id = None;
    item.size = members as u64;
    item.subject = Some(text::words(rng, 4));
    item.metadata = Some(metadata(vec![("n", Meta::Int(members as i64)), ("v", Meta::Int(10))]));
}

fn contact(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned) {
    let (first, last) = (text::words(rng, 1), text::words(rng, 1));
    let address = format!("{}@elsewhere.test", item.id);
    item.kind = kind::CONTACT;
    item.folder = Some(7);
    item.imap_id = None;
    item.sender = Some(format!("{last}, {first}"));
    item.metadata = Some(metadata(vec![
        ("firstName", Meta::Text(&first)),
        ("lastName", Meta::Text(&last)),
        ("email", Meta::Text(&address)),
    ]));
    if item.id.is_multiple_of(4) {
        planned.blob = Some((text::binary(item.id, size(spec, rng)), Place::default()));
    }
}

fn calendar(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned, kind: u8) {
    let title = text::words(rng, 3);
    item.kind = kind;
    item.folder = Some(if kind == kind::TASK { 15 } else { 10 });
    item.index_id = Some(item.id);
    item.imap_id = Some(0);
    item.subject = Some(title.clone());
    let uid = format!("{}-{}@lab.test", item.id, spec.seed);
    item.metadata = Some(metadata(vec![
        ("uid", Meta::Text(&uid)),
        ("inv", Meta::List(&[&title, "i0e"])),
        ("st", Meta::Int(i64::from(item.date) * 1000)),
    ]));
    let bytes = message(spec.mailbox, item.id, &spec.email, &title, size(spec, rng));
    planned.blob = Some((bytes, Place::default()));
}

fn document(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned) {
    item.kind = kind::DOCUMENT;
    item.folder = Some(16);
    item.index_id = Some(item.id);
    item.name = Some(format!("{} {}.odt", text::words(rng, 2), item.id));
    item.metadata = Some(metadata(vec![
        ("cr", Meta::Text(&spec.email)),
        ("ct", Meta::Text("application/vnd.oasis.opendocument.text")),
        ("ver", Meta::Int(1)),
    ]));
    planned.blob = Some((text::binary(item.id, size(spec, rng)), Place::default()));
}

fn mail(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned, slot: u32) {
    let sent = rng.u32(..10) == 0;
    let subject = text::words(rng, 5);
    let from = format!("{} <{}@elsewhere.test>", text::words(rng, 2), rng.u32(..5000));
    item.kind = kind::MESSAGE;
    item.parent = (4..9).contains(&slot).then(|| item.id - slot);
    item.folder = Some(match rng.u32(..20) {
        _ if sent => 5,
        0..8 => 2,
        8 => 3,
        9 => 4,
        other => folder_id(spec, other % FOLDERS.len() as u32),
    });
    item.index_id = Some(match rng.u32(..50) {
        0 => 0,
        1 => 1,
        _ => item.id,
    });
    item.sender = Some(from.clone());
    item.recipients = Some(spec.email.clone());
    item.metadata = Some(metadata(vec![
        ("f", Meta::Text(&subject)),
        ("s", Meta::Text(&from)),
        ("t", Meta::Text(&spec.email)),
        ("v", Meta::Int(10)),
    ]));
    item.unread = Some(u32::from(!sent && rng.u32(..10) == 0));
    flags_and_tags(spec, rng, item, planned, sent);
    let bytes = message(spec.mailbox, item.id, &from, &subject, size(spec, rng));
    item.subject = Some(subject);
    let place = Place {
        secondary: spec.hurts && item.id.is_multiple_of(5),
        legacy: spec.hurts && item.id.is_multiple_of(17),
        gzip: spec.hurts && item.id.is_multiple_of(29),
    };
    planned.blob = Some((bytes, place));
}

fn flags_and_tags(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned, sent: bool) {
    item.flags = i32::from(sent);
    for (bit, tag, _) in FLAGS {
        let set = if bit == UNREAD { item.unread == Some(1) } else { rng.u32(..20) == 0 };
        if set {
            item.flags |= bit;
            planned.tags.push(tag);
        }
    }
    let mut names = String::new();
    for (name, n) in TAGS.iter().zip(0u32..) {
        if rng.u32(..40) == 0 {
            names.push('\0');
            names.push_str(name);
            planned.tags.push(tag_id(spec, n));
        }
    }
    if !names.is_empty() {
        names.push('\0');
        item.tag_names = Some(names);
    }
}

/// A size with a lognormal spread around the mailbox's median, at most 4 MiB.
fn size(spec: &Spec, rng: &mut fastrand::Rng) -> usize {
    let normal: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
    let size = f64::from(spec.blob_median()) * (1.1 * normal).exp();
    size.clamp(200.0, f64::from(4 << 20)) as usize
}
