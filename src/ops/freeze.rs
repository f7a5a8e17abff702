//! Locking the mailbox at the source, and the last difference.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::inject::{InjectAll, Remember};
use super::late::{self, Asked};
use super::readings::Readings;
use super::stage::Move;
use super::undo::to_undo;
use crate::blobs::IndexList;
use crate::clients::db::Identity;
use crate::error::{Error, Kind, Result};
use crate::gate::{AMBIGUOUS, Gate, Operation, Undo, Watch};
use crate::rows::{self, BlobRef, Compared, Dump, FreezeMark, InjectOptions, Injected};
use crate::run::Run;
use crate::site::Site;
use crate::store::{self, Aside, Steps};
use crate::zimbra::account::{Account, AccountStatus};
use crate::zimbra::ids::{Host, ZimbraId};

/// The proof that nobody can write to the source mailbox, and what was copied under it.
pub struct Freeze {
    /// The move.
    pub mv: Arc<Move>,
    /// The source's state when it was locked.
    pub mark: FreezeMark,
    /// The blobs that rows injected under the freeze name, in the source's terms.
    named: Mutex<Vec<BlobRef>>,
    /// Since when it is locked.
    pub(super) locked: Instant,
    /// How often rows that name blobs had been written at the destination when it was locked.
    pub(super) blob_writes: u64,
    /// The source's index as it was copied last.
    index: Mutex<Option<IndexList>>,
    /// What was compared under the freeze.
    compared: Arc<Readings<Compared>>,
    /// Whether the account has got its new home by it.
    pub(super) switched: AtomicBool,
}

impl Freeze {
    /// Injects into the destination, and remembers the blobs that the rows name and what was compared.
    pub fn inject(&self, gate: &Gate, dumps: Vec<Dump>) -> Result<Injected> {
        self.mv.check_copies()?;
        let options = InjectOptions { name_blobs: true, ..InjectOptions::default() };
        let (source, dest) = (self.mv.source.clone(), self.mv.dest.clone());
        let rows: Vec<u64> = dumps.iter().map(|dump| self.mv.survey.rows_of(dump)).collect();
        // Two tables at a time, and the largest by itself.
        let most = (rows.iter().sum::<u64>() / 2).max(rows.iter().copied().max().unwrap_or_default());
        gate.cancel().afford(dest.comparing().expected(most), &format!("comparing {most} rows"))?;
        let remember = Remember::Compared(self.mv.held.clone(), self.compared.clone());
        let mut injected = gate.pass(&InjectAll { source, dest, dumps, options, limits: None, remember })?;
        lock(&self.named).append(&mut injected.blobs);
        Ok(injected)
    }

    /// The comparison of a dump that was made under this freeze and is still what both sides hold: the source stands
    /// still.
    pub(super) fn compared(&self, dump: &Dump, server: &Identity) -> Option<Compared> {
        self.compared.of(dump, &self.mv.dest, server)
    }

    pub(super) fn keep_index(&self, list: IndexList) {
        *lock(&self.index) = Some(list);
    }

    pub(super) fn index(&self) -> Option<IndexList> {
        lock(&self.index).clone()
    }

