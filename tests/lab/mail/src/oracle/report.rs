//! What a check found.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Lines kept in a report; the count goes on beyond them.
const LINES: usize = 200;

/// What a check found: differences are violations, notes are not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The name of the check.
    pub check: String,
    /// How many differences there are; 0 is success.
    pub differences: usize,
    /// The first of them, one a line: the invariant (`I1` to `I10`), the thing, what is wrong with it.
    pub lines: Vec<String>,
    /// What is worth knowing and no violation.
    pub notes: Vec<String>,
    /// Rows compared.
    pub rows: u64,
    /// Blobs read and verified.
    pub blobs: u64,
    /// Accepted messages looked for.
    pub messages: u64,
    /// Those of them that are nowhere; each is a difference as well.
    #[serde(default)]
    pub lost: u64,
    /// How long the check took.
    pub seconds: f64,
}

impl Report {
    pub(super) fn new(check: &str) -> Self {
        Self { check: check.into(), ..Self::default() }
    }

    pub(super) fn differ(&mut self, line: impl Into<String>) {
        self.differences += 1;
        if self.lines.len() < LINES {
            self.lines.push(line.into());
        }
    }

    pub(super) fn note(&mut self, line: impl Into<String>) {
        if self.notes.len() < LINES {
            self.notes.push(line.into());
        }
    }

    /// Whether nothing differs.
    pub fn is_clean(&self) -> bool {
        self.differences == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} differences; {} rows, {} blobs, {} messages in {:.1} s",
            self.check, self.differences, self.rows, self.blobs, self.messages, self.seconds
        )?;
        self.lines.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        if self.lines.len() < self.differences {
            writeln!(f, "  ... and {} more", self.differences - self.lines.len())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}
