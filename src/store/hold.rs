//! Holding an account on a store while it is moved, so that no two runs can.

use std::time::{Duration, Instant};

use super::claim::{self, Claim, Claimant, claim_of, exactly};
use crate::clients::db::{Fence, Session, Target, Value, literal};
use crate::error::{Error, Kind, Result};

/// A held account; whoever ends, or loses the connection, holds it no more. The claim stays until it is let go.
#[derive(Debug)]
pub struct Hold {
    target: Target,
    session: Session,
    connection: u64,
    lock: String,
    claim: Claim,
}

/// How an account stands on a store.
#[derive(Debug)]
pub enum Standing {
    /// Nobody claims it.
    Free,
    /// A run that died left its claim.
    Left(Claim),
    /// Somebody holds it.
    Held {
        /// Whose claim it is, where it has been written.
        claim: Option<Claim>,
        /// The connection that has the lock.
        connection: u64,
        /// The store.
        store: String,
    },
}

/// Longest name of a lock.
const LONGEST: usize = 64;
/// How long whoever has the lock may take to write its claim.
const WRITTEN: Duration = Duration::from_secs(3);
/// How long a server may take to see that our own connection is gone.
const NOTICED: u8 = 3;

/// Claims an account on a store, on a connection of its own. What the same run left when it died, it takes over.
///
/// # Errors
/// `Held` when somebody else holds it, `Refused` when another run left a claim.
pub fn hold(target: &Target, account: &str, role: &str, by: &Claimant) -> Result<Hold> {
    let (mut session, lock) = locked(target, account, None)?;
    let claim = match claim::write(&mut session, account, role, by) {
        // How far it came is not known, and what is there is this run's own.
        Err(_) if session.is_broken() => {
            (session, _) = locked(target, account, Some(&session))?;
            claim::write(&mut session, account, role, by)?
        }
        claim => claim?,
    };
    let claim = claim.map_err(|left| {
        let message = format!("account {account} on {}: is claimed by {}, which died", target.store, left.holder());
        Error::new(Kind::Refused, message).hint("start the move again: preflight says how to end that one")
    })?;
    kept(target, session, lock, claim)
}

/// Takes over what a run left when it died; with `run`, only what that one left. `None` where there is nothing.
///
/// # Errors
/// `Held` when somebody holds it, and when the claim is no longer that of `run`.
pub fn take_over(target: &Target, account: &str, run: Option<&str>, host: &str, user: &str) -> Result<Option<Hold>> {
    let (mut session, lock) = locked(target, account, None)?;
    match (claim_of(&mut session, account)?, run) {
        (None, _) => {
            // A run that let go may not have come further than its own row.
            claim::clear(&mut session)?;
            return Ok(None);
        }
        (Some(claim), Some(run)) if claim.by.run != run => {
            let message = format!("account {account} on {}: is claimed by {} now", target.store, claim.holder());
            return Err(Error::lost(message));
        }
        _ => {}
    }
    let Some(claim) = claim::take_over(&mut session, account, host, user).map_err(|error| busy(account, error))? else {
        return Ok(None);
    };
    kept(target, session, lock, claim).map(Some)
}

/// A connection that has the lock of an account, which may be in place of one that broke.
fn locked(target: &Target, account: &str, broken: Option<&Session>) -> Result<(Session, String)> {
    let lock = lock_of(account)?;
    let mut session = Session::connect(target)?;
    broken.map_or(Ok(()), |broken| session.end_other(broken.mark()))?;
    let wait = if broken.is_some() { NOTICED } else { 0 };
    let (got,): (Option<u8>,) = session.one("SELECT GET_LOCK(?, ?)", (&lock, wait))?;
    if got == Some(1) {
        return Ok((session, lock));
    }
    match standing(&mut session, account)? {
        Standing::Held { claim, connection, store } => Err(held_by(account, &store, claim.as_ref(), connection)),
        // Whoever held it has just let go; trying again is for whoever started this.
        _ => Err(Error::new(Kind::Held, format!("account {account} on {}: another run held it", target.store))),
    }
}

/// A claim is what keeps others away from what comes next: a killed MariaDB must not forget it.
fn kept(target: &Target, mut session: Session, lock: String, claim: Claim) -> Result<Hold> {
    super::barrier(&mut session)?;
    let (connection,) = session.one("SELECT CONNECTION_ID()", ())?;
    Ok(Hold { target: target.clone(), session, connection, lock, claim })
}

/// A transaction of a process that stands still keeps the row locked.
fn busy(account: &str, error: Error) -> Error {
    if error.peer_code() != Some("1205") {
        return error;
    }
    Error::new(Kind::Held, format!("account {account}: a transaction of the run that held it is still open"))
        .because(error)
        .hint("that process stands still: end it, then try again")
}

