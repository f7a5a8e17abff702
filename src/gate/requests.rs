//! Requests that a run sent: what they ask for may still happen when nobody has read the answer.

use serde_json::Value;

use super::{Gate, lock};
use crate::error::Result;
use crate::journal::Sent;

impl Gate {
    /// Writes down that a request is about to leave for the mailboxd of `store`; gives its number.
    pub fn sends(&self, store: &str, asked: Value) -> Result<i64> {
        let mut sent = Sent::now(store, asked);
        let mut all = lock(&self.sent);
        sent.number = match &self.journal {
            Some(journal) => journal.sends(&sent)?,
            None => all.last().map_or(1, |last| last.number + 1),
        };
        let number = sent.number;
        for other in all.iter_mut().filter(|other| other.asked == sent.asked) {
            (other.is_repeated, sent.is_repeated) = (true, true);
        }
        all.push(sent);
        Ok(number)
    }

    /// Crosses a request out: it is known what came of it.
    pub fn is_known(&self, number: i64) {
        let mut all = lock(&self.sent);
        let Some(sent) = all.iter_mut().find(|sent| sent.number == number) else { return };
        sent.is_known = true;
        // It is kept with the next thing that must be; one that is found again is looked after once more. Of one among several
        // that would take as long as it can live.
        let is_durable = sent.is_repeated;
        if let Some(Err(error)) = self.journal.as_ref().map(|journal| journal.done(number, &Value::Null, is_durable)) {
            log::warn!("{error}");
        }
    }

    /// The requests of which nobody knows what came of them, oldest first.
    pub fn unanswered(&self) -> Vec<Sent> {
        lock(&self.sent).iter().filter(|sent| !sent.is_known).cloned().collect()
    }
}
