//! At most a few connections a store: of Zimbra's 110, mailboxd's own pool may take 100.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fence::Fences;
use super::session::{Remembered, Session};
use super::target::Target;
use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// How long a full server is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a waiting caller looks whether it was asked to stop.
const LOOK: Duration = Duration::from_millis(200);

/// Connections to one store; clones share them.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Inner>,
    fences: Fences,
}

#[derive(Debug)]
struct Inner {
    target: Target,
    limit: usize,
    state: Mutex<State>,
    freed: Condvar,
    remembered: Remembered,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    idle: Vec<Session>,
    /// Marks of those that broke.
    broken: Vec<String>,
}

impl Pool {
    /// The number of connections that are taken unless told otherwise.
    pub const LIMIT: usize = 4;

    /// A pool of at most `limit` connections (at least one); connects to nothing yet.
    pub fn new(target: Target, limit: usize) -> Self {
        let state = Mutex::default();
        let (freed, remembered) = (Condvar::new(), Remembered::default());
        let inner = Arc::new(Inner { target, limit: limit.max(1), state, freed, remembered });
        Self { inner, fences: Fences::default() }
    }

    /// The same connections; transactions on those that this one gives out ask for `fences` first.
    pub fn fenced(&self, fences: Fences) -> Self {
        Self { inner: Arc::clone(&self.inner), fences }
    }

    /// The store's name, for messages.
    pub fn store(&self) -> &str {
        &self.inner.target.store
    }

    /// The server and the user, for a connection beside the pool's.
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// Waits for a free connection, connecting where needed. A server that is full (1040) is waited for. Where `cancel`
    /// has a budget, a statement takes no longer than what is left of it.
    pub fn get(&self, cancel: &Cancel) -> Result<Lease> {
        let mut state = self.inner.lock();
        while state.taken == self.inner.limit {
            cancel.check()?;
            state = self.inner.freed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut lease = self.take(state);
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(50);
        while lease.session.is_none() {
            cancel.check()?;
            match self.inner.connect() {
                Ok(session) => lease.session = Some(session),
                Err(error) if is_full(&error) && Instant::now() < deadline => {
                    log::warn!("{error}; waiting for a connection to become free");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                Err(error) => return Err(error),
            }
        }
        lease.limit(cancel.left())?;
        Ok(lease.fenced(&self.fences))
    }

    /// A connection if one is free at once: `None` when all of ours are taken or the server is full. Who holds
    /// one connection must ask for the next in this way, or two callers could wait for each other.
    pub fn try_get(&self) -> Result<Option<Lease>> {
        let state = self.inner.lock();
        if state.taken == self.inner.limit {
            return Ok(None);
        }
        let mut lease = self.take(state);
        if lease.session.is_none() {
            match self.inner.connect() {
                Ok(session) => lease.session = Some(session),
                Err(error) if is_full(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        lease.limit(None)?;
        Ok(Some(lease.fenced(&self.fences)))
    }

    /// Up to so many connections that are free at once, as [`Pool::try_get`] gives them.
    pub fn try_get_many(&self, most: usize) -> Result<Vec<Lease>> {
        let mut leases = Vec::new();
        while leases.len() < most {
            match self.try_get()? {
                Some(lease) => leases.push(lease),
                None => break,
            }
        }
        Ok(leases)
    }

    /// Takes a place, with a kept connection if one still lives.
    fn take(&self, mut state: MutexGuard<'_, State>) -> Lease {
        state.taken += 1;
        let kept = state.idle.pop();
        drop(state);
        // The server may have gone since; to ask costs one round trip.
        let session = kept.and_then(|mut session| match session.ping() {
            Ok(()) => Some(session),
            Err(_) => {
                self.inner.lock().broken.push(session.mark().to_owned());
                None
            }
        });
        Lease { session, pool: Arc::clone(&self.inner) }
    }
}

/// Whether the server, or our user, has all the connections that it may have.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(error.peer_code(), Some("1040" | "1203" | "1226"))
}

impl Inner {
    fn connect(&self) -> Result<Session> {
        let mut session = Session::connect(&self.target)?.sharing(&self.remembered);
        let mut broken = std::mem::take(&mut self.lock().broken);
        while let Some(mark) = broken.pop() {
            if let Err(error) = session.end_other(&mark) {
                broken.push(mark);
                self.lock().broken.extend(broken);
                return Err(error);
            }
        }
        Ok(session)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is two plain fields that no panic leaves half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use; it goes back to its pool when dropped, without a transaction, or is closed if broken.
#[derive(Debug)]
pub struct Lease {
    session: Option<Session>,
    pool: Arc<Inner>,
}

impl Lease {
    /// A connection may have served another fence before.
    fn fenced(mut self, fences: &Fences) -> Self {
        self.set_fences(fences);
        self
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a lease is handed out with its session")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("a lease is handed out with its session")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let session = self.session.take().map(|mut session| {
            let clean = session.rollback().is_ok() && !session.is_broken();
            if clean { Ok(session) } else { Err(session.mark().to_owned()) }
        });
        let mut state = self.pool.lock();
        state.taken -= 1;
        match session {
            Some(Ok(session)) => state.idle.push(session),
            Some(Err(mark)) => state.broken.push(mark),
            None => {}
        }
        drop(state);
        self.pool.freed.notify_one();
    }
}
