//! Conversations: a second message of a subject makes one, and answers join it.

use lab_mail::volume::legacy_digest;
use mysql::prelude::Queryable;

use super::item::{Item, NewItem, folder, kind};
use super::tx::Tx;
use crate::fault::Outcome;

impl Tx<'_> {
    /// Finds the conversation that a message with this subject joins; makes it when the message is an
    /// answer to one that stood alone, which is then changed too.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn join_conversation(&mut self, subject: &str) -> Outcome<Option<u32>> {
        let Some(topic) = answered(subject) else { return Ok(None) };
        let (mailbox, change, now) = (self.mailbox.id, self.change(), self.now);
        let (items, open) = (self.table("mail_item"), self.table("open_conversation"));
        let query = format!(
            "SELECT i.id, i.type FROM {open} o JOIN {items} i ON i.mailbox_id = o.mailbox_id AND i.id = o.conv_id \
             WHERE o.mailbox_id = ? AND o.hash = ?"
        );
        let found: Option<(u32, u8)> = self.sql.exec_first(query, (mailbox, hash(topic)))?;
        let Some((id, found)) = found else { return Ok(None) };
        if found == kind::CONVERSATION {
            let grow = format!(
                "UPDATE {items} SET size = size + 1, mod_metadata = ?, change_date = ? WHERE mailbox_id = ? AND id = ?"
            );
            self.sql.exec_drop(grow, (change, now, mailbox, id))?;
            return Ok(Some(id));
        }
        let conversation = self.next_item();
        self.insert(&NewItem {
            id: conversation,
            kind: kind::CONVERSATION,
            folder: folder::CONVERSATIONS,
            size: 2,
            subject: Some(topic),
            metadata: "d1:vi10ee".into(),
            ..NewItem::default()
        })?;
        let adopt = format!(
            "UPDATE {items} SET parent_id = ?, mod_metadata = ?, change_date = ? WHERE mailbox_id = ? AND id = ?"
        );
        self.sql.exec_drop(adopt, (conversation, change, now, mailbox, id))?;
        let reopen = format!("UPDATE {open} SET conv_id = ? WHERE mailbox_id = ? AND hash = ?");
        self.sql.exec_drop(reopen, (conversation, mailbox, hash(topic)))?;
        Ok(Some(conversation))
    }

    /// From now on answers to this subject join `item`.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn open_conversation(&mut self, subject: &str, item: u32) -> Outcome<()> {
        let topic = answered(subject).unwrap_or(subject);
        let statement =
            format!("REPLACE INTO {} (mailbox_id, hash, conv_id) VALUES (?, ?, ?)", self.table("open_conversation"));
        Ok(self.sql.exec_drop(statement, (self.mailbox.id, hash(topic), item))?)
    }

    /// A message leaves its conversation; the last one takes it with it.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn leave_conversation(&mut self, item: &Item) -> Outcome<()> {
        let Some(conversation) = item.parent else { return Ok(()) };
        let (mailbox, change, now) = (self.mailbox.id, self.change(), self.now);
        let items = self.table("mail_item");
        let query = format!("SELECT COUNT(*) FROM {items} WHERE mailbox_id = ? AND parent_id = ?");
        let left: u64 = self.sql.exec_first(query, (mailbox, conversation))?.unwrap_or(0);
        if left == 0 {
            let delete = format!("DELETE FROM {items} WHERE mailbox_id = ? AND id = ? AND type = ?");
            return Ok(self.sql.exec_drop(delete, (mailbox, conversation, kind::CONVERSATION))?);
        }
        let shrink = format!(
            "UPDATE {items} SET size = ?, mod_metadata = ?, change_date = ? WHERE mailbox_id = ? AND id = ? AND type = ?"
        );
        Ok(self.sql.exec_drop(shrink, (left, change, now, mailbox, conversation, kind::CONVERSATION))?)
    }
}

fn hash(topic: &str) -> String {
    legacy_digest(topic.trim().to_lowercase().as_bytes())
}

/// What a subject answers to.
fn answered(subject: &str) -> Option<&str> {
    let subject = subject.trim_start();
    let marked = subject.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("re:"));
    marked.then(|| subject[3..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_known_by_their_mark() {
        assert_eq!(answered(" RE: x"), Some("x"));
        assert_eq!(answered("Report"), None);
        assert_eq!(answered("r\u{e9}:"), None);
        assert_eq!(hash("Topic "), hash("topic"));
        assert_eq!(hash("x").len(), 28);
    }
}
