//! At most a few connections a store: of Zimbra's 110, mailboxd's own pool may take 100.
//!
//! All runs of a process share them. Two rules keep that from hurting: whoever needs a connection to each of two stores
//! takes them by [`pair`], in one order, so that no two wait for each other; and some are kept for those whose users wait.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::fence::Fences;
use super::session::{Remembered, Session};
use super::target::Target;
use super::wire::Wire;
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};

/// How long a full server is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a waiting caller looks whether it was asked to stop.
const LOOK: Duration = Duration::from_millis(200);
/// Who waits for a connection of ours that long says so, and once more after each such time.
const TELL: Duration = Duration::from_secs(30);
/// A connection of ours is waited for no longer: copies of many mailboxes take their time, but not for ever.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// A statement that goes on that long after its work was asked to stop is broken off: its server may stand still.
const GRACE: Duration = Duration::from_secs(5);

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
    /// How many wait while their users do.
    urgent: usize,
    idle: Vec<Session>,
    /// Marks of those that broke.
    broken: Vec<String>,
    /// Those that are in use.
    busy: HashMap<u64, Busy>,
    /// How many were given out.
    given: u64,
    is_watched: bool,
}

/// A connection in use, and what its user is asked by.
#[derive(Debug)]
struct Busy {
    wire: Arc<Wire>,
    cancel: Cancel,
    /// Since when it is known that it shall stop.
    stopped: Option<Instant>,
}

impl Pool {
    /// The number of connections that are taken unless told otherwise.
    pub const LIMIT: usize = 4;

    /// The number of connections beyond those for runs whose users wait: two tables are compared at once.
    pub const RESERVE: usize = 2;

    /// A pool of at most `limit` connections (at least one), and [`Pool::RESERVE`] for who must not wait; connects to
    /// nothing yet.
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
    ///
    /// Who holds a connection already must not wait for another one: see [`pair`] and [`Pool::try_get`].
    pub fn get(&self, cancel: &Cancel) -> Result<Lease> {
        debug_assert!(held::is_none(), "{}: a connection is waited for while another one is held", self.store());
        self.get_beside(cancel)
    }

