//! What users do all day, from a seed.

use lab_mail::volume::digest;
use mysql::params;
use mysql::prelude::Queryable;

use super::deliver::Headers;
use super::item::{FLAGGED, NewItem, REPLIED, SYSTEM_FLAGS, UNREAD, folder, kind};
use super::state::{Folder, Tag};
use super::tx::Tx;
use super::{Mailbox, busy};
use crate::fault::{Fault, Outcome};
use crate::store::Store;

/// What picks.
pub type Rng = fastrand::Rng;
/// One thing that a user does; whether there was something to do it to.
pub type Action = fn(&mut Tx<'_>, &mut Rng) -> Outcome<bool>;

/// What can happen, how often of a hundred, and what it is called.
const ACTIONS: [(u8, &str, Action); 18] = [
    (20, "message", new_message),
    (13, "read", read_or_unread),
    (8, "flag", flag),
    (6, "system-flag", system_flag),
    (12, "move", move_message),
    (6, "delete", hard_delete),
    (6, "dump", soft_delete),
    (4, "new-tag", create_tag),
    (4, "tag", tag_message),
    (3, "rename-tag", rename_tag),
    (4, "document", new_document),
    (4, "revision", revise_document),
    (3, "data-source", data_source),
    (2, "out-of-office", out_of_office),
    (3, "appointment", appointment),
    (1, "new-folder", new_folder),
    (1, "rename-folder", rename_folder),
    // Only where it is asked for: what it takes away for good, mail among it, nobody could tell from what got lost.
    (0, "empty-dumpster", empty_dumpster),
];

/// Does `count` changes, each in a transaction of its own: of all kinds, of one, or what a `busy` user does. What cannot be done for want of an
/// item becomes a new message.
///
/// # Errors
/// `mail.MAINTENANCE` or `service.FAILURE`, the changes before it stay; `service.INVALID_REQUEST` for a kind that there
/// is not.
pub fn act(store: &Store, mailbox: &Mailbox, count: u32, seed: u64, kind: Option<&str>) -> Outcome<()> {
    let mut rng = Rng::with_seed(seed);
    let (actions, named) = match kind {
        Some("busy") => (&busy::ACTIONS[..], None),
        kind => (&ACTIONS[..], kind.map(named).transpose()?),
    };
    for _ in 0..count {
        let action = named.unwrap_or_else(|| pick(actions, &mut rng));
        mailbox.write(store, |tx| {
            if !action(tx, &mut rng)? {
                new_message(tx, &mut rng)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn named(kind: &str) -> Outcome<Action> {
    let found = ACTIONS.into_iter().find(|(_, name, _)| *name == kind);
    found.map(|(.., action)| action).ok_or_else(|| Fault::invalid_request(format!("{kind} is no kind of change")))
}

fn pick(actions: &[(u8, &str, Action)], rng: &mut Rng) -> Action {
    let mut at = rng.u8(..100);
    for &(weight, _, action) in actions {
        if at < weight {
            return action;
        }
        at -= weight;
    }
    new_message
}

fn text(rng: &mut Rng, words: usize) -> String {
    const WORDS: [&str; 12] = [
        "report",
        "(12,",
        "meeting",
        "caf\u{e9}",
        "invoice",
        "'quoted'",
        "plan",
        "back\\slash",
        "lunch",
        "\u{65e5}\u{672c}",
        "notes",
        "draft",
    ];
    (0..words).map(|_| WORDS[rng.usize(..WORDS.len())]).collect::<Vec<_>>().join(" ")
}

pub(super) fn new_message(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let topics = rng.usize(1..3);
    let mut subject = text(rng, topics);
    if rng.u8(..3) == 0 {
        subject = format!("Re: {subject}");
    }
    let headers = Headers {
        message_id: None,
        from: format!("sender{}@example.com", rng.u8(..20)),
        to: "user@lab.test".into(),
        subject,
    };
    let length = rng.usize(5..1500);
    let body = text(rng, length);
    let message = format!(
        "From: {}\r\nTo: {}\r\nMessage-ID: <{:016x}@act.lab.test>\r\nSubject: {}\r\n\r\n{body}\r\n",
        headers.from,
        headers.to,
        rng.u64(..),
        headers.subject
    );
    let incoming = tx.store.incoming(message.as_bytes())?;
    let (to, unread) = if rng.u8(..5) == 0 { (folder::SENT, false) } else { (folder::INBOX, true) };
    tx.add_message(&incoming, &headers, to, unread)?;
    Ok(true)
}

pub(super) fn read_or_unread(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some(item) = tx.pick(rng, "type = 5")? else { return Ok(false) };
    tx.set_flag(&item, UNREAD, !item.unread)?;
    Ok(true)
}

pub(super) fn flag(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some(item) = tx.pick(rng, "type = 5")? else { return Ok(false) };
    let flag = if rng.bool() { FLAGGED } else { REPLIED };
    tx.set_flag(&item, flag, item.flags & flag.mask() == 0)?;
    Ok(true)
}

pub(super) fn system_flag(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some(item) = tx.pick(rng, "type = 5")? else { return Ok(false) };
    let flag = SYSTEM_FLAGS[rng.usize(..SYSTEM_FLAGS.len())];
    tx.set_flag(&item, flag, item.flags & flag.mask() == 0)?;
    Ok(true)
}

pub(super) fn move_message(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some(item) = tx.pick(rng, "type = 5")? else { return Ok(false) };
    let folders = tx.state.tree.folders.keys().copied();
    let targets: Vec<u32> =
        folders.filter(|id| (2..=6).contains(id) || *id > 255).filter(|id| *id != item.folder).collect();
    let Some(target) = rng.choice(targets) else { return Ok(false) };
    let (change, now) = (tx.change(), tx.now);
    let statement = format!(
        "UPDATE {} SET folder_id = :folder, imap_id = 0, mod_metadata = :change, change_date = :now, \
         prev_folders = CONCAT(COALESCE(CONCAT(prev_folders, ';'), ''), :change, ':', :old) \
         WHERE mailbox_id = :mailbox AND id = :id",
        tx.table("mail_item")
    );
    tx.sql.exec_drop(
        statement,
        params! {
            "folder" => target, "change" => change, "now" => now, "old" => item.folder,
            "mailbox" => tx.mailbox.id, "id" => item.id,
        },
    )?;
    let unread = i64::from(item.unread);
    tx.adjust_folder(item.folder, -1, -unread, -item.size);
    tx.adjust_folder(target, 1, unread, item.size);
    Ok(true)
}

/// Mail of the mail writer is kept: a check that counts it could not tell a deletion from a loss.
pub(super) fn hard_delete(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some(item) = tx.pick(rng, "type = 5 AND COALESCE(sender, '') NOT LIKE '%@writer.lab.test%'")? else {
        return Ok(false);
    };
    tx.delete(&item).map(|()| true)
}

pub(super) fn soft_delete(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some(item) = tx.pick(rng, "type IN (5, 8, 11)")? else { return Ok(false) };
    tx.dump(&item).map(|()| true)
}

pub(super) fn create_tag(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let (id, change) = (tx.next_item(), tx.change());
    let name = format!("tag {id} {}", text(rng, 1));
    let statement = format!(
        "INSERT INTO {} (mailbox_id, id, name, color, item_count, unread, listed, sequence) VALUES (?, ?, ?, ?, 0, 0, 1, ?)",
        tx.table("tag")
    );
    tx.sql.exec_drop(statement, (tx.mailbox.id, id, &name, rng.u8(1..9), change))?;
    // Item ids stay far below the sign bit.
    let id = i32::try_from(id).unwrap_or(i32::MAX);
    tx.state.tree.tags.insert(id, Tag { name, count: 0, unread: 0 });
    Ok(true)
}

pub(super) fn tag_message(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some((tag, name)) = rng.choice(tx.user_tags()) else { return Ok(false) };
    let Some(item) = tx.pick(rng, "type = 5")? else { return Ok(false) };
    if tx.tags_of(item.id)?.contains(&tag) {
        return Ok(false);
    }
    tx.tag(&item, tag, &name)?;
    Ok(true)
}

/// Every item that carries the tag gets its new name, and a new change id.
pub(super) fn rename_tag(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some((tag, old)) = rng.choice(tx.user_tags()) else { return Ok(false) };
    let (mailbox, change, now) = (tx.mailbox.id, tx.change(), tx.now);
    let name = format!("tag {tag} renamed {change}");
    let statement = format!("UPDATE {} SET name = ?, sequence = ? WHERE mailbox_id = ? AND id = ?", tx.table("tag"));
    tx.sql.exec_drop(statement, (&name, change, mailbox, tag))?;
    let statement = format!(
        "UPDATE {} i JOIN {} t ON t.mailbox_id = i.mailbox_id AND t.item_id = i.id \
         SET i.tag_names = REPLACE(i.tag_names, CONCAT('\\0', :old, '\\0'), CONCAT('\\0', :name, '\\0')), \
         i.mod_metadata = :change, i.change_date = :now WHERE t.mailbox_id = :mailbox AND t.tag_id = :tag",
        tx.table("mail_item"),
        tx.table("tagged_item")
    );
    let values =
        params! { "old" => old, "name" => &name, "change" => change, "now" => now, "mailbox" => mailbox, "tag" => tag };
    tx.sql.exec_drop(statement, values)?;
    if let Some(t) = tx.state.tree.tags.get_mut(&tag) {
        t.name = name;
    }
    Ok(true)
}

pub(super) fn new_document(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let id = tx.next_item();
    let length = rng.usize(10..3000);
    let incoming = tx.store.incoming(text(rng, length).as_bytes())?;
    let name = format!("document {id}.txt");
    tx.place(&incoming, id)?;
    tx.insert(&NewItem {
        id,
        kind: kind::DOCUMENT,
        folder: folder::BRIEFCASE,
        index_id: Some(0),
        size: incoming.size,
        blob: Some((incoming.volume, &incoming.digest)),
        subject: Some(&name),
        name: Some(&name),
        metadata: "d2:ct10:text/plain1:vi10e3:veri1ee".into(),
        ..NewItem::default()
    })?;
    let bytes = i64::try_from(incoming.size).unwrap_or(i64::MAX);
    tx.adjust_folder(folder::BRIEFCASE, 1, 0, bytes);
    tx.adjust_size(bytes);
    Ok(true)
}

/// The old content becomes a revision, with the change ids it had; the item gets a new blob.
pub(super) fn revise_document(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some(item) = tx.pick(rng, "type = 8 AND locator IS NOT NULL")? else { return Ok(false) };
    let (mailbox, change, now) = (tx.mailbox.id, tx.change(), tx.now);
    let (items, revisions) = (tx.table("mail_item"), tx.table("revision"));
    let query = format!("SELECT COALESCE(MAX(version), 0) + 1 FROM {revisions} WHERE mailbox_id = ? AND item_id = ?");
    let version: u32 = tx.sql.exec_first(query, (mailbox, item.id))?.unwrap_or(1);
    tx.sql.exec_drop(
        format!(
            "INSERT INTO {revisions} (mailbox_id, item_id, version, date, size, locator, blob_digest, name, metadata, \
             mod_metadata, change_date, mod_content) SELECT mailbox_id, id, ?, date, size, locator, blob_digest, name, \
             metadata, mod_metadata, change_date, mod_content FROM {items} WHERE mailbox_id = ? AND id = ?"
        ),
        (version, mailbox, item.id),
    )?;
    let length = rng.usize(10..3000);
    let content = text(rng, length);
    let incoming = tx.store.incoming(content.as_bytes())?;
    tx.place(&incoming, item.id)?;
    debug_assert_eq!(incoming.digest, digest(content.as_bytes()));
    tx.sql.exec_drop(
        format!(
            "UPDATE {items} SET size = :size, locator = :locator, blob_digest = :digest, date = :now, index_id = 0, \
             metadata = :metadata, mod_metadata = :change, mod_content = :change, change_date = :now \
             WHERE mailbox_id = :mailbox AND id = :id"
        ),
        params! {
            "size" => incoming.size, "locator" => incoming.volume.to_string(), "digest" => &incoming.digest,
            "metadata" => format!("d2:ct10:text/plain1:vi10e3:veri{}ee", version + 1), "change" => change, "now" => now,
            "mailbox" => mailbox, "id" => item.id,
        },
    )?;
    let bytes = i64::try_from(incoming.size).unwrap_or(i64::MAX);
    tx.adjust_folder(item.folder, 0, 0, bytes);
    tx.adjust_size(bytes);
    Ok(true)
}

fn data_source(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some(item) = tx.pick(rng, "type = 5")? else { return Ok(false) };
    let statement = format!(
        "REPLACE INTO {} (mailbox_id, data_source_id, item_id, folder_id, remote_id, metadata) \
         VALUES (?, '00000000-0000-4000-8000-000000000001', ?, ?, ?, 'de')",
        tx.table("data_source_item")
    );
    tx.sql.exec_drop(statement, (tx.mailbox.id, item.id, item.folder, format!("remote-{}", item.id)))?;
    Ok(true)
}

fn out_of_office(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let statement = "REPLACE INTO zimbra.out_of_office (mailbox_id, sent_to, sent_on) VALUES (?, ?, NOW())";
    tx.sql.exec_drop(statement, (tx.mailbox.id, format!("friend{}@example.com", rng.u8(..50))))?;
    Ok(true)
}

/// A new appointment, or one that exists is put off: then only its row of times changes with it.
fn appointment(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let (mailbox, table) = (tx.mailbox.id, tx.table("appointment"));
    if rng.bool()
        && let Some(item) = tx.pick(rng, "type = 11")?
    {
        let statement = format!(
            "UPDATE {table} SET start_time = start_time + INTERVAL 1 HOUR, end_time = end_time + INTERVAL 1 HOUR WHERE mailbox_id = ? AND item_id = ?"
        );
        tx.sql.exec_drop(statement, (mailbox, item.id))?;
        tx.bump(item.id)?;
        return Ok(true);
    }
    let id = tx.next_item();
    let words = rng.usize(2..5);
    let subject = text(rng, words);
    let incoming =
        tx.store.incoming(format!("BEGIN:VCALENDAR\r\nSUMMARY:{subject}\r\nEND:VCALENDAR\r\n").as_bytes())?;
    tx.place(&incoming, id)?;
    tx.insert(&NewItem {
        id,
        kind: kind::APPOINTMENT,
        folder: folder::CALENDAR,
        index_id: Some(0),
        size: incoming.size,
        blob: Some((incoming.volume, &incoming.digest)),
        subject: Some(&subject),
        metadata: "d1:vi10ee".into(),
        ..NewItem::default()
    })?;
    let statement = format!(
        "INSERT INTO {table} (mailbox_id, uid, item_id, start_time, end_time) VALUES (?, ?, ?, NOW() + INTERVAL ? DAY, NOW() + INTERVAL ? DAY)"
    );
    let days = rng.u8(1..60);
    tx.sql.exec_drop(statement, (mailbox, format!("{:032x}", rng.u128(..)), id, days, days))?;
    let bytes = i64::try_from(incoming.size).unwrap_or(i64::MAX);
    tx.adjust_folder(folder::CALENDAR, 1, 0, bytes);
    tx.adjust_size(bytes);
    Ok(true)
}

pub(super) fn new_folder(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let Some(inbox) = tx.state.tree.folders.get(&folder::INBOX).cloned() else { return Ok(false) };
    let (id, change, now, mailbox) = (tx.next_item(), tx.change(), tx.now, tx.mailbox.id);
    let name = format!("folder {id} {}", text(rng, 1));
    let made = Folder { name, parent: inbox.parent, count: 0, unread: 0, metadata: inbox.metadata };
    let statement = format!(
        "INSERT INTO {} (mailbox_id, id, type, parent_id, folder_id, date, size, unread, flags, tags, subject, name, \
         metadata, mod_metadata, change_date, mod_content) VALUES (:mailbox, :id, 1, :parent, :parent, :now, 0, 0, 0, 0, \
         :name, :name, :metadata, :change, :now, :change)",
        tx.table("mail_item")
    );
    tx.sql.exec_drop(
        statement,
        params! {
            "mailbox" => mailbox, "id" => id, "parent" => made.parent, "now" => now, "name" => &made.name,
            "metadata" => &made.metadata, "change" => change,
        },
    )?;
    tx.state.tree.folders.insert(id, made);
    Ok(true)
}

/// A folder of the user's own gets another name.
pub(super) fn rename_folder(tx: &mut Tx<'_>, rng: &mut Rng) -> Outcome<bool> {
    let own: Vec<u32> = tx.state.tree.folders.keys().copied().filter(|id| *id > 255).collect();
    let Some(id) = rng.choice(own) else { return new_folder(tx, rng) };
    let (change, now, mailbox) = (tx.change(), tx.now, tx.mailbox.id);
    let name = format!("folder {id} renamed {change}");
    let statement = format!(
        "UPDATE {} SET name = :name, subject = :name, mod_metadata = :change, change_date = :now \
         WHERE mailbox_id = :mailbox AND id = :id",
        tx.table("mail_item")
    );
    let values = params! { "name" => &name, "change" => change, "now" => now, "mailbox" => mailbox, "id" => id };
    tx.sql.exec_drop(statement, values)?;
    if let Some(f) = tx.state.tree.folders.get_mut(&id) {
        f.name = name;
    }
    Ok(true)
}

/// All that was recoverable goes for good: rows first, the blobs when that is committed.
pub(super) fn empty_dumpster(tx: &mut Tx<'_>, _: &mut Rng) -> Outcome<bool> {
    let mailbox = tx.mailbox.id;
    let volumes = tx.store.volumes();
    let mut found = false;
    for (name, item) in [("mail_item_dumpster", "id"), ("revision_dumpster", "item_id")] {
        let query = format!(
            "SELECT {item}, mod_content, locator FROM {} WHERE mailbox_id = ? AND locator IS NOT NULL",
            tx.table(name)
        );
        let blobs: Vec<(u32, u32, String)> = tx.sql.exec(query, (mailbox,))?;
        for (item, mod_content, locator) in blobs {
            found = true;
            if let Some(volume) = volumes.at(&locator) {
                tx.doom(volume.blob_path(mailbox, item, mod_content));
            }
        }
    }
    for name in ["appointment_dumpster", "revision_dumpster", "mail_item_dumpster"] {
        tx.sql.exec_drop(format!("DELETE FROM {} WHERE mailbox_id = ?", tx.table(name)), (mailbox,))?;
    }
    if found {
        return Ok(true);
    }
    // For the next time.
    soft_delete(tx, &mut Rng::with_seed(u64::from(tx.now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_make_a_hundred() {
        assert_eq!(ACTIONS.iter().map(|(w, ..)| u32::from(*w)).sum::<u32>(), 100);
    }

    #[test]
    fn a_seed_decides() {
        let texts = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..5).map(|_| text(&mut rng, 4)).collect::<Vec<_>>()
        };
        assert_eq!(texts(7), texts(7));
        assert_ne!(texts(7), texts(8));
    }
}
