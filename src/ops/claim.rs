//! One run an account: held in both stores' MariaDB, and let go when the run ends, however it ends.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::look::Survey;
use crate::clients::ssh;
use crate::error::{Context, Error, Kind, Result};
use crate::gate::{Kept, Operation, Watch};
use crate::run::{Run, Subject};
use crate::site::Site;
use crate::store::{self, Claimant, Claims, Standing};
use crate::zimbra::account::Account;
use crate::zimbra::ids::Address;

/// What a claim remembers of its run, for whoever must end it without a journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// What the run is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// The databases of mailbox groups that the destination had.
    pub groups: Vec<String>,
    /// The number of the copy that the destination kept, where the run goes back to it.
    #[serde(default)]
    pub kept: Option<u32>,
}

impl Memory {
    /// What a claim remembers. Fails with [`Kind::Data`] for one that cannot be read.
    pub fn of(claim: &store::Claim) -> Result<Self> {
        serde_json::from_str(&claim.by.subject)
            .context(Kind::Data, || format!("account {}: what its claim says of run {}", claim.account, claim.by.run))
    }
}

/// Claims an account on both stores.
struct Claim {
    site: Arc<Site>,
    claims: Arc<Claims>,
    survey: Arc<Survey>,
    run: String,
    subject: Option<Subject>,
    pinned: Option<String>,
}

/// Claims the account of a survey for a run, until it ends.
pub fn claim(run: &Run, survey: &Arc<Survey>) -> Result<()> {
    run.gate.pass(&Claim {
        site: run.site.clone(),
        claims: run.claims.clone(),
        survey: survey.clone(),
        run: run.id.clone(),
        subject: run.subject(),
        pinned: run.gate.journal().map(|journal| journal.pinned()).transpose()?,
    })
}

impl Operation for Claim {
    type Output = ();

    fn name(&self) -> &'static str {
        CLAIM
    }

    fn describe(&self) -> String {
        let Survey { account, source, dest, .. } = &*self.survey;
        format!("account {} on {source} and {dest}", account.address)
    }

    fn kept(&self) -> Kept {
        Kept::Never
    }

    fn pretend(&self) -> Result<()> {
        self.survey.refuse()
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<()> {
        self.survey.refuse()?;
        let Survey { account, source, dest, .. } = &*self.survey;
        if self.claims.all().iter().any(|claim| claim.account == account.id.as_str()) {
            // A run that was taken up again has taken its claims over before anything else.
            return Ok(());
        }
        let subject = self.subject.clone().ok_or_else(|| {
            Error::new(Kind::Usage, format!("account {}: was not looked at by this run", account.address))
        })?;
        let groups = store::groups(&mut *self.site.store(dest.as_str())?.session()?)?;
        let kept =
            serde_json::to_string(&Memory { subject, groups, kept: self.survey.kept.as_ref().map(|kept| kept.row.id) });
        let (host, user) = here();
        let by = Claimant {
            run: self.run.clone(),
            host,
            user,
            subject: kept.context(Kind::Io, || format!("account {}: writing its claim", account.address))?,
            pinned: self.pinned.clone(),
        };
        for (store, role) in [(source, "source"), (dest, "dest")] {
            let target = self.site.store(store.as_str())?.db().target().clone();
            let held = store::hold(&target, account.id.as_str(), role, &by)
                .map_err(|error| by_another(&account.address, error))?;
            self.claims.add(held);
        }
        // Not asked by a look: the question makes mailboxd open the mailbox, and an audit looks at all of a store.
        if let Some(warning) = super::probe::reindexing(&self.site, &self.survey)? {
            watch.warn(warning);
        }
        Ok(())
    }
}

/// The name of the operation, in journals.
pub const CLAIM: &str = "claim";

/// The host and the user that a claim names.
fn here() -> (String, String) {
    // Where it cannot be read, the name of the run still tells.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    (host.trim().to_owned(), ssh::User::whoever())
}

