//! Mail: every message that a store accepted must be there once.

use std::collections::{BTreeMap, BTreeSet};

use mysql::prelude::Queryable;

use super::mailbox::Home;
use super::report::Report;
use super::{After, Before, Store};
use crate::Result;
use crate::journal::Event;
use crate::volume::{Volumes, read_blob};

/// Checks the mail in the account's home against the journal.
pub(super) fn check(
    report: &mut Report,
    before: &Before,
    store: &mut Store<'_>,
    volumes: &Volumes,
    home: &Home,
    after: &After<'_>,
) -> Result<()> {
    let Some(journal) = after.journal else {
        return Ok(());
    };
    let addresses = addresses(before);
    let known: BTreeSet<u32> = ["mail_item", "mail_item_dumpster"]
        .iter()
        .filter_map(|table| before.mailbox.tables.get(*table))
        .flatten()
        .filter_map(|row| row.key.parse().ok())
        .collect();
    let blobs = messages(store.conn, home)?;
    let (old, new): (Vec<_>, Vec<_>) = blobs.into_iter().partition(|(item, ..)| known.contains(item));
    let mut present = Present::default();
    for (item, id) in read(volumes, home, &new) {
        match id {
            Some(id) if journal.messages.contains_key(&id) => present.add(id, item),
            // A user's session made it, not the writer.
            Some(id) if after.items_changed && id.ends_with("@act.lab.test>") => {}
            Some(id) => report.differ(format!("I2 item {item}: {id} was never sent by the writer")),
            None => report.differ(format!("I2 item {item}: no Message-ID to be read")),
        }
    }
    let sent = journal.messages.iter().filter(|(_, fate)| addresses.contains(&fate.rcpt));
    let accepted: Vec<_> = sent.clone().filter(|(_, fate)| fate.event == Event::Accepted).collect();
    if accepted.iter().any(|(id, _)| !present.by_id.contains_key(*id)) {
        // Mail from before the capture counts as well.
        for (item, id) in read(volumes, home, &old) {
            if let Some(id) = id.filter(|id| journal.messages.contains_key(id)) {
                present.add(id, item);
            }
        }
    }
    report.messages += accepted.len() as u64;
    for (id, fate) in sent {
        let times = present.by_id.get(id).map_or(0, Vec::len);
        let explained = 1 + fate.lost_answers as usize;
        match fate.event {
            Event::Accepted if times == 0 => {
                report.lost += 1;
                report.differ(format!("I2 message {id}: accepted ({}) and lost", fate.reply));
            }
            Event::Bounced => report.differ(format!("I2 message {id}: bounced: {}", fate.reply)),
            _ if times > explained => {
                report.differ(format!("I2 message {id}: there {times} times, as {:?}", present.by_id[id]));
            }
            _ if times > 1 => report
                .note(format!("message {id}: there {times} times; {} answers to DATA were lost", fate.lost_answers)),
            Event::Accepted => {}
            _ if times == 1 && fate.lost_answers == 0 && fate.event != Event::Queued => {
                report.note(format!("message {id}: there, though never accepted"));
            }
            _ => report.note(format!("message {id}: still with the writer: {}", fate.reply)),
        }
    }
    Ok(())
}

#[derive(Default)]
struct Present {
    by_id: BTreeMap<String, Vec<u32>>,
}

impl Present {
    fn add(&mut self, id: String, item: u32) {
        self.by_id.entry(id).or_default().push(item);
    }
}

/// The account's addresses, in lower case.
fn addresses(before: &Before) -> BTreeSet<String> {
    let names = ["mail", "zimbraMailDeliveryAddress", "zimbraMailAlias"];
    let account = before.ldap.get(&before.account_id);
    let from_ldap = account
        .into_iter()
        .flat_map(|account| names.iter().filter_map(|name| account.get(*name)))
        .flatten()
        .map(|address| address.to_lowercase());
    let comment = before.mailbox.home.row.get("comment").cloned().flatten();
    from_ldap.chain(comment.map(|comment| comment.to_lowercase())).collect()
}

type Message = (u32, u32, String, u64);

fn messages(conn: &mut mysql::Conn, home: &Home) -> Result<Vec<Message>> {
    let mut all = Vec::new();
    for table in ["mail_item", "mail_item_dumpster"] {
        all.extend(conn.exec::<Message, _, _>(
            format!(
                "SELECT id, mod_content, IFNULL(locator, ''), size FROM mboxgroup{}.{table} \
                 WHERE mailbox_id = ? AND type = 5 AND blob_digest IS NOT NULL",
                home.group
            ),
            (home.id,),
        )?);
    }
    Ok(all)
}

fn read<'a>(
    volumes: &'a Volumes,
    home: &'a Home,
    messages: &'a [Message],
) -> impl Iterator<Item = (u32, Option<String>)> + 'a {
    messages.iter().map(|(item, mod_content, locator, size)| {
        let path = volumes.at(locator).map(|volume| volume.blob_path(home.id, *item, *mod_content));
        // A blob that cannot be read is a difference of its own, reported with the blobs.
        let bytes = path.and_then(|path| read_blob(&path, *size).ok());
        (*item, bytes.and_then(|bytes| message_id(&bytes)))
    })
}

/// The `Message-ID` in the header of a message, with its angle brackets.
fn message_id(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(16 << 10)]);
    text.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("message-id"))
        .map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_found_in_the_header_only() {
        let with = b"Received: x\r\nmessage-id:  <1@a>\r\n\r\nbody";
        let without = b"Subject: x\r\n\r\nMessage-ID: <1@a>\r\n";
        assert_eq!(message_id(with).as_deref(), Some("<1@a>"));
        assert_eq!(message_id(without), None);
    }
}
