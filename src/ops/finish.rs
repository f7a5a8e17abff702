//! The end of a move that has switched and whose own script cannot come to it: everybody learns the new home, it opens the
//! mailbox, and the account gets its status back. All of it may be done again, whatever the script had done.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::claim::Memory;
use super::flush_caches;
use super::freeze::{Unlock, unlock};
use super::look::Survey;
use super::shares::CarryShares;
use super::soap_modify::{Attributes, SoapModify};
use super::stage::Move;
use super::sweep::Sweep;
use crate::error::{Context, Error, Kind, Result};
use crate::gate::{Operation, Watch};
use crate::report::Event;
use crate::run::{Run, Subject};
use crate::site::Site;
use crate::store::{self, Staged};
use crate::zimbra::account::{Account, AccountStatus, is_transport_of};
use crate::zimbra::ids::Host;

/// What a journal tells of a move: what was found, and the place it got.
pub struct Told {
    survey: Survey,
    staged: Staged,
}

impl Told {
    /// Reads it out of what came of the operations `look` and `stage`; none where there is no such thing.
    pub fn of(look: Option<Value>, stage: Option<Value>) -> Result<Option<Self>> {
        let (Some(look), Some(stage)) = (look, stage) else { return Ok(None) };
        let odd = || "what the journal has of the move".to_owned();
        let survey = serde_json::from_value(look).context(Kind::Data, odd)?;
        Ok(Some(Self { survey, staged: serde_json::from_value(stage).context(Kind::Data, odd)? }))
    }
}

/// What a finished move says of itself.
#[derive(Serialize)]
pub struct Finished {
    account: String,
    from: String,
    to: String,
    mailbox: u32,
    status: String,
}

/// Ends the move that `run` is about, from what is there to be seen.
///
/// Fails with [`Kind::Unequal`] where mail goes elsewhere, or mailboxd has another mailbox for the account.
pub fn finish(run: &Run, subject: &Subject, told: Option<&Told>) -> Result<Finished> {
    let (gate, site) = (&run.gate, &run.site);
    let account = Arc::new(gate.insist(|| site.account(&subject.account_id.parse()?))?);
    let home: Host = subject.dest.parse()?;
    if !account.transport.as_ref().is_some_and(|transport| is_transport_of(transport, &home)) {
        let message = format!("account {}: zimbraMailTransport is {:?}", account.address, account.transport);
        return Err(Error::new(Kind::Unequal, message).hint(format!("set it to lmtp:{home}:7025, then finish")));
    }
    let servers = gate.insist(|| site.servers())?;
    let of = |which: &dyn Fn(&crate::zimbra::server::Server) -> bool| -> Vec<String> {
        servers.iter().filter(|server| which(server)).map(|server| server.host.to_string()).collect()
    };
    let (stores, memcached) = (of(&|server| server.is_store()), of(&|server| server.runs("memcached")));
    flush_caches::all(run, &account, &stores, &memcached)?;
    let number = number(run, told)?;
    let mailbox = gate.pass(&Arrive { site: site.clone(), account: account.clone(), home, number })?;
    gate.pass(&CarryShares::new(run, account.clone())?)?;
    let status = reopen(run, subject, &account, told)?;
    flush_caches::all(run, &account, &stores, &[])?;
    // The user works again. What is left behind takes space, and harms nobody.
    if let Some(told) = told
        && let Err(error) = sweep(run, told)
    {
        let text = format!("blobs that no row names may be left: {error}");
        gate.emit(&Event::Warned { text });
    }
    let Subject { email, source, dest, .. } = subject.clone();
    Ok(Finished { account: email, from: source, to: dest, mailbox, status })
}

/// The number that the mailbox must have at its new home, where claim or journal say it.
fn number(run: &Run, told: Option<&Told>) -> Result<Option<u32>> {
    let claims = run.claims.all();
    let claimed = claims.iter().find(|claim| claim.role == "dest");
    let noted = match claimed {
        Some(claim) => Memory::of(claim)?.kept.or(claim.mailbox),
        None => None,
    };
    Ok(noted.or(told.map(|told| told.staged.id)))
}

/// Gives the account the status back that it had. One that the script set itself is left alone.
fn reopen(run: &Run, subject: &Subject, now: &Arc<Account>, told: Option<&Told>) -> Result<String> {
    if now.status != AccountStatus::Maintenance && now.status.word() != subject.status {
        return Ok(now.status.to_string());
    }
    let mut attributes = Attributes::from([("zimbraAccountStatus".to_owned(), vec![subject.status.clone()])]);
    if let Some(mail_status) = &subject.mail_status {
        attributes.insert("zimbraMailStatus".to_owned(), vec![mail_status.clone()]);
    }
    // As it was before it was closed, where that is known: what Zimbra sets along with a status goes with it.
    let account = told.map_or_else(|| now.clone(), |told| Arc::new(told.survey.account.clone()));
    run.gate.pass(&SoapModify { site: run.site.clone(), account, attributes })?;
    Ok(subject.status.clone())
}

fn sweep(run: &Run, told: &Told) -> Result<()> {
    if told.survey.kept.is_some() {
        return Ok(());
    }
    let mv = Arc::new(Move::again(run, &told.survey, &told.staged)?);
    run.gate.pass(&Sweep { mv }).map(drop)
}

/// Has the new home open the mailbox, a locked one too.
struct Arrive {
    site: Arc<Site>,
    account: Arc<Account>,
    home: Host,
    /// The number it must have, where that is known.
    number: Option<u32>,
}

impl Operation for Arrive {
    type Output = u32;

    fn name(&self) -> &'static str {
        "open_mailbox"
    }

    fn describe(&self) -> String {
        format!("{} opens the mailbox of {}", self.home, self.account.address)
    }

    fn outcome(&self, number: &u32) -> String {
        format!("mailbox {number}")
    }

    fn pretend(&self) -> Result<u32> {
        Ok(self.number.unwrap_or_default())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<u32> {
        let Self { site, account, home, number } = self;
        let row = store::mailbox_by_account(&mut *site.store(home.as_str())?.session()?, account.id.as_str())?;
        let row = row.map(|row| row.id).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("account {}: {home} has no mailbox row for it", account.address))
                .hint(format!("`zlm reconcile {}` says how it stands", account.address))
        })?;
        let wanted = number.unwrap_or(row);
        // A move that was taken back comes home to a locked copy.
        unlock(site, &Unlock { store: home.clone(), account_id: account.id.clone() })?;
        let opened = site.admin()?.get_mailbox(home, &account.id, Some(&site.server(home)?.id))?;
        if opened.get() == wanted && row == wanted {
            return Ok(wanted);
        }
        let message = format!("{home}: opened mailbox {opened} for {}, not {wanted}", account.address);
        Err(Error::new(Kind::Unequal, message)
            .hint("mailboxd remembers an earlier stay of the account: restart mailboxd there, then finish"))
    }
}
