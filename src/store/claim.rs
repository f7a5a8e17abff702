//! The database `zlm`: a row for each account that a run moves, on both stores, for as long as the move lasts.
//!
//! That a holder lives only its lock says, which ends with its connection (see `hold`). The row says who it is or was,
//! and carries the fence: whoever takes an account over gives the row a higher epoch, and what an older epoch still
//! wants to write finds its row no more. It also keeps what a lost journal would have known: the status that the
//! account had, and the script.
//!
//! How far a copy is stands nowhere. `inject` compares what is there with what should be, which is true also after a
//! MariaDB forgot what it had committed; a cursor would then speak of rows that are not there.

use crate::clients::db::{Session, Value, literal};
use crate::error::{Error, Kind, Result};

/// Who claims an account, and what others must know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The run.
    pub run: String,
    /// The host it runs on.
    pub host: String,
    /// Who started it.
    pub user: String,
    /// What it is about, as JSON.
    pub subject: String,
    /// Its script, modules and options, as JSON; none for a run that keeps no journal.
    pub pinned: Option<String>,
}

/// A claim as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The account's zimbraId.
    pub account: String,
    /// `source` or `dest`: what this store is to the move.
    pub role: String,
    /// Raised by everyone who takes the account over.
    pub epoch: u64,
    /// When it was claimed, in UTC.
    pub since: String,
    /// The number of the copy here, once its directories are the run's own.
    pub mailbox: Option<u32>,
    /// Who claims it.
    pub by: Claimant,
}

impl Claim {
    /// Who it is, in words.
    pub fn holder(&self) -> String {
        let Claimant { run, host, user, .. } = &self.by;
        format!("run {run} of {user} on {host} since {} UTC", self.since)
    }
}

/// Serialises whoever makes or drops the database.
const LOCK: &str = "zlm";
const DATABASE: &str = "CREATE DATABASE IF NOT EXISTS zlm CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
const TABLE: &str = "CREATE TABLE IF NOT EXISTS zlm.claim (
    account_id VARCHAR(64) NOT NULL PRIMARY KEY,
    run VARCHAR(64) NOT NULL,
    role VARCHAR(8) NOT NULL,
    epoch BIGINT UNSIGNED NOT NULL,
    host VARCHAR(255) NOT NULL,
    user VARCHAR(64) NOT NULL,
    since BIGINT UNSIGNED NOT NULL,
    mailbox INT UNSIGNED,
    subject LONGTEXT NOT NULL,
    pinned LONGTEXT
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
/// Higher than every epoch before, also when the row was gone in between.
const EPOCH: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED)";

/// The claim on an account, if there is one.
pub fn claim_of(session: &mut Session, account: &str) -> Result<Option<Claim>> {
    read(session, account, "")
}

fn read(session: &mut Session, account: &str, lock: &str) -> Result<Option<Claim>> {
    type Row = (String, String, u64, String, String, String, Option<u32>, String, Option<String>);
    let sql = format!(
        "SELECT run, role, epoch, host, user, CAST(FROM_UNIXTIME(since) AS CHAR), mailbox, subject, pinned \
         FROM zlm.claim WHERE account_id = ? {lock}"
    );
    let row = match session.first::<Row>(&sql, (account,)) {
        // Without a move there is neither the table nor the database.
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        row => row?,
    };
    Ok(row.map(|(run, role, epoch, host, user, since, mailbox, subject, pinned)| Claim {
        account: account.to_owned(),
        role,
        epoch,
        since,
        mailbox,
        by: Claimant { run, host, user, subject, pinned },
    }))
}

/// Writes a claim of `by`, whose lock the session has. A claim that its run left when it died is taken over with all it
/// says; `Err` has that of another run.
pub(super) fn write(session: &mut Session, account: &str, role: &str, by: &Claimant) -> Result<Result<Claim, Claim>> {
    alone(session, |session| {
        session.run(DATABASE)?;
        session.run(TABLE)?;
        session.transaction(|session| match read(session, account, "FOR UPDATE")? {
            Some(claim) if claim.by.run == by.run => raise(session, &claim, &by.host, &by.user).map(Ok),
            Some(claim) => Ok(Err(claim)),
            None => {
                let sql = format!(
                    "INSERT INTO zlm.claim (account_id, run, role, epoch, host, user, since, subject, pinned) \
                     VALUES (?, ?, ?, {EPOCH}, ?, ?, UNIX_TIMESTAMP(), ?, ?)"
                );
                let Claimant { run, host, user, subject, pinned } = by;
                session.exec(&sql, (account, run, role, host, user, subject, pinned))?;
                written(session, account).map(Ok)
            }
        })
    })
}

