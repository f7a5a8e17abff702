//! Shares that wait to be published, where the run that moved the mailbox did not see to them.

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Watch};
use crate::run::Run;
use crate::site::{Site, Store};
use crate::store;
use crate::zimbra::account::Account;

/// Brings them from the copies that other stores kept to the account's home.
pub struct CarryShares {
    site: Arc<Site>,
    account: Arc<Account>,
    home: Arc<Store>,
}

impl CarryShares {
    /// For an account, at the home that it has now.
    pub fn new(run: &Run, account: Arc<Account>) -> Result<Self> {
        let home = account.mail_host.as_ref().ok_or_else(|| {
            Error::new(Kind::NotFound, format!("account {}: zimbraMailHost is not set", account.address))
        })?;
        let home = run.own(run.site.store(home.as_str())?);
        Ok(Self { site: run.site.clone(), account, home })
    }

    /// What a store kept.
    fn kept(&self, store: &str) -> Result<Vec<store::Share>> {
        let store = self.site.store(store)?;
        let mut session = store.session()?;
        match store::mailbox_by_account(&mut session, self.account.id.as_str())? {
            Some(row) => store::shares(&mut session, row.id),
            None => Ok(Vec::new()),
        }
    }
}

impl Operation for CarryShares {
    type Output = u64;

    fn name(&self) -> &'static str {
        "carry_shares"
    }

    fn describe(&self) -> String {
        format!("shares of {} that wait to be published, to {}", self.account.address, self.home.name())
    }

    fn outcome(&self, count: &u64) -> String {
        format!("{count} shares")
    }

    fn pretend(&self) -> Result<u64> {
        Ok(0)
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<u64> {
        let id = self.account.id.as_str();
        let row = store::mailbox_by_account(&mut *self.home.session()?, id)?.ok_or_else(|| {
            let message = format!("account {}: {} has no mailbox row for it", self.account.address, self.home.name());
            Error::new(Kind::NotFound, message)
        })?;
        let mut shares = Vec::new();
        for server in self.site.servers()?.iter().filter(|server| server.is_store()) {
            let host = server.host.as_str();
            if host == self.home.name() {
                continue;
            }
            match self.kept(host) {
                Ok(kept) => shares.extend(kept),
                // The account opens all the same.
                Err(error) => watch.warn(format!("{host}: shares that it may have kept stay there: {error}")),
            }
        }
        store::put_shares(&mut *self.home.session()?, row.id, &shares)?;
        Ok(shares.len() as u64)
    }
}
