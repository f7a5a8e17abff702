//! What became of a move whose journal is lost, from what is there to be seen: the directory, claims, locks and rows.

use serde::Serialize;

use super::claim::{Memory, by_another};
use super::freeze::Unlock;
use super::soap_modify::{Attributes, Restore};
use super::stage::{Unstage, staged_as};
use super::state::State;
use super::switch::Unpublish;
use crate::error::{Error, Kind, Result};
use crate::gate::Undo;
use crate::rows;
use crate::site::{Site, Store};
use crate::store::{self, Claim, Standing};
use crate::zimbra::account::{Account, AccountStatus};
use crate::zimbra::ids::Host;

/// A copy of a mailbox on a store that is not the account's home.
#[derive(Clone, Debug, Serialize)]
pub struct Copy {
    /// The store.
    pub store: String,
    /// Its number there.
    pub number: u32,
    /// What stands in its `account_id`.
    pub account_id: String,
    /// Rows of it.
    pub rows: u64,
}

/// What is there to be seen of an account.
pub struct Found {
    /// The account.
    pub account: Account,
    /// Where it is, and what its user can do.
    pub state: State,
    /// What runs that died claim, and on which store.
    pub claims: Vec<(String, Claim)>,
    /// Copies on other stores.
    pub copies: Vec<Copy>,
    /// Stores that could not be asked, and why.
    pub unreached: Vec<(String, String)>,
}

/// What follows from it.
pub enum Verdict {
    /// No run left anything.
    Nothing,
    /// A run died before its switch.
    Before(Box<Before>),
    /// A run died after its switch.
    Switched {
        /// The run.
        run: String,
        /// What its claim remembers.
        memory: Box<Memory>,
        /// Its script, modules and options, as JSON; none for a run without a journal.
        pinned: Option<String>,
    },
    /// What cannot be known, and what to look at.
    Unknown(String),
}

/// A run that died before its switch.
pub struct Before {
    /// The run.
    pub run: String,
    /// What its claim remembers.
    pub memory: Memory,
    /// Its script, modules and options, as JSON; none for a run without a journal.
    pub pinned: Option<String>,
    /// What takes away what it may have done, oldest first.
    pub undo: Vec<Undo>,
    /// Whether it may have asked for its switch: the copy could be opened already.
    pub may_have_switched: bool,
    /// What is left as it is, and why.
    pub notes: Vec<String>,
}

/// Looks at an account on every store.
///
/// # Errors
/// [`Kind::Held`] while a run that is alive holds it, [`Kind::NotFound`] when there is no such account.
pub fn find(site: &Site, address: &str) -> Result<Found> {
    let account = site
        .directory()?
        .account(&address.parse()?)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("account {address}: no account has this address")))?;
    let state = State {
        email: account.address.to_string(),
        store: account.mail_host.as_ref().map(ToString::to_string),
        status: account.status,
    };
    let mut found = Found { account, state, claims: Vec::new(), copies: Vec::new(), unreached: Vec::new() };
    for server in site.servers()?.iter().filter(|server| server.is_store()) {
        let looked = site.store(server.host.as_str()).and_then(|store| found.look(&store));
        match looked {
            Err(error) if error.kind() == Kind::Held => return Err(error),
            Err(error) => found.unreached.push((server.host.to_string(), error.to_string())),
            Ok(()) => {}
        }
    }
    Ok(found)
}

impl Found {
    fn look(&mut self, store: &Store) -> Result<()> {
        let id = self.account.id.as_str();
        let mut session = store.session()?;
        match store::standing(&mut session, id)? {
            Standing::Free => {}
            Standing::Left(claim) => self.claims.push((store.name().to_owned(), claim)),
            Standing::Held { claim, connection, store } => {
                return Err(by_another(&self.account.address, store::held_by(id, &store, claim.as_ref(), connection)));
            }
        }
        let mut numbers: Vec<u32> =
            store::staged_for(&mut session, id)?.into_iter().map(|(number, _)| number).collect();
        if self.account.mail_host.as_ref().is_none_or(|home| home.as_str() != store.name()) {
            numbers.extend(store::mailbox_by_account(&mut session, id)?.map(|row| row.id));
        }
        for number in numbers {
            let Some(row) = store::mailbox_by_id(&mut session, number)? else { continue };
            let mut count = 0;
            for table in rows::mailbox_tables(&mut session, &row.group())? {
                count += rows::count_rows(&mut session, &table, number)?;
            }
            self.copies.push(Copy { store: store.name().to_owned(), number, account_id: row.account_id, rows: count });
        }
        Ok(())
    }

    /// Says what follows. It never guesses.
    ///
    /// # Errors
    /// A store that was reached does not answer any more.
    pub fn judge(&self, site: &Site) -> Result<Verdict> {
        if let Some((store, why)) = self.unreached.first() {
            let text = format!("{store} cannot be asked for a claim or a copy: {why}; see to it, then reconcile again");
            return Ok(Verdict::Unknown(text));
        }
        let Some((first, claim)) = self.claims.first() else { return Ok(self.without_claim()) };
        if let Some((second, other)) = self.claims.iter().find(|(_, other)| other.by.run != claim.by.run) {
            return Ok(Verdict::Unknown(format!(
                "two runs claim it: {} on {first}, {} on {second}; end one with `zlm rollback` on its host",
                claim.holder(),
                other.holder()
            )));
        }
        let memory = match Memory::of(claim) {
            Ok(memory) => memory,
            Err(error) => {
                return Ok(Verdict::Unknown(format!("{error}; look at the log of that run on {}", claim.by.host)));
            }
        };
        let home = self.account.mail_host.as_ref().map_or("", Host::as_str);
        if home == memory.subject.dest {
            return self.switched(site, claim, memory);
        }
        if home != memory.subject.source {
            return Ok(Verdict::Unknown(format!(
                "zimbraMailHost is {home:?}, and run {} moved from {} to {}; who changed it?",
                claim.by.run, memory.subject.source, memory.subject.dest
            )));
        }
        self.before(site, claim, memory)
    }

