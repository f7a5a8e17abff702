//! Requests that change something, and whose answer nobody has read. A mailboxd may carry such a request out at any time as
//! long as the process lives that got it: what the directory says until then proves nothing, and neither does what comes of
//! a second request.
//!
//! One place for all of them: each is written down before it leaves, and crossed out when it is known what came of it.
//! A switch that may have happened is not undone before what was asked for is over; and a run does not end before what it
//! asked for once, and took back since, can come no more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flush_caches;
use super::freeze::{Unlock, is_locked, unlock};
use super::soap_modify::{self, Attributes};
use crate::cancel::Cancel;
use crate::clients::ssh::{Input, Limit};
use crate::error::{Error, Kind, Result};
use crate::gate::{AMBIGUOUS, Gate, Sent, Switched};
use crate::report::Event;
use crate::run::{Run, Subject};
use crate::site::Site;
use crate::zimbra::account::Account;
use crate::zimbra::ids::{Host, ZimbraId};

/// Where a mailboxd writes its process id, below Zimbra's home.
const PID_FILE: &str = "log/zmmailboxd_java.pid";

/// How often it is looked whether a request was carried out, and whether it can be no more.
const LOOK: Duration = Duration::from_millis(500);

/// What a request asks for, as it is kept.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Asked {
    /// `ModifyAccountRequest`.
    Modify { account: ZimbraId, attributes: Attributes },
    /// `LockoutMailboxRequest`, to begin.
    Lock { account: ZimbraId },
}

impl Asked {
    fn of(sent: &Sent) -> Option<Self> {
        serde_json::from_value(sent.asked.clone()).ok()
    }

    fn name(&self) -> &'static str {
        match self {
            Asked::Modify { .. } => "ModifyAccountRequest",
            Asked::Lock { .. } => "LockoutMailboxRequest",
        }
    }

    /// Whether it names another store for the account, or for its mail.
    fn is_switch(&self) -> bool {
        matches!(self, Asked::Modify { attributes, .. } if soap_modify::names_home(attributes))
    }
}

/// Sends a request that was written down. Gives its number: what it asked for may have to be seen before it is crossed out.
/// One that was refused, or did not leave, is.
pub(super) fn send(gate: &Gate, store: &Host, asked: &Asked, request: impl FnOnce() -> Result<()>) -> Result<i64> {
    let value = serde_json::to_value(asked).map_err(|e| Error::new(Kind::Io, "a request: keeping it").because(e))?;
    let number = gate.sends(store.as_str(), value)?;
    match request() {
        Ok(()) => Ok(number),
        Err(error) => {
            if error.peer_code() != Some(AMBIGUOUS) {
                gate.is_known(number);
            }
            Err(error)
        }
    }
}

/// Crosses a request out that the account shows to have been carried out, where that can have been no other one.
pub(super) fn note_carried_out(gate: &Gate, account: &Account) {
    for sent in gate.unanswered().iter().filter(|sent| !sent.is_repeated) {
        if let Some(asked @ Asked::Modify { account: id, attributes }) = &Asked::of(sent)
            && *id == account.id
            && !asked.is_switch()
            && soap_modify::shows(account, attributes)
        {
            gate.is_known(sent.number);
        }
    }
}

/// The same of a request to lock a mailbox that is locked; `refused` says that one that came later was refused for that.
pub(super) fn note_locked(gate: &Gate, id: &ZimbraId, refused: bool) {
    let asked = Asked::Lock { account: id.clone() };
    let open = gate.unanswered();
    let mut open = open.iter().filter(|sent| Asked::of(sent).as_ref() == Some(&asked));
    if let (Some(sent), None) = (open.next(), open.next())
        && (refused || !sent.is_repeated)
    {
        gate.is_known(sent.number);
    }
}

