//! What the mail writer did with each message, one JSON object a line.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Milliseconds since 1970.
    pub at: u64,
    /// What happened.
    pub event: Event,
    /// The message's `Message-ID`, with its angle brackets; empty in a summary.
    #[serde(default)]
    pub id: String,
    /// The recipient; empty in a summary.
    #[serde(default)]
    pub rcpt: String,
    /// The address spoken to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// What it said, or why nothing was heard.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reply: String,
    /// Answers to DATA that were lost, so far: the message may have been accepted each time.
    #[serde(default)]
    pub lost_answers: u32,
    /// Milliseconds since the message was queued.
    #[serde(default)]
    pub waited: u64,
    /// The sums, in the last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// It is to be delivered.
    Queued,
    /// Not now: it will be tried again.
    Deferred,
    /// The store answered 250: it must never be lost.
    Accepted,
    /// The store answered 5xx: the sender got it back.
    Bounced,
    /// The writer ended with it still queued.
    Undelivered,
    /// The last line: sums.
    Summary,
}

/// Sums of a writer's run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Messages made.
    pub queued: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Messages refused for good.
    pub bounced: u64,
    /// Attempts that were put off.
    pub deferred: u64,
    /// Messages still queued at the end.
    pub undelivered: u64,
    /// The longest time between queueing and acceptance, in milliseconds.
    pub longest_wait: u64,
}

/// The fate of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The recipient, in lower case.
    pub rcpt: String,
    /// The last event.
    pub event: Event,
    /// The last answer.
    pub reply: String,
    /// Answers to DATA that were lost.
    pub lost_answers: u32,
}

/// A journal that was read back: fates by `Message-ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// Fates by `Message-ID`, with its angle brackets.
    pub messages: BTreeMap<String, Fate>,
    /// The sums, when the writer ended in order.
    pub summary: Option<Summary>,
}

impl Journal {
    /// Reads a journal. A last line that is cut short is left out: its writer was killed.
    ///
    /// # Errors
    /// The file cannot be read, or a line before the last is none.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut journal = Self::default();
        let mut broken: Option<serde_json::Error> = None;
        for line in BufReader::new(File::open(path)?).lines() {
            if let Some(e) = broken.take() {
                let what = format!("{}: a line is no JSON: {e}", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            match serde_json::from_str(&line?) {
                Ok(line) => journal.add(line),
                Err(e) => broken = Some(e),
            }
        }
        Ok(journal)
    }

    fn add(&mut self, line: Line) {
        if line.event == Event::Summary {
            self.summary = line.summary;
            return;
        }
        let fate = Fate {
            rcpt: line.rcpt.to_lowercase(),
            event: line.event,
            reply: line.reply,
            lost_answers: line.lost_answers,
        };
        self.messages.insert(line.id, fate);
    }
}

/// A journal being written.
pub(crate) struct JournalFile {
    file: File,
}

impl JournalFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file })
    }

    /// Writes a line at once and whole, so that a killed writer leaves at most one cut line.
    pub(crate) fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}
