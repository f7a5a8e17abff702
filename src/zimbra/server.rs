//! Servers of the directory.

use crate::error::{Context, Kind, Result};
use crate::zimbra::entry::Entry;
use crate::zimbra::ids::{Host, ZimbraId};

const DEFAULT_MEMCACHED_PORT: u16 = 11211;

/// A server entry, with what it inherits from the global configuration where it was read with it.
#[derive(Clone, Debug)]
pub struct Server {
    /// `zimbraId`: the `targetServer` of a SOAP request.
    pub id: ZimbraId,
    /// `zimbraServiceHostname`: what `zimbraMailHost` names.
    pub host: Host,
    /// `zimbraServiceEnabled`: what runs there, unlike `zimbraServiceInstalled`.
    pub services: Vec<String>,
    /// Every attribute that was read.
    pub entry: Entry,
}

impl Server {
    /// Reads a server out of its entry; fails with [`Kind::Data`] when the entry is none.
    pub fn from_entry(entry: Entry) -> Result<Self> {
        let broken = || format!("{}: reading the server", entry.dn());
        Ok(Self {
            id: entry.required("zimbraId")?.parse().context(Kind::Data, broken)?,
            host: entry.required("zimbraServiceHostname")?.parse().context(Kind::Data, broken)?,
            services: entry.all("zimbraServiceEnabled").to_vec(),
            entry,
        })
    }

    /// `zimbraServiceHostname` as the directory has it, in upper and lower case.
    pub fn written_host(&self) -> &str {
        self.entry.get("zimbraServiceHostname").unwrap_or(self.host.as_str())
    }

    /// Whether `zimbraMailHost` can be set to it: Zimbra takes it for the server's own name, its `cn`, first.
    pub fn is_named_as_host(&self) -> bool {
        self.entry.get("cn").is_none_or(|name| name.eq_ignore_ascii_case(self.host.as_str()))
    }

    /// Whether a service is enabled there.
    pub fn runs(&self, service: &str) -> bool {
        self.services.iter().any(|s| s.eq_ignore_ascii_case(service))
    }

    /// Whether `zimbraMailHost` may name it: mailboxes live on servers with the mail client service, or, where
    /// no version is set, with `mailbox`.
    pub fn is_store(&self) -> bool {
        match self.version() {
            Some(_) => self.runs("service"),
            None => self.runs("mailbox"),
        }
    }

    /// `zimbraServerVersion`.
    pub fn version(&self) -> Option<&str> {
        self.entry.get("zimbraServerVersion")
    }

    /// The port of its memcached.
    pub fn memcached_port(&self) -> u16 {
        self.port("zimbraMemcachedBindPort", DEFAULT_MEMCACHED_PORT)
    }

    /// The memcacheds that its mailboxd uses by `zimbraMemcachedClientServerList`, each with its port.
    pub fn memcached_clients(&self) -> Vec<(Host, u16)> {
        let words = self.entry.all("zimbraMemcachedClientServerList").iter().flat_map(|list| list.split_whitespace());
        words
            .filter_map(|word| match word.rsplit_once(':') {
                Some((host, port)) => Some((host.parse().ok()?, port.parse().ok()?)),
                None => Some((word.parse().ok()?, DEFAULT_MEMCACHED_PORT)),
            })
            .collect()
    }

    /// The port of its LMTP.
    pub fn lmtp_port(&self) -> u16 {
        self.port("zimbraLmtpBindPort", 7025)
    }

    /// The port of its admin SOAP.
    pub fn admin_port(&self) -> u16 {
        self.port("zimbraAdminPort", 7071)
    }

    fn port(&self, attribute: &str, default: u16) -> u16 {
        self.entry.get(attribute).and_then(|port| port.parse().ok()).filter(|port| *port != 0).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enabled_counts_not_installed() {
        let mut entry = Entry::new("cn=store1.lab.test,cn=servers,cn=zimbra");
        entry.add("zimbraId", "4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b");
        entry.add("zimbraServiceHostname", "store1.lab.test");
        entry.add("zimbraServiceInstalled", "memcached");
        entry.add("zimbraServiceEnabled", "mailbox");
        entry.add("zimbraMemcachedBindPort", "11212");
        let server = Server::from_entry(entry.clone()).unwrap();
        assert!(server.is_store() && !server.runs("memcached"));
        assert_eq!((server.memcached_port(), server.lmtp_port()), (11212, 7025));
        for (name, same) in [("Store1.lab.test", true), ("mbs1.lab.test", false)] {
            let mut named = entry.clone();
            named.add("cn", name);
            assert_eq!(Server::from_entry(named).unwrap().is_named_as_host(), same, "{name}");
        }
        entry.add("zimbraServerVersion", "10.1.0");
        assert!(!Server::from_entry(entry).unwrap().is_store());
    }

    #[test]
    fn memcacheds_of_a_list() {
        let mut entry = Entry::new("cn=store1.lab.test,cn=servers,cn=zimbra");
        entry.add("zimbraId", "4c0f6a3e-1b2d-4e5f-8a9b-0c1d2e3f4a5b");
        entry.add("zimbraServiceHostname", "store1.lab.test");
        entry.add("zimbraMemcachedClientServerList", "proxy1.lab.test:11211");
        entry.add("zimbraMemcachedClientServerList", "cache.lab.test 10.0.0.7:11299");
        let found = Server::from_entry(entry).unwrap().memcached_clients();
        let found: Vec<String> = found.iter().map(|(host, port)| format!("{host} {port}")).collect();
        assert_eq!(found, ["proxy1.lab.test 11211", "cache.lab.test 11211", "10.0.0.7 11299"]);
    }
}