    /// What lies there without a claim was staged by a run that claimed nothing, or whose claim somebody removed.
    fn without_claim(&self) -> Verdict {
        let placeholder = store::placeholder(self.account.id.as_str(), "");
        let staged = self.copies.iter().find(|copy| copy.account_id.starts_with(&placeholder));
        let Some(Copy { store, number, account_id, .. }) = staged else { return Verdict::Nothing };
        Verdict::Unknown(format!(
            "{store} has number {number} staged as {account_id}, and no claim says which status the account had: \
             look at that run's log, then `zlm run scripts/undo.rhai --email {} --dest {store} --status STATUS`",
            self.account.address
        ))
    }

    fn switched(&self, site: &Site, claim: &Claim, memory: Memory) -> Result<Verdict> {
        let dest = site.store(&memory.subject.dest)?;
        let row = store::mailbox_by_account(&mut *dest.session()?, self.account.id.as_str())?;
        let staged = self.claims.iter().find(|(store, _)| *store == memory.subject.dest);
        let number = memory.kept.or(staged.and_then(|(_, claim)| claim.mailbox));
        Ok(match (row, number) {
            (Some(row), Some(number)) if row.id == number => {
                let (run, pinned) = (claim.by.run.clone(), claim.by.pinned.clone());
                Verdict::Switched { run, memory: Box::new(memory), pinned }
            }
            (Some(row), None) => Verdict::Unknown(format!(
                "mailbox {} on {} is the account's, and no claim there says that the run made it; compare it with {}",
                row.id, memory.subject.dest, memory.subject.source
            )),
            (row, Some(number)) => Verdict::Unknown(format!(
                "the copy on {} was number {number}, and the account has {} there; look at zimbra.mailbox of both stores",
                memory.subject.dest,
                row.map_or_else(|| "no mailbox".to_owned(), |row| format!("mailbox {}", row.id))
            )),
            (None, None) => Verdict::Unknown(format!(
                "zimbraMailHost is {}, and there is no mailbox; set it back to {} if the mailbox is there",
                memory.subject.dest, memory.subject.source
            )),
        })
    }

    fn before(&self, site: &Site, claim: &Claim, memory: Memory) -> Result<Verdict> {
        let dest: Host = memory.subject.dest.parse()?;
        let (account, run) = (&self.account, claim.by.run.clone());
        let store = site.store(dest.as_str())?;
        let mut session = store.session()?;
        let placeholder = store::placeholder(account.id.as_str(), &run);
        let address = account.address.as_str();
        let unstage = Unstage {
            store: dest.clone(),
            placeholder: placeholder.clone(),
            volumes: store::facts(&mut session)?.volumes,
            group_databases: memory.groups.clone(),
        };
        // The copy that a run goes back to is not its own.
        let copies = if memory.kept.is_some() { Vec::new() } else { vec![unstage.to_undo(address)?] };
        let (mut undo, mut notes) = (copies, Vec::new());
        match (account.status, memory.subject.status.parse()?) {
            (now, then) if now == then => {}
            (AccountStatus::Maintenance, then) => {
                let mut attributes =
                    Attributes::from([("zimbraAccountStatus".to_owned(), vec![AccountStatus::word(then).to_owned()])]);
                if let Some(mail_status) = &memory.subject.mail_status {
                    attributes.insert("zimbraMailStatus".to_owned(), vec![mail_status.clone()]);
                }
                undo.push(Restore { account_id: account.id.clone(), attributes }.to_undo(address)?);
            }
            (now, then) => notes.push(format!(
                "the status was {then} and is {now}, which the run did not set: somebody did, and it stays so"
            )),
        }
        let source = memory.subject.source.parse()?;
        undo.push(Unlock { store: source, account_id: account.id.clone() }.to_undo(address)?);
        let published = store::mailbox_by_account(&mut session, account.id.as_str())?;
        // The copy that a run goes back to carries the account's id all the time.
        let may_have_switched = published.is_some() && account.status == AccountStatus::Maintenance;
        if let Some(row) = published.filter(|row| memory.kept != Some(row.id)) {
            let is_own = self.claims.iter().any(|(at, claim)| at == dest.as_str() && claim.mailbox == Some(row.id));
            if !is_own {
                return Ok(Verdict::Unknown(format!(
                    "mailbox {} on {dest} carries the account's id, and no claim says that run {run} made it: compare it with the \
                     one on {} before one of them is removed",
                    row.id, memory.subject.source
                )));
            }
            let staged = staged_as(&row, placeholder, false, store.groups()?.get());
            undo.push(Unpublish { store: dest, staged, account_id: account.id.clone() }.to_undo()?);
        }
        Ok(Verdict::Before(Box::new(Before {
            run,
            memory,
            pinned: claim.by.pinned.clone(),
            undo,
            may_have_switched,
            notes,
        })))
    }
}
