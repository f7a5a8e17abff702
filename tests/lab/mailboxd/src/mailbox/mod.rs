//! Mailboxes: which exist, which are in memory, and what happens inside one.

pub mod busy;
pub mod change;
pub mod checkpoint;
pub mod conversation;
pub mod create;
pub mod delete;
pub mod deliver;
pub mod index;
pub mod item;
pub mod mailboxes;
pub mod purge;
pub mod shared;
pub mod state;
pub mod tx;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql::{IsolationLevel, TxOpts};
use parking_lot::Mutex;

use crate::fault::{Fault, Outcome};
use crate::store::Store;
use state::State;
use tx::Tx;

const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// A mailbox in memory. Whoever holds one can go on using it, whatever the directory says about the
/// account's home: the home is checked only when a mailbox is loaded.
pub struct Mailbox {
    /// `mailbox.id`.
    pub id: u32,
    /// `mailbox.group_id`, which names the database of its items.
    pub group: u32,
    /// The zimbraId of its account.
    pub account: String,
    state: Mutex<State>,
    locked: AtomicBool,
    gone: AtomicBool,
}

impl Mailbox {
    /// A mailbox just read.
    pub fn new(id: u32, group: u32, account: &str, state: State) -> Self {
        let no = || AtomicBool::new(false);
        Self { id, group, account: account.into(), state: Mutex::new(state), locked: no(), gone: no() }
    }

    /// Whether it is locked out.
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::SeqCst)
    }

    /// Bytes in the mailbox, as far as memory knows.
    pub fn size(&self) -> i64 {
        self.state.lock().size
    }

    /// Waits for whoever writes, then lets nobody else in.
    ///
    /// # Errors
    /// `service.FAILURE` after a minute.
    pub fn lock_out(&self) -> Outcome<()> {
        let _writing = self.state.try_lock_for(LOCK_TIMEOUT).ok_or_else(|| lock_timeout(self.id))?;
        self.locked.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Lets everybody in again, with the state of before.
    pub fn let_in(&self) {
        self.locked.store(false, Ordering::SeqCst);
    }

    /// The process that held it has ended, or it was deleted: nobody can use it any more.
    pub fn end(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    /// Fails while it is locked out.
    ///
    /// # Errors
    /// `mail.MAINTENANCE`.
    pub fn check(&self) -> Outcome<()> {
        if self.gone.load(Ordering::SeqCst) {
            return Err(Fault::failure(format!("mailbox {}: no longer in memory", self.id)));
        }
        if self.is_locked() { Err(Fault::maintenance(self.id)) } else { Ok(()) }
    }

    /// One change: a transaction under the mailbox's write lock. What is in memory follows the database:
    /// kept as it was when the transaction fails. Files of what is gone are removed after the commit and after the lock
    /// was given back, so that somebody who locks the mailbox out may still see them go.
    ///
    /// # Errors
    /// `mail.MAINTENANCE`, or what `act` fails with.
    pub fn write<T>(&self, store: &Store, act: impl FnOnce(&mut Tx<'_>) -> Outcome<T>) -> Outcome<T> {
        self.check()?;
        let mut state = self.state.try_lock_for(LOCK_TIMEOUT).ok_or_else(|| lock_timeout(self.id))?;
        self.check()?;
        let mut conn = store.pool.get_conn()?;
        let options = TxOpts::default().set_isolation_level(Some(IsolationLevel::ReadCommitted));
        let sql = conn.start_transaction(options)?;
        let mut tx = Tx::new(store, self, sql, state.clone());
        let done = act(&mut tx).and_then(|done| tx.finish().map(|()| done));
        match done {
            Ok(done) => {
                let (now, gone) = tx.commit()?;
                *state = now;
                drop(state);
                tx::remove(&gone);
                Ok(done)
            }
            Err(fault) => {
                tx.roll_back();
                Err(fault)
            }
        }
    }
}

fn lock_timeout(mailbox: u32) -> Fault {
    Fault::failure(format!("mailbox {mailbox}: lock not granted in {} s", LOCK_TIMEOUT.as_secs()))
}
