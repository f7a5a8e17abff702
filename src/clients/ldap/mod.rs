//! The directory.

mod connection;
mod look;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ldap3::{Mod, Scope};
use rustls::ClientConfig;

use crate::clients::tls;
use crate::config::LdapSettings;
use crate::error::{Error, Kind, Result};
use connection::{Connection, Search};

pub use crate::zimbra::entry::Entry;
pub use crate::zimbra::server::Server;
pub use ldap3::ldap_escape as escape;

/// Zimbra's directory. Every read goes to the master unless it names another server: replicas lag, and
/// decisions must not.
pub struct Directory {
    settings: LdapSettings,
    tls: Option<Arc<ClientConfig>>,
    connections: Mutex<HashMap<String, Arc<Mutex<Connection>>>>,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({})", self.settings.master.join(" "))
    }
}

impl Directory {
    /// A client that has not connected yet; fails with [`Kind::Config`] when the trusted authority cannot be
    /// read.
    pub fn new(settings: LdapSettings) -> Result<Self> {
        let tls = settings.trust.as_ref().map(tls::client_config).transpose()?;
        Ok(Self { settings, tls, connections: Mutex::default() })
    }

    /// The entry of a DN, as the master has it. No attributes named means all.
    pub fn get(&self, dn: &str, attributes: &[&str]) -> Result<Option<Entry>> {
        self.read_master(&of_dn(dn, attributes)).map(|mut found| found.pop())
    }

    /// The entries below a base that fit a filter, as the master has them. Values in the filter must be
    /// escaped with [`escape`]. Fails with [`Kind::Data`] when there are more than 100,000.
    pub fn search(&self, base: &str, filter: &str, attributes: &[&str]) -> Result<Vec<Entry>> {
        self.read_master(&below(base, filter, attributes, Search::EVERYTHING))
    }

    /// The one entry below a base that fits a filter; fails with [`Kind::Data`] when there is more than one.
    pub fn search_one(&self, base: &str, filter: &str, attributes: &[&str]) -> Result<Option<Entry>> {
        let found = self.read_master(&below(base, filter, attributes, 10))?;
        match found.as_slice() {
            [] | [_] => Ok(found.into_iter().next()),
            more => {
                let names: Vec<_> = more.iter().map(Entry::dn).collect();
                Err(Error::new(Kind::Data, format!("{filter}: more than one entry: {}", names.join("; "))))
            }
        }
    }

    /// The entry of a DN as every server has it, to see whether a change has reached the replicas. A server
    /// that cannot be asked gives its error.
    pub fn get_everywhere(&self, dn: &str, attributes: &[&str]) -> Vec<(String, Result<Option<Entry>>)> {
        let search = of_dn(dn, attributes);
        let mut urls: Vec<_> = self.settings.master.iter().chain(&self.settings.all).cloned().collect();
        let mut seen = HashSet::new();
        urls.retain(|url| seen.insert(url.clone()));
        urls.into_iter()
            .map(|url| (self.read(&url, &search).map(|mut found| found.pop()), url))
            .map(|(r, u)| (u, r))
            .collect()
    }

    /// Replaces one value of an attribute by another, if it is still `old`: one change that deletes the old
    /// value and adds the new one, which the server takes whole or not at all. No old value means that the
    /// attribute must not be there.
    ///
    /// Fails with [`Kind::Unequal`] when it was something else, and with the code `ambiguous` when the
    /// connection broke: then the attribute must be read again.
    pub fn compare_and_set(&self, dn: &str, attribute: &str, old: Option<&str>, new: Option<&str>) -> Result<()> {
        let value = |value: &str| HashSet::from([value.to_owned()]);
        let delete = old.map(|old| Mod::Delete(attribute.to_owned(), value(old)));
        let add = new.map(|new| Mod::Add(attribute.to_owned(), value(new)));
        let changes: Vec<_> = delete.into_iter().chain(add).collect();
        let mut last = no_master();
        for url in &self.settings.master {
            let connection = self.connection(url);
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            match connection.modify(&self.settings, dn, changes.clone()) {
                // Nothing was sent: another master may be there.
                Err(e) if e.kind() == Kind::Unreachable && e.peer_code().is_none() => last = e,
                // A second value for an attribute that has one.
                Err(e) if old.is_none() && e.peer_code() == Some("19") => {
                    return Err(Error::new(Kind::Unequal, e.message()).code("19"));
                }
                result => return result,
            }
        }
        Err(last)
    }

    /// Asks the master's URLs in order until one can be reached.
    fn read_master(&self, search: &Search<'_>) -> Result<Vec<Entry>> {
        let mut last = no_master();
        for url in &self.settings.master {
            match self.read(url, search) {
                Err(e) if e.kind() == Kind::Unreachable => last = e,
                answer => return answer,
            }
        }
        Err(last)
    }

    fn read(&self, url: &str, search: &Search<'_>) -> Result<Vec<Entry>> {
        let connection = self.connection(url);
        let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.search(&self.settings, search)
    }

    fn connection(&self, url: &str) -> Arc<Mutex<Connection>> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Mutex::new(Connection::new(url, self.tls.clone())));
        connections.entry(url.to_owned()).or_insert_with(new).clone()
    }
}

fn no_master() -> Error {
    Error::new(Kind::Config, "ldap: no URL of a master")
}

fn of_dn<'a>(dn: &'a str, attributes: &'a [&'a str]) -> Search<'a> {
    Search { base: dn, scope: Scope::Base, filter: "(objectClass=*)", attributes, most: 1 }
}

fn below<'a>(base: &'a str, filter: &'a str, attributes: &'a [&'a str], most: usize) -> Search<'a> {
    Search { base, scope: Scope::Subtree, filter, attributes, most }
}