/// Finds out what came of a switch of which nobody knows, and keeps it. Where that cannot be known yet it waits, if `wait`
/// says whose request to stop ends that.
///
/// Fails with [`Kind::Cancelled`], and where the directory cannot be asked.
pub fn settle(run: &Run, site: &Site, wait: Option<&Cancel>) -> Result<()> {
    if run.gate.switched() != Switched::Maybe {
        return Ok(());
    }
    let subject = run.subject();
    let mut open = switches(run, subject.as_ref())?;
    let mut is_told = false;
    loop {
        // In this order: what can come no more has come by now, or will not.
        open.retain(|sent| !is_over(site, sent));
        if has_happened(run, site, subject.as_ref())? {
            return run.gate.settle(Switched::Yes);
        }
        let (Some(sent), Some(cancel)) = (open.first(), wait) else { break };
        if !std::mem::replace(&mut is_told, true) {
            run.gate.emit(&Event::Warned { text: still_open(site, sent) });
        }
        cancel.wait(LOOK)?;
    }
    if open.is_empty() { run.gate.settle(Switched::No) } else { Ok(()) }
}

/// The requests that may still switch. A run of before they were written down, and one whose journal was lost, may have sent
/// one just now.
fn switches(run: &Run, subject: Option<&Subject>) -> Result<Vec<Sent>> {
    let mut open = run.gate.unanswered();
    open.retain(|sent| Asked::of(sent).is_some_and(|asked| asked.is_switch()));
    let keeps_none = run.gate.journal().map_or(Ok(false), |journal| journal.keeps_no_requests())?;
    if let (true, true, Some(Subject { account_id, source, dest, .. })) = (keeps_none, open.is_empty(), subject) {
        let attributes = Attributes::from([(soap_modify::HOST.to_owned(), vec![dest.clone()])]);
        let asked = Asked::Modify { account: account_id.parse()?, attributes };
        // Its time counts from now, for whoever comes later as well.
        run.gate.sends(source, serde_json::to_value(asked).unwrap_or_default())?;
        open = run.gate.unanswered();
    }
    Ok(open)
}

/// Whether the directory shows what a switch asked for.
fn has_happened(run: &Run, site: &Site, subject: Option<&Subject>) -> Result<bool> {
    for sent in run.gate.unanswered() {
        if let Some(Asked::Modify { account, attributes }) = Asked::of(&sent)
            && soap_modify::names_home(&attributes)
            && soap_modify::shows(&site.account(&account)?, &attributes)
        {
            return Ok(true);
        }
    }
    let Some(subject) = subject else { return Ok(false) };
    Ok(site.account(&subject.account_id.parse()?)?.mail_host.is_some_and(|home| home.as_str() == subject.dest))
}

/// Looks once more after an undo, whatever was proved before it: a mailbox that is where it was, under the name of another
/// store, is nobody's to find. Gives what is to be told of that.
pub fn came_after_all(run: &Run, site: &Site) -> Option<Error> {
    let sent = run.gate.unanswered().into_iter().find(|s| Asked::of(s).is_some_and(|asked| asked.is_switch()))?;
    let subject = run.subject()?;
    match has_happened(run, site, Some(&subject)) {
        Ok(false) => None,
        Ok(true) => {
            let Subject { email, source, dest, .. } = subject;
            let message = format!(
                "account {email}: zimbraMailHost is {dest} now, and its mailbox is on {source}: mailboxd of {} has carried out \
                 a request that was given up",
                sent.store
            );
            Some(Error::new(Kind::Unequal, message).hint(format!("zmprov ma {email} zimbraMailHost {source}")))
        }
        Err(error) => Some(error),
    }
}

/// Waits until nothing that the run asked for and took back since can come any more; what comes meanwhile is taken back once
/// more. The user is at work.
///
/// Fails with [`Kind::Cancelled`], and where what came cannot be taken back.
pub fn see_out(run: &Run, site: &Site, cancel: &Cancel) -> Result<()> {
    let mut open: Vec<(Sent, Back)> = Vec::new();
    for sent in run.gate.unanswered() {
        match Asked::of(&sent).map(|asked| Back::of(site, &sent, asked)).transpose()?.flatten() {
            Some(back) => open.push((sent, back)),
            None => run.gate.is_known(sent.number),
        }
    }
    let mut is_told = false;
    while !open.is_empty() {
        let mut left = Vec::new();
        for (sent, back) in open {
            let over = is_over(site, &sent);
            if back.if_it_came(run, site)? || over {
                run.gate.is_known(sent.number);
            } else {
                left.push((sent, back));
            }
        }
        open = left;
        let Some((sent, _)) = open.first() else { break };
        if !std::mem::replace(&mut is_told, true) {
            run.gate.emit(&Event::Warned { text: still_open(site, sent) });
        }
        cancel.wait(LOOK)?;
    }
    Ok(())
}

