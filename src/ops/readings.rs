//! What was read of a destination's tables, and may be gone by instead of reading them again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clients::db::Identity;
use crate::rows::Dump;
use crate::site::Store;

/// Readings of tables. One is true as long as nothing is written to its table, and its server forgets nothing, as one
/// that is killed and started again does.
pub struct Readings<T>(Mutex<Vec<Reading<T>>>);

struct Reading<T> {
    dump: Dump,
    /// How often its table had been written.
    writes: u64,
    server: Identity,
    what: T,
}

impl<T> Default for Readings<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Readings<T> {
    /// Keeps what was read in the place of what was read before.
    pub fn keep(&self, dump: Dump, writes: u64, server: &Identity, what: T) {
        let mut readings = self.lock();
        readings.retain(|reading| reading.dump != dump);
        readings.push(Reading { dump, writes, server: server.clone(), what });
    }

    /// What was read of a dump, if it is still true on `dest`, whose MariaDB is `server` now.
    pub fn of(&self, dump: &Dump, dest: &Store, server: &Identity) -> Option<T> {
        let writes = dest.writes(dump.destination(), &dump.table);
        let is_true = |r: &&Reading<T>| r.dump == *dump && r.writes == writes && r.server.lives_on(server);
        self.lock().iter().find(is_true).map(|reading| reading.what.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Reading<T>>> {
        // Plain data, valid whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
