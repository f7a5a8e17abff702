//! Parts of a run that were undone while it went on.

use rusqlite::params;

use super::Journal;
use super::rebuild::REBUILT;
use super::run::RunJournal;
use crate::error::{Context, Kind, Result};

/// The name of an operation that stands for a part; those behind it are in it.
pub const PART: &str = "frozen_within";

impl Journal {
    /// Whether effects of a run were undone that it would take for done if it went on: all but those of parts that were
    /// undone, or are undone first because the run died in them, and those of which nobody knows, since the journal was
    /// lost.
    pub fn is_undone_in_part(&self, run: &str) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM operation AS o WHERE o.run = ? AND o.undone AND o.name <> ? AND NOT EXISTS (\
                   SELECT 1 FROM operation AS p WHERE p.run = o.run AND p.name = ? AND p.number < o.number \
                   AND (NOT p.done OR json_extract(p.result, '$.passed') >= o.number)))";
        self.db()
            .query_row(sql, params![run, REBUILT, PART], |row| row.get(0))
            .context(Kind::Io, || format!("run {run}: reading what was undone"))
    }
}

impl RunJournal {
    /// The last number that an operation got.
    pub fn last(&self) -> i64 {
        self.memory().last
    }

    /// Leaves out what is known of the operations behind the one with the number `after`, up to `until`: they were
    /// undone, and what comes by under the same name is not one of them.
    pub fn pass_over(&self, after: i64, until: i64) {
        let mut memory = self.memory();
        let (left, passed): (Vec<_>, Vec<_>) = std::mem::take(&mut memory.found)
            .into_iter()
            .partition(|(_, kept)| !(after + 1..=until).contains(&kept.number));
        memory.found = left.into_iter().collect();
        for ((name, what, ordinal), _) in passed {
            let seen = memory.seen.entry((name, what)).or_insert(0);
            *seen = ordinal.max(*seen);
        }
    }

    /// How many effects of operations behind the one with the number `after` remain to be undone.
    pub fn effects_after(&self, after: i64) -> Result<usize> {
        let sql = "SELECT COUNT(*) FROM operation WHERE run = ? AND number > ? AND undo IS NOT NULL AND NOT undone";
        let count: i64 = self
            .db()
            .query_row(sql, params![self.run(), after], |row| row.get(0))
            .context(Kind::Io, || format!("run {}: reading how to undo it", self.run()))?;
        Ok(count.try_into().unwrap_or_default())
    }
}
