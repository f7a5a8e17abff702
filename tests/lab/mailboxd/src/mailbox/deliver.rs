//! New messages.

use super::item::{FLAGGED, NewItem, kind};
use super::tx::Tx;
use crate::fault::Outcome;
use crate::store::Incoming;
use lab_mail::bencode;

/// The headers of a message, as far as rows need them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// `Message-ID`.
    pub message_id: Option<String>,
    /// `From`.
    pub from: String,
    /// `To`.
    pub to: String,
    /// `Subject`.
    pub subject: String,
}

impl Headers {
    /// Reads them from a message. Characters that the columns cannot hold are left out.
    pub fn of(message: &[u8]) -> Self {
        let end = message.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(message.len());
        let text = String::from_utf8_lossy(&message[..end]).replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut headers = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value: String = value.trim().chars().filter(|c| *c <= '\u{ffff}').collect();
            match name.to_ascii_lowercase().as_str() {
                "message-id" => headers.message_id = Some(value),
                "from" => headers.from = value,
                "to" => headers.to = value,
                "subject" => headers.subject = value,
                _ => {}
            }
        }
        headers
    }
}

/// The first characters of a text, as many as a column takes.
pub fn cut(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(at, _)| &text[..at])
}

impl Tx<'_> {
    /// Adds a message to a folder; gives its id. It is indexed later.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn add_message(&mut self, incoming: &Incoming, headers: &Headers, folder: u32, unread: bool) -> Outcome<u32> {
        let id = self.next_item();
        let parent = self.join_conversation(&headers.subject)?;
        self.place(incoming, id)?;
        self.insert(&NewItem {
            id,
            kind: kind::MESSAGE,
            parent,
            folder,
            index_id: Some(0),
            size: incoming.size,
            blob: Some((incoming.volume, &incoming.digest)),
            unread,
            sender: Some(cut(&headers.from, 128)),
            recipients: Some(cut(&headers.to, 128)),
            subject: Some(cut(&headers.subject, 1000)),
            name: None,
            metadata: format!("d1:f{}:{}1:vi10ee", bencode::length(&headers.subject), headers.subject),
        })?;
        if parent.is_none() {
            self.open_conversation(&headers.subject, id)?;
        }
        let bytes = i64::try_from(incoming.size).unwrap_or(i64::MAX);
        self.adjust_folder(folder, 1, i64::from(unread), bytes);
        self.adjust_size(bytes);
        if unread {
            self.note_new_message();
        }
        Ok(id)
    }

    /// What the user's filters do with some of the messages that are delivered: flag them, tag them.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn filter(&mut self, id: u32) -> Outcome<()> {
        let mut rng = fastrand::Rng::with_seed(id.into());
        let Some(item) = self.pick(&mut rng, &format!("id = {id}"))? else { return Ok(()) };
        if rng.u8(..7) == 0 {
            self.set_flag(&item, FLAGGED, true)?;
        }
        match rng.choice(self.user_tags()) {
            Some((tag, name)) if rng.u8(..7) == 0 => self.tag(&item, tag, &name),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_unfolded() {
        let h = Headers::of(b"From: a@b\r\nSubject: one\r\n two\r\nMESSAGE-ID: <1@x>\r\n\r\nSubject: body\r\n");
        assert_eq!((h.from.as_str(), h.subject.as_str(), h.message_id.as_deref()), ("a@b", "one two", Some("<1@x>")));
        assert_eq!(Headers::of(b"\xff\xfe").subject, "");
        assert_eq!(Headers::of("Subject: a\u{1f600}\u{20ac}\r\n\r\n".as_bytes()).subject, "a\u{20ac}");
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("a\u{e4}b", 2), "a\u{e4}");
        assert_eq!(cut("ab", 9), "ab");
    }
}
