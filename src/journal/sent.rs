//! Requests that a run sent: written down before they leave, crossed out when it is known what came of them. What stands
//! here may still be carried out, whatever the directory says meanwhile, by whoever got it.

use std::time::Duration;

use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::run::RunJournal;
use super::{SENT, now};
use crate::error::{Context, Kind, Result};

/// A request that was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Its place in the order of operations.
    #[serde(skip)]
    pub number: i64,
    /// The store whose mailboxd got it.
    pub store: String,
    /// When, in seconds since 1970.
    pub at: i64,
    /// What it asks for.
    pub asked: Value,
    /// Whether the same was asked for more than once: what is seen of it then tells nobody which of them it was.
    #[serde(skip)]
    pub is_repeated: bool,
    /// Whether it is known what came of it.
    #[serde(skip)]
    pub is_known: bool,
}

impl Sent {
    /// One that leaves now.
    pub fn now(store: &str, asked: Value) -> Self {
        Self { number: 0, store: store.to_owned(), at: now(), asked, is_repeated: false, is_known: false }
    }

    /// How long ago that was.
    pub fn age(&self) -> Duration {
        Duration::from_secs(now().saturating_sub(self.at).try_into().unwrap_or_default())
    }
}

impl RunJournal {
    /// Keeps that a request is about to leave; it is on disk when this returns.
    pub fn sends(&self, sent: &Sent) -> Result<i64> {
        let writing = || format!("run {}: writing the journal", self.run());
        let what = serde_json::to_string(sent).context(Kind::Io, writing)?;
        let number = {
            let mut memory = self.memory();
            memory.last += 1;
            memory.last
        };
        let sql = "INSERT INTO operation (run, number, name, what, ordinal) VALUES (?, ?, ?, ?, ?)";
        self.db().execute(sql, params![self.run(), number, SENT, what, number]).context(Kind::Io, writing)?;
        Ok(number)
    }

    /// The requests, oldest first.
    pub fn sent(&self) -> Result<Vec<Sent>> {
        let reading = || format!("run {}: reading what it sent", self.run());
        let db = self.db();
        let sql = "SELECT number, what, done FROM operation WHERE run = ? AND name = ? ORDER BY number";
        let mut query = db.prepare(sql).context(Kind::Io, reading)?;
        let rows = query
            .query_map(params![self.run(), SENT], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
            })
            .context(Kind::Io, reading)?;
        let mut all = Vec::new();
        for row in rows {
            let (number, what, is_known) = row.context(Kind::Io, reading)?;
            let sent: Sent = serde_json::from_str(&what).context(Kind::Data, reading)?;
            all.push(Sent { number, is_known, ..sent });
        }
        let repeated = |asked: &Value| all.iter().filter(|other| other.asked == *asked).count() > 1;
        Ok(all.iter().map(|sent| Sent { is_repeated: repeated(&sent.asked), ..sent.clone() }).collect())
    }
}
