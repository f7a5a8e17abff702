//! All mailboxes of this server: the map from account to mailbox, read once at start; the mailboxes in
//! memory; and who is locked out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mysql::Pool;
use mysql::prelude::Queryable;
use parking_lot::Mutex;

use super::{Mailbox, create, index, state};
use crate::directory::By;
use crate::entry::Entry;
use crate::fault::{Fault, Outcome};
use crate::store::Store;

/// Whether a mailbox that does not exist is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Made, if its home is here.
    Autocreate,
    /// Not made.
    IfKnown,
}

#[derive(Default)]
struct Known {
    ids: HashMap<String, u32>,
    open: HashMap<u32, Arc<Mailbox>>,
    lockouts: HashSet<String>,
}

/// What this server's memory knows about mailboxes.
#[derive(Default)]
pub struct Mailboxes {
    known: Mutex<Known>,
    creating: Mutex<()>,
}

impl Mailboxes {
    /// Forgets everything and reads the map, as a start does.
    ///
    /// # Errors
    /// `service.FAILURE` when the database cannot be read.
    pub fn start(&self, pool: &Pool) -> Outcome<()> {
        let rows: Vec<(String, u32)> = pool.get_conn()?.query("SELECT account_id, id FROM zimbra.mailbox")?;
        let ids = rows.into_iter().map(|(account, id)| (account.to_lowercase(), id)).collect();
        let old = std::mem::replace(&mut *self.known.lock(), Known { ids, ..Known::default() });
        old.open.values().for_each(|m| m.end());
        Ok(())
    }

    /// The mailbox of an account, in memory and ready. Nothing when the map does not know the account
    /// and it is not to be made.
    ///
    /// # Errors
    /// `service.WRONG_HOST`, `mail.MAINTENANCE`, `mail.NO_SUCH_MBOX` (a stale map),
    /// `account.NO_SUCH_ACCOUNT`, `service.FAILURE`.
    pub fn fetch(&self, store: &Store, account: &str, fetch: Fetch) -> Outcome<Option<Arc<Mailbox>>> {
        if let Some(id) = self.id_of(account) {
            return self.load(store, id).map(Some);
        }
        match fetch {
            Fetch::IfKnown => Ok(None),
            Fetch::Autocreate => self.autocreate(store, account).map(Some),
        }
    }

    /// The same, for what cannot go on without.
    ///
    /// # Errors
    /// As [`Mailboxes::fetch`], and `service.NOT_FOUND`.
    pub fn the_mailbox(&self, store: &Store, account: &str, fetch: Fetch) -> Outcome<Arc<Mailbox>> {
        self.fetch(store, account, fetch)?
            .ok_or_else(|| Fault::not_found(format!("mailbox not found for account {account}")))
    }

    /// The mailbox of this number, in memory and ready.
    ///
    /// # Errors
    /// As [`Mailboxes::fetch`].
    pub fn load(&self, store: &Store, id: u32) -> Outcome<Arc<Mailbox>> {
        if let Some(open) = self.open(id) {
            open.check()?;
            return Ok(open);
        }
        let mut conn = store.pool.get_conn()?;
        let row = state::read_row(&mut conn, id)?.ok_or_else(|| Fault::no_such_mailbox(id))?;
        let account = store.directory.the_account(By::Id, &row.account)?;
        check_home(store, &account)?;
        let mut state = row.state;
        state.tree = state::read_tree(&mut conn, &store.memcached(), &row.account, id, row.group)?;
        let mailbox = Mailbox::new(id, row.group, &row.account, state);
        self.keep(mailbox)
    }

    /// Puts a mailbox into memory, unless another thread was faster.
    fn keep(&self, mailbox: Mailbox) -> Outcome<Arc<Mailbox>> {
        let mut known = self.known.lock();
        let kept = Arc::clone(known.open.entry(mailbox.id).or_insert_with(|| Arc::new(mailbox)));
        drop(known);
        kept.check()?;
        Ok(kept)
    }