/// What takes a late request back.
enum Back {
    /// Attributes as they are now, which are not those that it asked for.
    Attributes { account: ZimbraId, asked: Attributes, now: Attributes },
    /// The mailbox is unlocked.
    Unlocked(Unlock),
}

impl Back {
    /// None for a request that asks for what is so, or for what does no harm: a mailbox that is elsewhere stays locked.
    fn of(site: &Site, sent: &Sent, asked: Asked) -> Result<Option<Self>> {
        Ok(match asked {
            Asked::Modify { account, attributes } => {
                let now = site.account(&account)?;
                let is_so = soap_modify::shows(&now, &attributes) || soap_modify::names_home(&attributes);
                let values = |name: &String| (name.clone(), now.entry.all(name).to_vec());
                let as_now = attributes.keys().map(values).collect();
                (!is_so).then_some(Self::Attributes { account, asked: attributes, now: as_now })
            }
            Asked::Lock { account } => {
                let is_home = site.account(&account)?.mail_host.is_some_and(|home| home.as_str() == sent.store);
                let unlock = Unlock { store: sent.store.parse()?, account_id: account };
                (is_home && !is_locked(site, &unlock)?).then_some(Self::Unlocked(unlock))
            }
        })
    }

    /// Takes it back if it came; gives whether it did.
    fn if_it_came(&self, run: &Run, site: &Site) -> Result<bool> {
        match self {
            Self::Attributes { account, asked, now } => {
                if !soap_modify::shows(&site.account(account)?, asked) {
                    return Ok(false);
                }
                soap_modify::set(site, &run.gate, account, now, site.cancel())?;
                for text in flush_caches::accounts(site, account, run.without())? {
                    run.gate.emit(&Event::Warned { text });
                }
                Ok(true)
            }
            Self::Unlocked(lock) => match is_locked(site, lock) {
                Ok(true) => unlock(site, lock).map(|_| true),
                Ok(false) => Ok(false),
                // One that does not answer has carried out nothing yet, or is gone.
                Err(error) if error.kind() == Kind::Unreachable => Ok(false),
                Err(error) => Err(error),
            },
        }
    }
}

/// Whether a request can be carried out no more: it is older than any can be, or the process that got it is gone.
fn is_over(site: &Site, sent: &Sent) -> bool {
    let age = sent.age();
    age >= site.config().request_life() || has_restarted(site, &sent.store, age).unwrap_or(false)
}

/// Whether the mailboxd of a store began less than `age` ago, or is not there. Of one that cannot be told it is not so.
fn has_restarted(site: &Site, store: &str, age: Duration) -> Result<bool> {
    let reached = site.store(store)?;
    let path = reached.home().join(PID_FILE);
    let (shell, cancel) = (reached.shell(), site.cancel());
    let pid = String::from_utf8_lossy(&reached.read(&path)?).trim().to_owned();
    if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(false);
    }
    let output = shell.run(&["ps", "-o", "etimes=", "-p", &pid], Input::None, Limit::default(), cancel)?;
    match String::from_utf8_lossy(&output.stdout).trim().parse::<u64>() {
        // Whole seconds, of which the last has begun.
        Ok(lived) => Ok(Duration::from_secs(lived.saturating_add(1)) < age),
        // No such process; and whoever hides processes from others has one that listens.
        Err(_) => {
            let answer = site.admin()?.version(&store.parse()?);
            Ok(answer.is_err_and(|error| error.is_connection_refused()))
        }
    }
}

fn still_open(site: &Site, sent: &Sent) -> String {
    let name = Asked::of(sent).map_or("a request", |asked| asked.name());
    let left = site.config().request_life().saturating_sub(sent.age()).as_secs();
    format!(
        "mailboxd of {} may still carry out a {name} that it did not answer: waiting for up to {left} s; once mailboxd is \
         started again there, that is over at once",
        sent.store
    )
}
