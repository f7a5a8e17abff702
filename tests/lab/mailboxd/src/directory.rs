//! The directory, and what this server believes about it: entries are cached for a quarter of an hour,
//! so a change made elsewhere is not seen until it is flushed here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ldap3::{LdapConn, LdapConnSettings, LdapError, LdapResult, Mod, Scope, SearchEntry, ldap_escape};
use parking_lot::Mutex;

use crate::cache::Cache;
use crate::callback::{Change, How};
use crate::entry::Entry;
use crate::fault::{Fault, Outcome};
use crate::status;

const TIMEOUT: Duration = Duration::from_secs(15);
const NO_SUCH_OBJECT: u32 = 32;
const UNDEFINED_ATTRIBUTE: u32 = 17;
const INVALID_CREDENTIALS: u32 = 49;

/// How to reach the directory.
pub struct Address {
    /// Such as `ldap://ldap1.lab.test`.
    pub url: String,
    /// Whether to encrypt a plain connection.
    pub start_tls: bool,
    /// Whom to trust.
    pub tls: Arc<rustls::ClientConfig>,
    /// Who this server is to the directory.
    pub user: String,
    /// And how it proves that.
    pub password: String,
}

/// Reads through caches, writes past them.
pub struct Directory {
    address: Address,
    /// This server's own name in `zimbraMailHost`.
    pub host: String,
    connection: Mutex<Option<LdapConn>>,
    accounts: Cache<Entry>,
    domains: Cache<Entry>,
    servers: Cache<Vec<Entry>>,
    config: Cache<Entry>,
}

/// How an account is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Its zimbraId.
    Id,
    /// Its address, or an alias.
    Name,
}

impl Directory {
    /// A directory that was not asked yet. `max_age`: how long an entry is believed.
    pub fn new(address: Address, host: &str, max_age: Duration) -> Self {
        Self {
            address,
            host: host.into(),
            connection: Mutex::new(None),
            accounts: Cache::new(max_age),
            domains: Cache::new(max_age),
            servers: Cache::new(max_age),
            config: Cache::new(max_age),
        }
    }

    /// An account as this server believes it to be.
    ///
    /// # Errors
    /// `service.FAILURE` when it is not cached and the directory cannot be read.
    pub fn account(&self, by: By, value: &str) -> Outcome<Option<Arc<Entry>>> {
        let cached = match by {
            By::Id => self.accounts.get(&value.to_lowercase()),
            By::Name => self.accounts.find(|a| a.has_address(value)),
        };
        if cached.is_some() {
            return Ok(cached);
        }
        Ok(self.read_account(by, value)?.map(|found| self.accounts.put(&found.id().to_lowercase(), found)))
    }

    /// The same, where it must exist.
    ///
    /// # Errors
    /// `account.NO_SUCH_ACCOUNT`, or as [`Directory::account`].
    pub fn the_account(&self, by: By, value: &str) -> Outcome<Arc<Entry>> {
        self.account(by, value)?.ok_or_else(|| Fault::no_such_account(value))
    }

    /// An account as the directory has it now; the cache stays as it is.
    ///
    /// # Errors
    /// `service.FAILURE` when the directory cannot be read.
    pub fn read_account(&self, by: By, value: &str) -> Outcome<Option<Entry>> {
        let value = ldap_escape(value);
        let filter = match by {
            By::Id => format!("(&(objectClass=zimbraAccount)(zimbraId={value}))"),
            By::Name => format!(
                "(&(objectClass=zimbraAccount)(|(zimbraMailDeliveryAddress={value})(mail={value})(zimbraMailAlias={value})))"
            ),
        };
        let mut found = self.search("", Scope::Subtree, &filter)?;
        match found.len() {
            0 | 1 => Ok(found.pop()),
            n => Err(Fault::failure(format!("{n} accounts match {filter}"))),
        }
    }

    /// Reads an account again and believes that from now on.
    ///
    /// # Errors
    /// As [`Directory::the_account`].
    pub fn reload(&self, id: &str) -> Outcome<Arc<Entry>> {
        match self.read_account(By::Id, id)? {
            Some(found) => Ok(self.accounts.put(&id.to_lowercase(), found)),
            None => {
                self.accounts.drop(&id.to_lowercase());
                Err(Fault::no_such_account(id))
            }
        }
    }

    /// The user of the admin tree with this name, or an account with this address: who may log in to
    /// the admin service. Never from the cache.
    ///
    /// # Errors
    /// `service.FAILURE` when the directory cannot be read.
    pub fn administrator(&self, name: &str) -> Outcome<Option<Entry>> {
        if name.contains('@') {
            return self.read_account(By::Name, name);
        }
        let filter = format!("(uid={})", ldap_escape(name));
        Ok(self.search("cn=admins,cn=zimbra", Scope::Subtree, &filter)?.into_iter().next())
    }

