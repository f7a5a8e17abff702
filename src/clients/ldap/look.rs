//! Accounts, servers, domains and classes of service.

use super::{Directory, Entry, Server, escape};
use crate::error::Result;
use crate::zimbra::account::Account;
use crate::zimbra::ids::{Address, Host, ZimbraId};
use crate::zimbra::route::RouteFacts;

const ACCOUNTS: &str = "(|(objectClass=zimbraAccount)(objectClass=zimbraCalendarResource))";
const SERVERS: &str = "cn=servers,cn=zimbra";

/// What a server inherits from the global configuration, of what is asked here.
const INHERITED: &[&str] =
    &["zimbraMemcachedBindPort", "zimbraLmtpBindPort", "zimbraAdminPort", "zimbraMemcachedClientServerList"];

impl Directory {
    /// The account or calendar resource that an address names, by its primary address or an alias. Fails with
    /// [`Kind::Data`](crate::error::Kind::Data) when more than one claims it.
    pub fn account(&self, address: &Address) -> Result<Option<Account>> {
        let address = escape(address.as_str());
        let names = format!("(|(zimbraMailDeliveryAddress={address})(zimbraMailAlias={address})(mail={address}))");
        let found = self.search_one("", &format!("(&{ACCOUNTS}{names})"), &[])?;
        found.map(Account::from_entry).transpose()
    }

    /// The account or calendar resource of an id.
    pub fn account_by_id(&self, id: &ZimbraId) -> Result<Option<Account>> {
        let found = self.search_one("", &format!("(&{ACCOUNTS}(zimbraId={}))", escape(id.as_str())), &[])?;
        found.map(Account::from_entry).transpose()
    }

    /// The accounts and calendar resources that live on a store.
    pub fn accounts_on(&self, host: &Host) -> Result<Vec<Account>> {
        let found = self.search("", &format!("(&{ACCOUNTS}(zimbraMailHost={}))", escape(host.as_str())), &[])?;
        found.into_iter().map(Account::from_entry).collect()
    }

    /// The servers that have a service enabled, or all, with the ports they inherit.
    pub fn servers(&self, service: Option<&str>) -> Result<Vec<Server>> {
        let filter = match service {
            Some(service) => format!("(&(objectClass=zimbraServer)(zimbraServiceEnabled={}))", escape(service)),
            None => "(objectClass=zimbraServer)".to_owned(),
        };
        self.inherit(self.search(SERVERS, &filter, &[])?)
    }

    /// A server by its `zimbraServiceHostname`.
    pub fn server(&self, host: &Host) -> Result<Option<Server>> {
        let filter = format!("(&(objectClass=zimbraServer)(zimbraServiceHostname={}))", escape(host.as_str()));
        let found = self.search_one(SERVERS, &filter, &[])?;
        Ok(self.inherit(found.into_iter().collect())?.pop())
    }

    fn inherit(&self, servers: Vec<Entry>) -> Result<Vec<Server>> {
        if servers.is_empty() {
            return Ok(Vec::new());
        }
        let global = self.get("cn=config,cn=zimbra", INHERITED)?.unwrap_or_default();
        let inherited = |mut server: Entry| {
            for name in INHERITED {
                if server.get(name).is_none() {
                    global.all(name).iter().for_each(|value| server.add(name, value));
                }
            }
            Server::from_entry(server)
        };
        servers.into_iter().map(inherited).collect()
    }

    /// A domain by its name.
    pub fn domain(&self, name: &str) -> Result<Option<Entry>> {
        self.search_one("", &format!("(&(objectClass=zimbraDomain)(zimbraDomainName={}))", escape(name)), &[])
    }

    /// The names of the domains that are aliases of a domain.
    pub fn alias_domains(&self, domain: &ZimbraId) -> Result<Vec<String>> {
        let filter = format!(
            "(&(objectClass=zimbraDomain)(zimbraDomainType=alias)(zimbraDomainAliasTargetId={}))",
            escape(domain.as_str())
        );
        let found = self.search("", &filter, &["zimbraDomainName"])?;
        Ok(found.iter().filter_map(|domain| domain.get("zimbraDomainName")).map(str::to_owned).collect())
    }

    /// The class of service of an id.
    pub fn cos(&self, id: &ZimbraId) -> Result<Option<Entry>> {
        self.search_one("", &format!("(&(objectClass=zimbraCOS)(zimbraId={}))", escape(id.as_str())), &[])
    }

    /// What an account's routes are made of. An address may be in a domain that the directory does not know: such a domain
    /// has no virtual hosts, and no aliases.
    pub fn route_facts(&self, account: &Account) -> Result<RouteFacts> {
        let Some(domain) = self.domain(account.domain())? else { return Ok(RouteFacts::new(account)) };
        Ok(RouteFacts {
            virtual_ips: domain.all("zimbraVirtualIPAddress").to_vec(),
            virtual_hosts: domain.all("zimbraVirtualHostname").to_vec(),
            alias_domains: self.alias_domains(&domain.required("zimbraId")?.parse()?)?,
            ..RouteFacts::new(account)
        })
    }
}
