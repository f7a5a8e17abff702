//! Messages, and the conversations that hold some of them.

use super::build::{Item, Place, kind};
use super::forms::{self, Person};
use super::items::{BLOCK, FOLDERS, Planned, base, folder_id};
use super::tags::{SENT, TAGS, UNREAD, bit, tag_id};
use super::{FIRST_ITEM, Spec, text};
use crate::bencode::encode;

/// Flags that users and the system set here and there.
const SOME_FLAGS: [i32; 3] = [-2, -3, -6];

/// The places in a block whose messages are in its conversation.
const MEMBERS: std::ops::Range<u32> = 4..9;

/// Whether the block of the item at `n` has a conversation: one of a single message is none.
pub(super) fn has_conversation(spec: &Spec, n: u32) -> bool {
    n - n % BLOCK + MEMBERS.start + 1 < spec.items
}

/// Makes an item a conversation: its flags and tags are those of its messages, its size is their number.
pub(super) fn conversation(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, n: u32) {
    let mut people: Vec<Person> = Vec::new();
    let (mut count, mut last, mut names) = (0, 0, Vec::new());
    for member in MEMBERS.map(|slot| n + slot).filter(|member| *member < spec.items) {
        let (mut rng, mut message) = base(spec, member);
        let mut planned = Planned::default();
        let from = row(spec, &mut rng, &mut message, &mut planned, member % BLOCK);
        if !people.iter().any(|person| person.address == from.address) {
            people.push(from);
        }
        count += 1;
        last = last.max(message.date);
        item.flags |= message.flags;
        names.extend(message.tag_names.iter().flat_map(|names| names.split('\0')).map(str::to_owned));
    }
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    item.kind = kind::CONVERSATION;
    item.folder = Some(9);
    item.index_id = None;
    item.imap_id = None;
    item.unread = None;
    item.prev_folders = None;
    item.date = last;
    item.size = u64::from(count);
    item.tag_names = (!names.is_empty()).then(|| format!("\0{}\0", names.join("\0")));
    item.subject = Some(text::words(rng, 4));
    item.metadata = Some(encode(&forms::conversation(&people, last, count)));
}

/// Makes an item a message with its blob.
pub(super) fn message(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned, slot: u32) {
    let from = row(spec, rng, item, planned, slot).header();
    let subject = item.subject.clone().unwrap_or_default();
    let bytes = text::message(spec.mailbox, item.id, &from, &subject, super::items::size(spec, rng));
    let place = Place {
        secondary: spec.hurts && item.id.is_multiple_of(5),
        legacy: spec.hurts && item.id.is_multiple_of(17),
        gzip: spec.hurts && item.id.is_multiple_of(29),
    };
    planned.blob = Some((bytes, place));
}

/// Makes an item a message but for its blob; gives who sent it.
fn row(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned, slot: u32) -> Person {
    let sent = rng.u32(..10) == 0;
    let subject = text::words(rng, 5);
    let person = Person { name: text::words(rng, 2), address: format!("{}@elsewhere.test", rng.u32(..5000)) };
    let n = item.id - FIRST_ITEM;
    item.kind = kind::MESSAGE;
    item.parent = (MEMBERS.contains(&slot) && has_conversation(spec, n)).then(|| item.id - slot);
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
    if item.mod_metadata > item.mod_content && rng.u32(..4) == 0 {
        // It came from elsewhere, and no IMAP client has opened the folder since.
        item.prev_folders = Some(format!("{}:2", item.mod_metadata));
        item.imap_id = Some(0);
    }
    item.sender = Some(person.column());
    item.recipients = Some(spec.email.clone());
    let mut metadata = forms::message(&text::words(rng, 12), &person.header(), &spec.email);
    if rng.u32(..5) == 0 {
        metadata.insert("p".into(), "Re: ".into());
    }
    item.metadata = Some(encode(&metadata));
    item.subject = Some(subject);
    item.unread = Some(u32::from(!sent && rng.u32(..10) == 0));
    flags_and_tags(spec, rng, item, planned, sent);
    planned.open = item.parent.is_none() && item.id.is_multiple_of(3);
    person
}

fn flags_and_tags(spec: &Spec, rng: &mut fastrand::Rng, item: &mut Item, planned: &mut Planned, sent: bool) {
    let some = SOME_FLAGS.into_iter().filter(|_| rng.u32(..20) == 0).collect::<Vec<_>>();
    for flag in some.into_iter().chain(sent.then_some(SENT)) {
        item.flags |= bit(flag);
        planned.tags.push(flag);
    }
    if item.unread == Some(1) {
        planned.tags.push(UNREAD);
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
