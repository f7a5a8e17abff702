//! Delivery.

pub mod relay;
pub mod server;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

const REMEMBERED: usize = 3000;
const HELD_AT_MOST: Duration = Duration::from_secs(600);

/// What delivery remembers, and counts.
#[derive(Default)]
pub struct Lmtp {
    seen: Mutex<Seen>,
    held: Mutex<bool>,
    released: Condvar,
    /// Messages in mailboxes here, by recipient.
    pub delivered: AtomicU64,
    /// Messages that were accepted but already there.
    pub duplicates: AtomicU64,
    /// Messages handed to other stores.
    pub relayed: AtomicU64,
    /// Recipients answered 4xx.
    pub deferred: AtomicU64,
    /// Recipients answered 5xx.
    pub refused: AtomicU64,
}

#[derive(Default)]
struct Seen {
    mailboxes: HashMap<String, HashSet<u32>>,
    order: VecDeque<String>,
}

impl Lmtp {
    /// Whether this mailbox got this message before, as far as this server remembers.
    pub fn is_known(&self, message_id: &str, mailbox: u32) -> bool {
        self.seen.lock().mailboxes.get(message_id).is_some_and(|m| m.contains(&mailbox))
    }

    /// This mailbox has this message now.
    pub fn remember(&self, message_id: &str, mailbox: u32) {
        let mut seen = self.seen.lock();
        if !seen.mailboxes.contains_key(message_id) {
            seen.order.push_back(message_id.to_string());
        }
        seen.mailboxes.entry(message_id.to_string()).or_default().insert(mailbox);
        if seen.order.len() > REMEMBERED
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.mailboxes.remove(&oldest);
        }
    }

    /// Forgets all messages, as a restart does.
    pub fn forget(&self) {
        *self.seen.lock() = Seen::default();
    }

    /// From now on messages wait between RCPT and the delivery of their DATA, or no more.
    pub fn hold(&self, on: bool) {
        *self.held.lock() = on;
        self.released.notify_all();
    }

    /// Waits while messages are held, ten minutes at most.
    pub fn wait(&self) {
        let mut held = self.held.lock();
        self.released.wait_while_for(&mut held, |held| *held, HELD_AT_MOST);
    }

    /// The counters, as JSON.
    pub fn counters(&self) -> serde_json::Value {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        serde_json::json!({
            "delivered": of(&self.delivered), "duplicates": of(&self.duplicates), "relayed": of(&self.relayed),
            "deferred": of(&self.deferred), "refused": of(&self.refused),
        })
    }
}

/// Counts one more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_known_by_mailbox_and_forgotten_in_order() {
        let lmtp = Lmtp::default();
        lmtp.remember("<1>", 7);
        assert!(lmtp.is_known("<1>", 7) && !lmtp.is_known("<1>", 8));
        (0..REMEMBERED).for_each(|n| lmtp.remember(&n.to_string(), 7));
        assert!(!lmtp.is_known("<1>", 7) && lmtp.is_known("0", 7));
        lmtp.forget();
        assert!(!lmtp.is_known("0", 7));
    }

    #[test]
    fn nothing_waits_unless_held() {
        Lmtp::default().wait();
        let lmtp = Lmtp::default();
        lmtp.hold(true);
        std::thread::scope(|s| {
            let waiting = s.spawn(|| lmtp.wait());
            lmtp.hold(false);
            waiting.join().unwrap();
        });
    }
}