/// Takes over what a run left when it died, with a higher epoch; `None` where it left nothing.
pub(super) fn take_over(session: &mut Session, account: &str, host: &str, user: &str) -> Result<Option<Claim>> {
    session.transaction(|session| match read(session, account, "FOR UPDATE")? {
        Some(claim) => raise(session, &claim, host, user).map(Some),
        None => Ok(None),
    })
}

fn raise(session: &mut Session, claim: &Claim, host: &str, user: &str) -> Result<Claim> {
    let sql = format!(
        "UPDATE zlm.claim SET epoch = GREATEST(epoch + 1, {EPOCH}), host = ?, user = ?, since = UNIX_TIMESTAMP() \
         WHERE account_id = ?"
    );
    session.exec(&sql, (host, user, &claim.account))?;
    written(session, &claim.account)
}

fn written(session: &mut Session, account: &str) -> Result<Claim> {
    read(session, account, "FOR UPDATE")?.ok_or_else(|| {
        Error::new(Kind::Peer, format!("account {account} on {}: its claim was not kept", session.store()))
    })
}

/// Removes a claim, and the database with its last one.
pub(super) fn remove(session: &mut Session, claim: &Claim) -> Result<()> {
    alone(session, |session| {
        let sql = format!("DELETE FROM zlm.claim WHERE {}", exactly(claim));
        match session.transaction(|session| session.run(&sql)) {
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => {}
        }
        drop_when_empty(session)
    })?;
    // A MariaDB that is killed must not bring back what is over.
    super::barrier(session)
}

/// Removes the database of claims where no claim is left in it.
pub(super) fn clear(session: &mut Session) -> Result<()> {
    let (there,): (u64,) =
        session.one("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = _utf8mb3'zlm'", ())?;
    if there == 0 { Ok(()) } else { alone(session, drop_when_empty) }
}

fn drop_when_empty(session: &mut Session) -> Result<()> {
    match session.raw("SELECT 1 FROM zlm.claim LIMIT 1") {
        Ok(rows) if rows.is_empty() => session.run("DROP TABLE zlm.claim").map(drop)?,
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == Kind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Whatever else somebody keeps in a database of this name stays.
    let sql = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = _utf8mb3'zlm' LIMIT 1";
    if session.raw(sql)?.is_empty() {
        session.run("DROP DATABASE IF EXISTS zlm")?;
    }
    Ok(())
}

/// Runs `body` while nobody else makes or drops the database.
fn alone<T>(session: &mut Session, body: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
    let (held,): (Option<u8>,) = session.one("SELECT GET_LOCK(?, 60)", (LOCK,))?;
    if held != Some(1) {
        let message = format!("{}: database zlm: another run holds it up", session.store());
        return Err(Error::new(Kind::Held, message).retryable());
    }
    let result = body(session);
    let released = session.exec("DO RELEASE_LOCK(?)", (LOCK,));
    result.and_then(|value| released.map(|_| value))
}

/// The condition that a row is still this claim.
pub(super) fn exactly(claim: &Claim) -> String {
    let text = |text: &str| literal(&Value::Text(text.to_owned()));
    format!("account_id = {} AND run = {} AND epoch = {}", text(&claim.account), text(&claim.by.run), claim.epoch)
}

/// Notes which copy is the run's own, directories included, where the session writes for a run that holds the account.
pub fn note_copy(session: &mut Session, account: &str, run: &str, mailbox: u32) -> Result<()> {
    if !session.is_fenced() {
        return Ok(());
    }
    let sql = "UPDATE zlm.claim SET mailbox = ? WHERE account_id = ? AND run = ?";
    session.transaction(|session| session.exec(sql, (mailbox, account, run))).map(drop)
}
