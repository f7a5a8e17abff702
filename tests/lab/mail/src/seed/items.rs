//! The bulk of a mailbox: messages in conversations, contacts, appointments, documents, tasks.
//!
//! Every item is a function of the seed and its id, so blobs are written by several threads while rows
//! are sent by one.

use std::sync::mpsc::sync_channel;
use std::thread;

use super::build::{Build, Item, NOW, Place, kind, write};
use super::tags::TAGS;
use super::{FIRST_ITEM, Spec, calendar, forms, mail, text};
use crate::Result;
use crate::bencode::{dict, encode};
use crate::volume::Volumes;

/// Names of the user's folders; their ids follow those of the tags.
pub(super) const FOLDERS: [&str; 8] = ["Archive", "2021", "2022", "2023", "Projects", "Kunden", "Übersicht", "会議"];

/// Items in one block: the first is a conversation that holds some of those that follow.
pub(super) const BLOCK: u32 = 20;

/// Items that one thread makes before it hands them over.
const CHUNK: u32 = 1000;

const THREADS: u32 = 2;

const YEAR: u32 = 31_536_000;

/// An item and what else must be said about it.
#[derive(Default)]
pub(super) struct Planned {
    item: Item,
    pub(super) blob: Option<(Vec<u8>, Place)>,
    pub(super) tags: Vec<i32>,
    /// UID, start and end of what is in a calendar.
    pub(super) times: Option<[String; 3]>,
    /// Whether answers to it are still awaited.
    pub(super) open: bool,
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
    Ok(())
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
    let Planned { item, blob, tags, times, open } = planned;
    if let Some((bytes, _)) = blob {
        build.made.blobs += 1;
        build.made.bytes += bytes.len() as u64;
    }
    for tag in tags {
        build.tag(tag, item.id, item.unread == Some(1))?;
    }
    if let Some([uid, start, end]) = times {
        build.appointment("appointment", &uid, item.id, &start, Some(&end))?;
    }
    if open {
        build.await_answers(item.id)?;
    }
    build.item(item)
}

fn plan(spec: &Spec, n: u32) -> Planned {
    let (mut rng, mut item) = base(spec, n);
    let mut planned = Planned::default();
    match n % BLOCK {
        0 if mail::has_conversation(spec, n) => {
            mail::conversation(spec, &mut rng, &mut item, n);
            planned.open = item.id.is_multiple_of(3);
        }
        1 => contact(spec, &mut rng, &mut item, &mut planned),
        2 if n.is_multiple_of(3) => calendar::plan(spec, &mut rng, &mut item, &mut planned, kind::APPOINTMENT),
        2 if (n / BLOCK).is_multiple_of(5) => calendar::plan(spec, &mut rng, &mut item, &mut planned, kind::TASK),
        3 if n.is_multiple_of(2) => document(spec, &mut rng, &mut item, &mut planned),
        slot => mail::message(spec, &mut rng, &mut item, &mut planned, slot),
    }
    planned.item = item;
    planned
}

/// What all items have, and the numbers that make the rest of this one.
pub(super) fn base(spec: &Spec, n: u32) -> (fastrand::Rng, Item) {
    let id = FIRST_ITEM + n;
    let mut rng = fastrand::Rng::with_seed(spec.seed.wrapping_mul(0x9e37_79b9) ^ u64::from(id));
    let change = 101 + n;
    let changed_later = rng.u32(..10) < 3;
    let item = Item {
        id,
        date: NOW - rng.u32(..3 * YEAR),
        mod_content: change,
        mod_metadata: if changed_later { change + rng.u32(..=spec.items - n) } else { change },
        change_date: Some(NOW - rng.u32(..YEAR)),
        imap_id: Some(id),
        index_id: Some(id),
        ..Item::default()
    };
    (rng, item)
}

fn contact(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned) {
    let (first, last) = (text::words(rng, 1), text::words(rng, 1));
    let address = format!("{}@elsewhere.test", item.id);
    item.kind = kind::CONTACT;
    item.folder = Some(7);
    let email = ("email", address.as_str().into());
    if item.id.is_multiple_of(4) {
        // Only a picture is kept beside the metadata. This one has no name to be filed under.
        let bytes = text::binary(item.id, size(spec, rng));
        let mut metadata = forms::contact(dict([email, ("fullName", format!("{first} {last}").into())]));
        metadata.insert("att".into(), forms::attachment(bytes.len()));
        item.metadata = Some(encode(&metadata));
        planned.blob = Some((bytes, Place::default()));
        return;
    }
    item.sender = Some(format!("{last}, {first}"));
    let fields = dict([email, ("firstName", first.into()), ("lastName", last.into())]);
    item.metadata = Some(encode(&forms::contact(fields)));
}

fn document(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned) {
    let name = format!("{} {}.odt", text::words(rng, 2), item.id);
    item.kind = kind::DOCUMENT;
    item.folder = Some(16);
    item.imap_id = Some(0);
    item.uuid = Some(text::uuid(rng));
    item.sender = Some(spec.email.clone());
    item.subject = Some(name.clone());
    item.name = Some(name);
    let fragment = text::words(rng, 12);
    let kind = "application/vnd.oasis.opendocument.text";
    item.metadata = Some(encode(&forms::document(&spec.email, kind, &fragment, 1)));
    planned.blob = Some((text::binary(item.id, size(spec, rng)), Place::default()));
}

/// A size with a lognormal spread around the mailbox's median, at most 4 MiB.
pub(super) fn size(spec: &Spec, rng: &mut fastrand::Rng) -> usize {
    let normal: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
    let size = f64::from(spec.blob_median()) * (1.1 * normal).exp();
    size.clamp(200.0, f64::from(4 << 20)) as usize
}
