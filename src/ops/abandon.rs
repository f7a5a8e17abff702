//! Taking away what a run left that died before its switch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claim;
use super::flush_caches;
use super::freeze::{Unlock, unlock};
use super::soap_modify::{self, Attributes};
use super::stage::{Unstage, unstage};
use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Watch};
use crate::run::own;
use crate::site::Site;
use crate::store::{self, Claims};
use crate::zimbra::account::{Account, AccountStatus};
use crate::zimbra::ids::Host;

/// Undoes a move of an account to a store, from what is there to be seen.
pub struct Abandon {
    /// The site.
    pub site: Arc<Site>,
    /// Where the claims are kept until this run ends.
    pub claims: Arc<Claims>,
    /// The account.
    pub account: Arc<Account>,
    /// The store it was to move to.
    pub dest: Host,
    /// The status it had before.
    pub status: AccountStatus,
}

/// What was found and taken away.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Abandoned {
    /// How many staged copies were removed.
    pub copies: u64,
}

impl Abandon {
    /// Fails with [`Kind::Refused`] when the account has its new home already, or the copy there carries the
    /// account's own id: then nobody can tell a dead run's row from a mailbox of its own.
    fn check(&self) -> Result<Host> {
        let now = self.site.account(&self.account.id)?;
        let source = now
            .mail_host
            .clone()
            .ok_or_else(|| Error::new(Kind::Refused, format!("account {}: zimbraMailHost is not set", now.address)))?;
        if source == self.dest {
            let message = format!("account {}: is on {} already: the move has switched", now.address, self.dest);
            let next = format!("zlm reconcile {}, which says how to finish it", now.address);
            return Err(Error::new(Kind::Refused, message).hint(next));
        }
        let dest = self.site.store(self.dest.as_str())?;
        if let Some(row) = store::mailbox_by_account(&mut *dest.session()?, self.account.id.as_str())? {
            let message = format!("account {}: mailbox {} on {} carries its id", now.address, row.id, self.dest);
            return Err(Error::new(Kind::Refused, message)
                .hint("an earlier stay, or a run that died at its switch: `zlm reconcile EMAIL` tells them apart"));
        }
        Ok(source)
    }

    fn staged(&self) -> Result<Vec<(u32, String)>> {
        let dest = self.site.store(self.dest.as_str())?;
        store::staged_for(&mut *dest.session()?, self.account.id.as_str())
    }
}

impl Operation for Abandon {
    type Output = Abandoned;

    fn name(&self) -> &'static str {
        "abandon"
    }

    fn describe(&self) -> String {
        format!("the unfinished move of {} to {}", self.account.address, self.dest)
    }

    fn details(&self) -> Result<Vec<String>> {
        let source = self.check()?;
        let mut details = vec![
            format!("LockoutMailboxRequest op=end on {source}"),
            format!("zimbraAccountStatus: {} -> {}", self.site.account(&self.account.id)?.status, self.status),
        ];
        details.extend(
            self.staged()?
                .iter()
                .map(|(id, placeholder)| format!("remove mailbox {id} ({placeholder}) from {}", self.dest)),
        );
        Ok(details)
    }

    fn outcome(&self, abandoned: &Abandoned) -> String {
        format!("{} copies removed, status {}", abandoned.copies, self.status)
    }

    fn pretend(&self) -> Result<Abandoned> {
        Ok(Abandoned::default())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Abandoned> {
        let source = self.check()?;
        let dest = self.site.store(self.dest.as_str())?;
        // A run that is still alive holds the account on both stores; one that wakes from now on holds it no more.
        let stores = [source.to_string(), self.dest.to_string()];
        claim::take_over(&self.site, &self.claims, &self.account, &stores)?;
        unlock(&self.site, &Unlock { store: source, account_id: self.account.id.clone() })?;
        let mut attributes = Attributes::from([("zimbraAccountStatus".to_owned(), vec![self.status.to_string()])]);
        if let Some(mail_status) = &self.account.mail_status {
            attributes.insert("zimbraMailStatus".to_owned(), vec![mail_status.clone()]);
        }
        soap_modify::set(&self.site, watch.gate(), &self.account.id, &attributes, watch.cancel())?;
        for text in flush_caches::accounts(&self.site, &self.account.id, &[])? {
            watch.warn(text);
        }
        let volumes = store::facts(&mut *dest.session()?)?.volumes;
        let mut abandoned = Abandoned::default();
        for (_, placeholder) in self.staged()? {
            // Which group the dead run created is not known; one that is empty is nobody's loss, and one that is
            // not stays.
            let group_databases = Vec::new();
            unstage(
                &own(&self.claims, dest.clone()),
                &Unstage { store: self.dest.clone(), placeholder, volumes: volumes.clone(), group_databases },
            )?;
            abandoned.copies += 1;
        }
        Ok(abandoned)
    }
}