    fn get_beside(&self, cancel: &Cancel) -> Result<Lease> {
        let mut lease = self.take(self.inner.wait(cancel)?, cancel);
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(50);
        while lease.session.is_none() {
            cancel.check()?;
            match self.inner.connect() {
                Ok(session) => lease.begin(session, cancel),
                Err(error) if is_full(&error) && Instant::now() < deadline => {
                    log::warn!("{error}; waiting for a connection to become free");
                    cancel.wait(pause)?;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                Err(error) => return Err(error),
            }
        }
        lease.limit(cancel.left())?;
        Ok(lease.fenced(&self.fences))
    }

    /// A connection if one is free at once: `None` when all of ours are taken or the server is full. Who holds
    /// one connection asks for the next in this way, or two callers could wait for each other.
    pub fn try_get(&self, cancel: &Cancel) -> Result<Option<Lease>> {
        let state = self.inner.lock();
        if !self.inner.has_room(&state, cancel.is_urgent()) {
            return Ok(None);
        }
        let mut lease = self.take(state, cancel);
        if lease.session.is_none() {
            match self.inner.connect() {
                Ok(session) => lease.begin(session, cancel),
                Err(error) if is_full(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        lease.limit(cancel.left())?;
        Ok(Some(lease.fenced(&self.fences)))
    }

    /// Up to so many connections that are free at once, as [`Pool::try_get`] gives them.
    pub fn try_get_many(&self, most: usize, cancel: &Cancel) -> Result<Vec<Lease>> {
        let mut leases = Vec::new();
        while leases.len() < most {
            match self.try_get(cancel)? {
                Some(lease) => leases.push(lease),
                None => break,
            }
        }
        Ok(leases)
    }

    /// Takes a place, with a kept connection if one still lives.
    fn take(&self, mut state: MutexGuard<'_, State>, cancel: &Cancel) -> Lease {
        state.taken += 1;
        state.given += 1;
        if !std::mem::replace(&mut state.is_watched, true) {
            watch(Arc::downgrade(&self.inner));
        }
        let (number, kept) = (state.given, state.idle.pop());
        drop(state);
        let mut lease = Lease { session: None, number, pool: Arc::clone(&self.inner), _held: held::Held::new() };
        if let Some(session) = kept {
            lease.begin(session, cancel);
            // The server may have gone since; to ask costs one round trip.
            if lease.ping().is_err() {
                lease.end();
            }
        }
        lease
    }
}

/// Breaks connections of this pool on which an answer is waited for in vain, as long as there is the pool.
fn watch(pool: Weak<Inner>) {
    let watching = thread::Builder::new().name("connections".to_owned()).spawn(move || {
        while let Some(pool) = pool.upgrade() {
            pool.break_off();
            drop(pool);
            thread::sleep(LOOK);
        }
    });
    if let Err(error) = watching {
        log::warn!("no thread for breaking off statements: {error}");
    }
}

/// A connection to each of two stores. All who need two take them in the order of the stores' names, so that moves in
/// opposite directions do not each hold what the other waits for.
pub fn pair(one: &Pool, other: &Pool, cancel: &Cancel) -> Result<(Lease, Lease)> {
    if one.store() <= other.store() {
        let one = one.get(cancel)?;
        Ok((one, other.get_beside(cancel)?))
    } else {
        let other = other.get(cancel)?;
        Ok((one.get_beside(cancel)?, other))
    }
}

/// Whether the server, or our user, has all the connections that it may have.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(error.peer_code(), Some("1040" | "1203" | "1226"))
}

impl Inner {
    /// Waits until there is room for one more connection.
    fn wait(&self, cancel: &Cancel) -> Result<MutexGuard<'_, State>> {
        let began = Instant::now();
        let mut told = Duration::ZERO;
        let mut state = self.lock();
        while !self.has_room(&state, cancel.is_urgent()) {
            let urgent = usize::from(cancel.is_urgent());
            state.urgent += urgent;
            state = self.freed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            state.urgent -= urgent;
            cancel.check()?;
            let waited = began.elapsed();
            if waited >= LONGEST {
                let message = format!("{}: all {} connections of ours were taken", self.target.store, self.limit);
                return Err(Error::new(Kind::Unreachable, format!("{message} for {} s", waited.as_secs()))
                    .hint("raise connections in [limits] of zlm.toml, or start fewer jobs"));
            }
            if waited >= told + TELL {
                told = waited;
                let store = &self.target.store;
                log::warn!("{store}: waiting for one of our {} connections for {} s", self.limit, waited.as_secs());
            }
        }
        Ok(state)
    }

    /// Whether one more may be taken: nobody takes one before those whose users wait, and they may take some beyond.
    fn has_room(&self, state: &State, urgent: bool) -> bool {
        match urgent {
            true => state.taken < self.limit + Pool::RESERVE,
            false => state.taken < self.limit && state.urgent == 0,
        }
    }

    /// Breaks what goes on though it was asked to stop.
    fn break_off(&self) {
        for busy in self.lock().busy.values_mut() {
            if busy.cancel.check().is_ok() {
                busy.stopped = None;
            } else if busy.stopped.get_or_insert_with(Instant::now).elapsed() >= GRACE {
                busy.wire.cut();
            }
        }
    }

    fn connect(&self) -> Result<Session> {
        let mut session = Session::connect_for_long(&self.target)?.sharing(&self.remembered);
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
    number: u64,
    pool: Arc<Inner>,
    _held: held::Held,
}

impl Lease {
    /// From now on its statements end with its user's work.
    fn begin(&mut self, session: Session, cancel: &Cancel) {
        if let Some(wire) = session.wire() {
            let busy = Busy { wire, cancel: cancel.clone(), stopped: None };
            self.pool.lock().busy.insert(self.number, busy);
        }
        self.session = Some(session);
    }

    /// Gives the connection back, without a transaction, or closes it if it broke.
    fn end(&mut self) {
        let session = self.session.take().map(|mut session| {
            let clean = session.rollback().is_ok() && !session.is_broken();
            if clean { Ok(session) } else { Err(session.mark().to_owned()) }
        });
        let mut state = self.pool.lock();
        state.busy.remove(&self.number);
        match session {
            Some(Ok(session)) => state.idle.push(session),
            Some(Err(mark)) => state.broken.push(mark),
            None => {}
        }
    }

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
        self.end();
        self.pool.lock().taken -= 1;
        // Whoever is woken may have to leave it to another.
        self.pool.freed.notify_all();
    }
}

/// How many leases each thread took that are not given back yet, so that a debug build sees who waits for one more.
mod held {
    use std::sync::Arc;

    thread_local! {
        /// Each lease has a copy, on whichever thread it is given back.
        static TAKEN: Arc<()> = Arc::default();
    }

    /// One lease of the thread that took it.
    #[derive(Debug)]
    pub(super) struct Held(#[expect(dead_code, reason = "is counted")] Arc<()>);

    impl Held {
        pub(super) fn new() -> Self {
            Self(TAKEN.with(Arc::clone))
        }
    }

    pub(super) fn is_none() -> bool {
        TAKEN.with(Arc::strong_count) == 1
    }
}
