//! A cache whose entries live for a while: what makes a server believe something that is no longer so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Entries by key, each believed for `max_age` after it was put in.
pub struct Cache<T> {
    max_age: Duration,
    entries: Mutex<HashMap<String, (Instant, Arc<T>)>>,
}

impl<T> Cache<T> {
    /// An empty cache.
    pub fn new(max_age: Duration) -> Self {
        Self { max_age, entries: Mutex::default() }
    }

    /// What is believed about a key.
    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        let entries = self.entries.lock();
        let (put, value) = entries.get(key)?;
        (put.elapsed() < self.max_age).then(|| Arc::clone(value))
    }

    /// The first entry for which `is` holds.
    pub fn find(&self, is: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let entries = self.entries.lock();
        entries.values().find(|(put, v)| put.elapsed() < self.max_age && is(v)).map(|(_, v)| Arc::clone(v))
    }

    /// Believes this from now on.
    pub fn put(&self, key: &str, value: T) -> Arc<T> {
        let value = Arc::new(value);
        self.entries.lock().insert(key.to_string(), (Instant::now(), Arc::clone(&value)));
        value
    }

    /// Forgets one entry.
    pub fn drop(&self, key: &str) {
        self.entries.lock().remove(key);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.entries.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_believed_until_dropped() {
        let cache = Cache::new(Duration::from_secs(900));
        cache.put("a", 1);
        cache.put("b", 2);
        assert_eq!(cache.get("a").as_deref(), Some(&1));
        assert_eq!(cache.find(|v| *v == 2).as_deref(), Some(&2));
        cache.drop("a");
        assert_eq!(cache.get("a"), None);
        assert_eq!(cache.get("b").as_deref(), Some(&2));
        cache.clear();
        assert_eq!(cache.get("b"), None);
    }

    #[test]
    fn entries_expire() {
        let cache = Cache::new(Duration::ZERO);
        cache.put("a", 1);
        assert_eq!(cache.get("a"), None);
        assert_eq!(cache.find(|_| true), None);
    }
}