    /// An administrator by what [`Entry::id`] said when he logged in.
    ///
    /// # Errors
    /// `service.FAILURE` when he is not cached and the directory cannot be read.
    pub fn administrator_by_id(&self, id: &str) -> Outcome<Option<Arc<Entry>>> {
        if !id.contains('=') {
            return self.account(By::Id, id);
        }
        if let Some(cached) = self.accounts.get(id) {
            return Ok(Some(cached));
        }
        let found = self.search(id, Scope::Base, "(objectClass=*)")?.into_iter().next();
        Ok(found.map(|entry| self.accounts.put(id, entry)))
    }

    /// Whether this is the password of that entry.
    ///
    /// # Errors
    /// `service.FAILURE` when the directory cannot be asked.
    pub fn check_password(&self, dn: &str, password: &str) -> Outcome<bool> {
        // A bind without a password succeeds as anonymous.
        if password.is_empty() {
            return Ok(false);
        }
        let mut connection = self.open()?;
        let bound = connection.with_timeout(TIMEOUT).simple_bind(dn, password)?;
        // The connection is not used again, so its end tells nothing.
        let _ = connection.unbind();
        match bound.rc {
            INVALID_CREDENTIALS => Ok(false),
            _ => Ok(bound.success().is_ok()),
        }
    }

    /// The status of an account in force, with its domain's.
    ///
    /// # Errors
    /// `service.FAILURE` when the domain is not cached and the directory cannot be read.
    pub fn status(&self, account: &Entry) -> Outcome<String> {
        let domain = account.address().rsplit_once('@').map(|(_, d)| d.to_lowercase());
        let domain = match &domain {
            Some(name) => self.domain(name)?,
            None => None,
        };
        Ok(status::in_force(account, domain.as_deref()).to_string())
    }

    /// A domain as this server believes it to be.
    ///
    /// # Errors
    /// As [`Directory::account`].
    pub fn domain(&self, name: &str) -> Outcome<Option<Arc<Entry>>> {
        if let Some(cached) = self.domains.get(name) {
            return Ok(Some(cached));
        }
        let filter = format!("(&(objectClass=zimbraDomain)(zimbraDomainName={}))", ldap_escape(name));
        let found = self.search("", Scope::Subtree, &filter)?.into_iter().next();
        Ok(found.map(|entry| self.domains.put(name, entry)))
    }

    /// All servers as this server believes them to be.
    ///
    /// # Errors
    /// As [`Directory::account`].
    pub fn servers(&self) -> Outcome<Arc<Vec<Entry>>> {
        if let Some(cached) = self.servers.get("") {
            return Ok(cached);
        }
        let found = self.search("cn=servers,cn=zimbra", Scope::OneLevel, "(objectClass=zimbraServer)")?;
        Ok(self.servers.put("", found))
    }

    /// A server for which `is` holds.
    ///
    /// # Errors
    /// As [`Directory::account`].
    pub fn server(&self, is: impl Fn(&Entry) -> bool) -> Outcome<Option<Entry>> {
        Ok(self.servers()?.iter().find(|s| is(s)).cloned())
    }

    /// A server by its own name, its `cn`.
    ///
    /// # Errors
    /// As [`Directory::account`].
    pub fn server_named(&self, name: &str) -> Outcome<Option<Entry>> {
        self.server(|s| s.get("cn").is_some_and(|cn| cn.eq_ignore_ascii_case(name)))
    }

    /// A server by its name in `zimbraMailHost`.
    ///
    /// # Errors
    /// As [`Directory::account`].
    pub fn server_of(&self, host: &str) -> Outcome<Option<Entry>> {
        self.server(|s| s.service_host().eq_ignore_ascii_case(host))
    }

    /// The global configuration.
    ///
    /// # Errors
    /// As [`Directory::account`].
    pub fn config(&self) -> Outcome<Arc<Entry>> {
        if let Some(cached) = self.config.get("") {
            return Ok(cached);
        }
        let found = self.search("cn=config,cn=zimbra", Scope::Base, "(objectClass=*)")?.into_iter().next();
        Ok(self.config.put("", found.unwrap_or_default()))
    }

    /// Whether an account's home is this server, as far as this server knows.
    pub fn is_local(&self, account: &Entry) -> bool {
        account.get("zimbraMailHost").is_some_and(|h| h.eq_ignore_ascii_case(&self.host))
    }