/// Names the account in the error of a claim that somebody else has.
pub(super) fn by_another(address: &Address, error: Error) -> Error {
    if error.kind() != Kind::Held || error.is_lost() {
        return error;
    }
    Error::new(Kind::Held, format!("account {address}: is being moved by another run")).because(error).hint(
        "wait for it; `zlm ps` on its host shows it. When that host is gone for good, `KILL` of that connection in the \
         store's MariaDB ends its hold",
    )
}

/// Takes the claims of a run over that is taken up again. With `is_undone`, one store that cannot be asked does not
/// stop it: nobody else can have the account without the other one. Gives whether the run is still to be ended: its
/// claims go last, so one that had claimed its account and has no claim any more has ended, here or from another host.
///
/// # Errors
/// One that [`Error::is_lost`] when another run claims the account now.
pub fn take_up(run: &Run, had_claimed: bool, is_undone: bool) -> Result<bool> {
    let Some(subject) = run.subject() else { return Ok(true) };
    let (host, user) = here();
    let mut unreachable = None;
    for name in [&subject.source, &subject.dest] {
        let held = run.gate.insist(|| {
            let store = run.site.store(name)?;
            store::take_over(store.db().target(), &subject.account_id, Some(&run.id), &host, &user)
        });
        match held {
            Ok(Some(hold)) => run.claims.add(hold),
            Ok(None) => {}
            Err(error) if error.kind() == Kind::Unreachable && is_undone => {
                unreachable = Some(error.to_json());
                run.claims.add_unknown(name, error);
            }
            Err(error) => return Err(by_another(&subject.email.parse()?, error)),
        }
    }
    match (run.claims.is_empty() && had_claimed, unreachable) {
        (true, Some(error)) => Err(Error::from_json(&error)),
        (is_over, _) => Ok(!is_over),
    }
}

/// Takes over what a run left of an account when it died.
pub struct TakeOver {
    /// The site.
    pub site: Arc<Site>,
    /// Where the claims are kept until this run ends.
    pub claims: Arc<Claims>,
    /// The account.
    pub account: Arc<Account>,
}

impl Operation for TakeOver {
    type Output = u64;

    fn name(&self) -> &'static str {
        "take_over"
    }

    fn describe(&self) -> String {
        format!("what a run that died holds of account {}", self.account.address)
    }

    fn outcome(&self, taken: &u64) -> String {
        format!("{taken} claims")
    }

    fn kept(&self) -> Kept {
        Kept::Never
    }

    fn pretend(&self) -> Result<u64> {
        Ok(0)
    }

    fn apply(&self, _: &Watch<'_>) -> Result<u64> {
        let Some(home) = &self.account.mail_host else { return Ok(0) };
        let store = self.site.store(home.as_str())?;
        let Some(claim) = store::claim_of(&mut *store.session()?, self.account.id.as_str())? else { return Ok(0) };
        let Subject { source, dest, .. } = Memory::of(&claim)?.subject;
        take_over(&self.site, &self.claims, &self.account, &[source, dest])
    }
}

/// Takes over what runs left of an account on stores; gives how many claims it was.
pub(super) fn take_over(site: &Site, claims: &Claims, account: &Account, stores: &[String]) -> Result<u64> {
    let (host, user) = here();
    let mut taken = 0;
    for name in stores {
        let store = site.store(name)?;
        let held = store::take_over(store.db().target(), account.id.as_str(), None, &host, &user)
            .map_err(|error| by_another(&account.address, error))?;
        if let Some(hold) = held {
            claims.add(hold);
            taken += 1;
        }
    }
    Ok(taken)
}

/// What an account's claim on a store says against claiming it, if a run left one when it died.
///
/// # Errors
/// `Held` when a run is alive that holds it.
pub(super) fn left(address: &Address, account: &str, store: &crate::site::Store) -> Result<Option<String>> {
    match store::standing(&mut *store.session()?, account)? {
        Standing::Free => Ok(None),
        Standing::Held { claim, connection, store } => {
            Err(by_another(address, store::held_by(account, &store, claim.as_ref(), connection)))
        }
        Standing::Left(claim) => Ok(Some(format!(
            "{} has a claim of {}, by a run that died: `zlm rollback {}` on {} ends it, or `zlm reconcile {address}`",
            store.name(),
            claim.holder(),
            claim.by.run,
            claim.by.host
        ))),
    }
}