    /// The blobs remembered so far.
    pub fn named(&self) -> Vec<BlobRef> {
        lock(&self.named).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data, valid whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks, and marks the state that the source stands still in.
pub fn freeze(run: &Run, mv: &Arc<Move>) -> Result<Freeze> {
    run.gate.pass(&Lockout { site: run.site.clone(), mv: mv.clone() })?;
    let locked = Instant::now();
    let Marked { mark, aside } = run.gate.pass(&Mark { mv: mv.clone() })?;
    *lock(&mv.aside) = aside.map(Arc::new);
    Ok(Freeze {
        mv: mv.clone(),
        mark,
        named: Mutex::default(),
        locked,
        blob_writes: super::blobs::writes(mv),
        index: Mutex::default(),
        compared: Arc::default(),
        switched: AtomicBool::new(false),
    })
}

/// Locks the mailbox on its store: sessions end, and every access to it fails until it is unlocked.
///
/// The status alone does not freeze it: stores cache it, idle connections and background work go on.
struct Lockout {
    site: Arc<Site>,
    mv: Arc<Move>,
}

/// What unlocks a mailbox.
#[derive(Serialize, Deserialize)]
pub(super) struct Unlock {
    pub(super) store: Host,
    pub(super) account_id: ZimbraId,
}

impl Unlock {
    /// It as undo data.
    pub(super) fn to_undo(&self, address: &str) -> Result<Undo> {
        to_undo("unlock", self, format!("mailbox of {address} on {}: unlocked", self.store))
    }
}

impl Operation for Lockout {
    type Output = ();

    fn name(&self) -> &'static str {
        "freeze"
    }

    fn describe(&self) -> String {
        format!("lock the mailbox of {} on {}", self.mv.survey.account.address, self.mv.survey.source)
    }

    fn details(&self) -> Result<Vec<String>> {
        Ok(vec![format!("LockoutMailboxRequest op=start account={}", self.mv.survey.account.id)])
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn undo(&self) -> Result<Option<Undo>> {
        let unlock = Unlock { store: self.mv.survey.source.clone(), account_id: self.mv.survey.account.id.clone() };
        unlock.to_undo(self.mv.survey.account.address.as_str()).map(Some)
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<()> {
        let (account, source) = (&self.mv.survey.account, &self.mv.survey.source);
        let (admin, server) = (self.site.admin()?, self.site.server(source)?);
        let known = admin.get_account(source, &account.id, &["zimbraAccountStatus"], Some(&server.id))?;
        let status = known.get("zimbraAccountStatus").unwrap_or("unknown");
        if status != AccountStatus::Maintenance.word() {
            let message = format!("account {}: {source} knows it as {status}, not in maintenance", account.address);
            return Err(Error::new(Kind::Refused, message).hint("call account::close(who) before freeze(mv)"));
        }
        let asked = Asked::Lock { account: account.id.clone() };
        let request = || late::send(watch.gate(), source, &asked, || admin.lockout_start(source, &account.id));
        let answer = match request() {
            Err(error) if error.peer_code() == Some(AMBIGUOUS) => request(),
            answer => answer,
        };
        match answer {
            Ok(number) => watch.gate().is_known(number),
            // Locked already: by the request whose answer was lost, or by a run before this one.
            Err(error) if error.peer_code() == Some("mail.MAINTENANCE") => {
                late::note_locked(watch.gate(), &account.id, true);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Unlocks, and sees that the mailbox can be used again. One that is not locked is well. Gives whether mailboxd knew of a lock.
pub(super) fn unlock(site: &Site, unlock: &Unlock) -> Result<bool> {
    let Unlock { store, account_id } = unlock;
    let admin = site.admin()?;
    let was_locked = match admin.lockout_end(store, account_id) {
        // The lock lives in mailboxd's memory: where nobody listens any more there is none.
        Err(error) if error.is_connection_refused() => return Ok(false),
        Err(error) if !matches!(error.peer_code(), Some("service.NOT_FOUND" | "mail.MAINTENANCE")) => {
            return Err(error);
        }
        // Whatever mailboxd knows of locks, the mailbox itself says whether it is locked.
        answer => answer.is_ok(),
    };
    match site.server(store).and_then(|server| admin.get_mailbox(store, account_id, Some(&server.id))) {
        Err(error) if error.peer_code() == Some("mail.MAINTENANCE") => {
            let message =
                format!("mailbox of account {account_id} on {store}: is locked until mailboxd is started again there");
            Err(Error::new(Kind::Peer, message).because(error))
        }
        // Anything else is no word on the lock.
        _ => Ok(was_locked),
    }
}

/// The same on a run's way back.
pub(super) fn take_lock_off(run: &Run, site: &Site, lock: &Unlock) -> Result<()> {
    if unlock(site, lock)? {
        late::note_locked(&run.gate, &lock.account_id, false);
    }
    Ok(())
}

/// Whether a mailbox is locked on its store, by its own word.
pub(super) fn is_locked(site: &Site, Unlock { store, account_id }: &Unlock) -> Result<bool> {
    let server = site.server(store)?;
    match site.admin()?.get_mailbox(store, account_id, Some(&server.id)) {
        Ok(_) => Ok(false),
        Err(error) if error.peer_code() == Some("mail.MAINTENANCE") => Ok(true),
        Err(error) => Err(error),
    }
}

/// Unlocks the mailbox of an account at its home, where a move left it locked that was taken back.
pub struct LetIn {
    /// The site.
    pub site: Arc<Site>,
    /// The account.
    pub account: Arc<Account>,
}

impl Operation for LetIn {
    type Output = ();

    fn name(&self) -> &'static str {
        "unlock"
    }

    fn describe(&self) -> String {
        format!("mailbox of {} at its home", self.account.address)
    }

    fn details(&self) -> Result<Vec<String>> {
        Ok(vec![format!("LockoutMailboxRequest op=end account={}", self.account.id)])
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<()> {
        let account = self.site.account(&self.account.id)?;
        let home = account.mail_host.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("account {}: zimbraMailHost is not set", account.address))
        })?;
        unlock(&self.site, &Unlock { store: home, account_id: account.id }).map(drop)
    }
}

/// What is known of the source right after it was locked.
#[derive(Serialize, Deserialize)]
struct Marked {
    #[serde(flatten)]
    mark: FreezeMark,
    /// What servers delete although it is locked. Journals of before have none.
    #[serde(default)]
    aside: Option<Aside>,
}

/// Marks the source's state, and sets aside what may not stay there.
///
/// Of a long table all rows are read afterwards, and what that reading says of change numbers is the mark: the user
/// would wait for another one, and nothing is lost by what was written between.
struct Mark {
    mv: Arc<Move>,
}

impl Operation for Mark {
    type Output = Marked;

    fn name(&self) -> &'static str {
        "freeze"
    }

    fn describe(&self) -> String {
        format!("mark the state of mailbox {} on {}", self.mv.source_id(), self.mv.survey.source)
    }

    fn effect(&self) -> crate::gate::Effect {
        crate::gate::Effect::Look
    }

    fn pretend(&self) -> Result<Marked> {
        let (source, id) = (&self.mv.source, self.mv.source_id());
        let aside = Aside::read(&mut *source.session()?, id)?;
        let is_long = |dump: &Dump| self.mv.survey.rows_of(dump) >= rows::LONG;
        let mark = rows::freeze_mark(source.db(), id, &self.mv.dumps()?, &is_long, source.cancel())?;
        Ok(Marked { mark, aside: Some(aside) })
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Marked> {
        self.pretend()
    }
}

/// Brings the mailbox's own row up to date.
pub struct Refresh {
    /// The freeze.
    pub freeze: Arc<Freeze>,
}

impl Operation for Refresh {
    type Output = ();

    fn name(&self) -> &'static str {
        "refresh_mailbox"
    }

    fn describe(&self) -> String {
        let mv = &self.freeze.mv;
        format!("row of mailbox {} on {} as on {}, counters raised", mv.staged.id, mv.survey.dest, mv.survey.source)
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<()> {
        let mv = &self.freeze.mv;
        mv.check_copies()?;
        let (mut source, mut dest) = mv.source.session_with(&mv.dest)?;
        // As it is now: its counters moved on since the survey.
        let id = mv.survey.account.id.as_str();
        let row = store::mailbox_by_account(&mut source, id)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("mailbox of account {id}: is gone from {}", mv.survey.source))
        })?;
        let (dumps, server) = (mv.dumps()?, dest.identity()?);
        let content = |table: &str| {
            let is_of = |dump: &&Dump| dump.table == table && dump.destination() == mv.staged.database;
            self.freeze.compared(dumps.iter().find(is_of)?, &server)?.content()
        };
        let checkpoints = store::checkpoints(&mut dest, &mv.staged, &row, Steps::default(), &content)?;
        store::refresh(&mut dest, &mv.staged, &row, checkpoints)
    }
}