    /// Forgets an account, if it is known under this name.
    pub fn flush_account(&self, by: By, value: &str) {
        let id = match by {
            By::Id => Some(value.to_lowercase()),
            By::Name => self.accounts.find(|a| a.has_address(value)).map(|a| a.id().to_lowercase()),
        };
        if let Some(id) = id {
            self.accounts.drop(&id);
        }
    }

    /// Forgets all entries of a kind: `account`, `domain`, `server`, `config` or `all`.
    pub fn flush(&self, kind: &str) {
        let is = |name| kind == name || kind == "all";
        if is("account") {
            self.accounts.clear();
        }
        if is("domain") {
            self.domains.clear();
        }
        if is("server") {
            self.servers.clear();
        }
        if is("config") {
            self.config.clear();
        }
    }

    /// Changes an entry. The cache stays as it is.
    ///
    /// # Errors
    /// `account.INVALID_ATTR_NAME`, `account.NO_SUCH_ACCOUNT`, or `service.FAILURE`.
    pub fn modify(&self, dn: &str, changes: &[Change]) -> Outcome<()> {
        let mods: Vec<Mod<String>> = changes
            .iter()
            .map(|c| {
                let values: HashSet<String> = c.values.iter().cloned().collect();
                match c.how {
                    How::Set => Mod::Replace(c.name.clone(), values),
                    How::Add => Mod::Add(c.name.clone(), values),
                    How::Remove => Mod::Delete(c.name.clone(), values),
                }
            })
            .collect();
        let result = self.with_connection(|c| c.with_timeout(TIMEOUT).modify(dn, mods.clone()), false)?;
        match result.rc {
            0 => Ok(()),
            NO_SUCH_OBJECT => Err(Fault::no_such_account(dn)),
            UNDEFINED_ATTRIBUTE => Err(Fault::invalid_attr_name(result.text)),
            rc => Err(Fault::failure(format!("directory: cannot modify {dn}: {rc} {}", result.text))),
        }
    }

    /// Takes an address out of all distribution lists.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn leave_lists(&self, address: &str) -> Outcome<()> {
        let value = ldap_escape(address);
        let filter = format!("(&(objectClass=zimbraDistributionList)(zimbraMailForwardingAddress={value}))");
        for list in self.search("", Scope::Subtree, &filter)? {
            let change = Change { how: How::Remove, ..Change::set("zimbraMailForwardingAddress", address) };
            self.modify(&list.dn, &[change])?;
        }
        Ok(())
    }

    fn search(&self, base: &str, scope: Scope, filter: &str) -> Outcome<Vec<Entry>> {
        let found = self.with_connection(|c| c.with_timeout(TIMEOUT).search(base, scope, filter, vec!["*"]), true)?;
        let ldap3::SearchResult(entries, LdapResult { rc, text, .. }) = found;
        if rc != 0 && rc != NO_SUCH_OBJECT {
            return Err(Fault::failure(format!("directory: cannot search {filter}: {rc} {text}")));
        }
        let entries = entries.into_iter().map(SearchEntry::construct);
        Ok(entries.map(|e| Entry::new(&e.dn, e.attrs)).collect())
    }

    /// Does one thing with the kept connection. A connection that turns out dead is opened again, once,
    /// and only for what may be done twice.
    fn with_connection<T>(
        &self,
        mut act: impl FnMut(&mut LdapConn) -> Result<T, LdapError>,
        repeatable: bool,
    ) -> Outcome<T> {
        let mut kept = self.connection.lock();
        if kept.as_mut().is_some_and(LdapConn::is_closed) {
            *kept = None;
        }
        let fresh = kept.is_none();
        if fresh {
            *kept = Some(self.bound()?);
        }
        let connection = kept.as_mut().expect("it was just put there");
        match act(connection) {
            Ok(done) => Ok(done),
            Err(_) if repeatable && !fresh => {
                *kept = None;
                let mut again = self.bound()?;
                let done = act(&mut again)?;
                *kept = Some(again);
                Ok(done)
            }
            Err(e) => {
                *kept = None;
                Err(e.into())
            }
        }
    }

    fn bound(&self) -> Outcome<LdapConn> {
        let mut connection = self.open()?;
        connection
            .with_timeout(TIMEOUT)
            .simple_bind(&self.address.user, &self.address.password)?
            .success()
            .map_err(|e| Fault::failure(format!("directory: cannot bind: {e}")))?;
        Ok(connection)
    }

    fn open(&self) -> Outcome<LdapConn> {
        let settings = LdapConnSettings::new()
            .set_conn_timeout(TIMEOUT)
            .set_starttls(self.address.start_tls)
            .set_config(Arc::clone(&self.address.tls));
        Ok(LdapConn::with_settings(settings, &self.address.url)?)
    }
}