/// How an account stands on a store.
pub fn standing(session: &mut Session, account: &str) -> Result<Standing> {
    let lock = lock_of(account)?;
    let until = Instant::now() + WRITTEN;
    loop {
        // A holder has the lock before it writes its claim, and removes the claim before it lets the lock go.
        let found = claim_of(session, account)?;
        let (by,): (Option<u64>,) = session.one("SELECT IS_USED_LOCK(?)", (&lock,))?;
        match (found, by) {
            (None, None) => return Ok(Standing::Free),
            (Some(claim), None) => {
                if claim_of(session, account)?.as_ref() == Some(&claim) {
                    return Ok(Standing::Left(claim));
                }
            }
            (claim, Some(connection)) => {
                if claim.is_some() || Instant::now() > until {
                    return Ok(Standing::Held { claim, connection, store: session.store().to_owned() });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The error of one who finds an account held by another.
pub fn held_by(account: &str, store: &str, claim: Option<&Claim>, connection: u64) -> Error {
    let by = claim.map_or_else(|| "another run".to_owned(), Claim::holder);
    Error::new(Kind::Held, format!("account {account} on {store}: {by} holds it, connection {connection}"))
}

fn lock_of(account: &str) -> Result<String> {
    let lock = format!("zlm.{account}");
    if lock.len() > LONGEST || account.is_empty() {
        return Err(Error::new(Kind::Usage, format!("account {account:?}: its id is no name for a lock")));
    }
    Ok(lock)
}

impl Hold {
    /// The claim.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The store.
    pub fn store(&self) -> &str {
        &self.target.store
    }

    /// What transactions of this run must find.
    pub fn fence(&self) -> Fence {
        let sql = format!("SELECT 1 FROM zlm.claim WHERE {} LOCK IN SHARE MODE", exactly(&self.claim));
        Fence { sql, lost: self.lost() }
    }

    fn lost(&self) -> String {
        let Claim { account, by, .. } = &self.claim;
        format!("account {account} on {}: run {} holds it no more", self.store(), by.run)
    }

    /// Looks that it is still held. A connection that broke is made again: as long as nobody took the account over
    /// meanwhile, it is still this run's.
    ///
    /// # Errors
    /// One that [`Error::is_lost`] when another run has it or had it; `Unreachable` when nobody can tell.
    pub fn check(&mut self) -> Result<()> {
        let lock = literal(&Value::Text(self.lock.clone()));
        let sql = format!(
            "SELECT IS_USED_LOCK({lock}) <=> CONNECTION_ID() AND EXISTS (SELECT 1 FROM zlm.claim WHERE {})",
            exactly(&self.claim)
        );
        let answer = match self.session.is_broken() {
            false => self.session.raw(&sql),
            true => self.again().and_then(|()| self.session.raw(&sql)),
        };
        let answer = match answer {
            Err(_) if self.session.is_broken() => self.again().and_then(|()| self.session.raw(&sql)),
            answer => answer,
        };
        match answer {
            Ok(rows) if rows == [[Some(b"1".to_vec())]] => Ok(()),
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Err(Error::lost(self.lost())),
        }
    }

    /// Connects again, and takes the lock if nobody has it.
    fn again(&mut self) -> Result<()> {
        let mut session = Session::connect(&self.target)?;
        let (by,): (Option<u64>,) = session.one("SELECT IS_USED_LOCK(?)", (&self.lock,))?;
        if by == Some(self.connection) {
            // The server has not seen yet that our own connection is gone, and may not for hours.
            session.run(&format!("KILL CONNECTION {}", self.connection))?;
        }
        let (got,): (Option<u8>,) = session.one("SELECT GET_LOCK(?, ?)", (&self.lock, NOTICED))?;
        if got != Some(1) {
            return Err(Error::lost(self.lost()));
        }
        (self.connection,) = session.one("SELECT CONNECTION_ID()", ())?;
        self.session = session;
        Ok(())
    }

    /// Reaches the store by another way from now on, if it cannot be reached any more by the one it had.
    pub(super) fn reach(&mut self, other: impl FnOnce(&str) -> Result<Target>) {
        // A tunnel is not opened again for whoever was asked to stop.
        let is_cut = self.check().is_err_and(|error| matches!(error.kind(), Kind::Unreachable | Kind::Cancelled));
        if is_cut && let Ok(target) = other(self.store()) {
            self.target = target;
        }
    }

    /// Lets go of the account, and leaves the claim: whoever ends the run next need not wait until the server sees that
    /// the connection is gone.
    pub(super) fn set_down(mut self) {
        if !self.session.is_broken()
            && let Err(error) = self.session.exec("DO RELEASE_LOCK(?)", (&self.lock,))
        {
            log::debug!("{error}; the connection ends with its process");
        }
    }

    /// Removes the claim, and the database with its last one.
    pub fn release(&mut self) -> Result<()> {
        self.check()?;
        match claim::remove(&mut self.session, &self.claim) {
            // The row may be gone already, which is no loss of it now.
            Err(_) if self.session.is_broken() => {
                self.again()?;
                claim::remove(&mut self.session, &self.claim)
            }
            done => done,
        }
    }
}
