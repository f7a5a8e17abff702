//! Reading the directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::gate::{Effect, Operation, Watch};
use crate::site::Site;
use crate::zimbra::account::Account;

/// Reads one account from the directory's master.
pub struct GetAccount {
    /// The site.
    pub site: Arc<Site>,
    /// An address or alias of the account.
    pub address: String,
}

impl Operation for GetAccount {
    type Output = Account;

    fn name(&self) -> &'static str {
        "ldap_get"
    }

    fn describe(&self) -> String {
        format!("account {}", self.address)
    }

    fn outcome(&self, account: &Account) -> String {
        let host = account.mail_host.as_ref().map_or("no store", |host| host.as_str());
        format!("{} on {host}, {}", account.address, account.status)
    }

    fn effect(&self) -> Effect {
        Effect::Look
    }

    fn pretend(&self) -> Result<Account> {
        let found = self.site.directory()?.account(&self.address.parse()?)?;
        found
            .ok_or_else(|| Error::new(Kind::NotFound, format!("account {}: no account has this address", self.address)))
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Account> {
        self.pretend()
    }
}

/// Reads entries that match a filter.
pub struct GetEntries {
    /// The site.
    pub site: Arc<Site>,
    /// An LDAP filter.
    pub filter: String,
    /// The attributes wanted.
    pub attributes: Vec<String>,
}

impl Operation for GetEntries {
    type Output = Vec<BTreeMap<String, serde_json::Value>>;

    fn name(&self) -> &'static str {
        "ldap_get"
    }

    fn describe(&self) -> String {
        format!("entries {}", self.filter)
    }

    fn outcome(&self, entries: &Self::Output) -> String {
        format!("{} entries", entries.len())
    }

    fn effect(&self) -> Effect {
        Effect::Look
    }

    fn pretend(&self) -> Result<Self::Output> {
        let wanted: Vec<&str> = self.attributes.iter().map(String::as_str).collect();
        let entries = self.site.directory()?.search("", &self.filter, &wanted)?;
        Ok(entries
            .into_iter()
            .map(|entry| {
                let mut map = BTreeMap::from([("dn".to_owned(), entry.dn().into())]);
                // Under the name that was asked for, whatever case the directory writes it in; asked for and not
                // there is an empty array, so that a script need not ask whether it is there.
                map.extend(wanted.iter().map(|name| ((*name).to_owned(), entry.all(name).into())));
                map
            })
            .collect())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Self::Output> {
        self.pretend()
    }
}

/// Names the servers that run a service.
pub struct Servers {
    /// The site.
    pub site: Arc<Site>,
    /// As in zimbraServiceEnabled: `mailbox`, `memcached`, `proxy`, `mta`.
    pub service: String,
}

impl Operation for Servers {
    type Output = Vec<String>;

    fn name(&self) -> &'static str {
        "servers"
    }

    fn describe(&self) -> String {
        format!("servers with {}", self.service)
    }

    fn outcome(&self, names: &Vec<String>) -> String {
        names.join(", ")
    }

    fn effect(&self) -> Effect {
        Effect::Look
    }

    fn pretend(&self) -> Result<Vec<String>> {
        let servers = self.site.servers()?;
        Ok(servers.iter().filter(|s| s.runs(&self.service)).map(|s| s.host.to_string()).collect())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Vec<String>> {
        self.pretend()
    }
}
