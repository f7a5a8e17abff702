//! Where a mailbox is now, in a sentence that an operator can act on.

use std::fmt;

use crate::error::Result;
use crate::run::Subject;
use crate::site::Site;
use crate::store;
use crate::zimbra::account::{AccountStatus, Mail};

/// Where an account's mailbox is, and what its user can do.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The account.
    pub email: String,
    /// zimbraMailHost.
    pub store: Option<String>,
    /// zimbraAccountStatus.
    pub status: AccountStatus,
}

/// Reads the state from the directory's master.
pub fn look(site: &Site, subject: &Subject) -> Result<State> {
    let account = site.account(&subject.account_id.parse()?)?;
    Ok(State {
        email: account.address.to_string(),
        store: account.mail_host.as_ref().map(ToString::to_string),
        status: account.status,
    })
}

/// Whether a run has left something half done, now that the account is as in `now`: it is closed and was not, or a copy
/// stands under the run's placeholder.
pub fn is_half_done(site: &Site, run: &str, subject: &Subject, now: &State) -> Result<bool> {
    if now.status == AccountStatus::Maintenance && subject.status != now.status.word() {
        return Ok(true);
    }
    let own = store::placeholder(&subject.account_id, run);
    let staged = store::staged_for(&mut *site.store(&subject.dest)?.session()?, &subject.account_id)?;
    Ok(staged.iter().any(|(_, placeholder)| *placeholder == own))
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.status.allows_login() { "the user can log in" } else { "the user cannot log in" };
        let mail = match self.status.mail() {
            Mail::Delivered => "mail is delivered",
            Mail::Deferred => "mail waits in the queue of the MTA",
            Mail::Bounced => "mail bounces",
        };
        let store = self.store.as_deref().unwrap_or("no store");
        write!(f, "{} is on {store}, status {}: {login}, {mail}", self.email, self.status)
    }
}