    fn autocreate(&self, store: &Store, account: &str) -> Outcome<Arc<Mailbox>> {
        let entry = store.directory.the_account(By::Id, account)?;
        check_home(store, &entry)?;
        let creating = self.creating.lock();
        let mut conn = store.pool.get_conn()?;
        // A row that came after the start, by whatever hand, is found here.
        let found: Option<u32> = conn.exec_first("SELECT id FROM zimbra.mailbox WHERE account_id = ?", (account,))?;
        let id = match found {
            Some(id) => id,
            None => create::create(store, &mut conn, &entry)?,
        };
        self.known.lock().ids.insert(account.to_lowercase(), id);
        drop(creating);
        self.load(store, id)
    }

    /// Locks a mailbox out: every access fails from now on, here, until it is let in or this server
    /// starts again.
    ///
    /// # Errors
    /// `mail.MAINTENANCE` when it is locked out already, or as [`Mailboxes::fetch`].
    pub fn lock_out(&self, store: &Arc<Store>, account: &str) -> Outcome<()> {
        let mailbox = self.the_mailbox(store, account, Fetch::Autocreate)?;
        mailbox.lock_out()?;
        self.known.lock().lockouts.insert(account.to_lowercase());
        index::evict(store, &mailbox);
        Ok(())
    }

    /// Lets it in again, with what it had in memory: nothing is read anew, and its home is not looked at.
    ///
    /// # Errors
    /// `service.NOT_FOUND` when it is not locked out.
    pub fn let_in(&self, account: &str) -> Outcome<()> {
        let mut known = self.known.lock();
        if !known.lockouts.remove(&account.to_lowercase()) {
            return Err(Fault::not_found(format!("no lock known for account {account}")));
        }
        let id = known.ids.get(&account.to_lowercase()).copied();
        if let Some(mailbox) = id.and_then(|id| known.open.get(&id)) {
            mailbox.let_in();
        }
        Ok(())
    }

    /// Takes a mailbox out of memory, as want of memory would. One that is locked out never leaves it.
    pub fn unload(&self, account: &str) -> bool {
        let mut known = self.known.lock();
        if known.lockouts.contains(&account.to_lowercase()) {
            return false;
        }
        let id = known.ids.get(&account.to_lowercase()).copied();
        let Some(mailbox) = id.and_then(|id| known.open.remove(&id)) else { return false };
        mailbox.end();
        true
    }

    /// Forgets a mailbox that was deleted.
    pub fn forget(&self, mailbox: &Mailbox) {
        let mut known = self.known.lock();
        known.ids.remove(&mailbox.account.to_lowercase());
        known.lockouts.remove(&mailbox.account.to_lowercase());
        if let Some(open) = known.open.remove(&mailbox.id) {
            open.end();
        }
    }

    /// Every mailbox in the map.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.known.lock().ids.values().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// What the map says.
    pub fn id_of(&self, account: &str) -> Option<u32> {
        self.known.lock().ids.get(&account.to_lowercase()).copied()
    }

    /// A mailbox, if it is in memory.
    pub fn open(&self, id: u32) -> Option<Arc<Mailbox>> {
        self.known.lock().open.get(&id).cloned()
    }

    /// Whether an account is locked out.
    pub fn is_locked(&self, account: &str) -> bool {
        self.known.lock().lockouts.contains(&account.to_lowercase())
    }

    /// All mailboxes in memory that are not locked out.
    pub fn all_open(&self) -> Vec<Arc<Mailbox>> {
        self.known.lock().open.values().filter(|m| !m.is_locked()).cloned().collect()
    }
}

fn check_home(store: &Store, account: &Entry) -> Outcome<()> {
    if store.directory.is_local(account) {
        return Ok(());
    }
    Err(Fault::wrong_host(account.get("zimbraMailHost").unwrap_or("")))
}
