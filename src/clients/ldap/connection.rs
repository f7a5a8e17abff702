//! One connection to one directory server, made when needed and again when it broke.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{LdapConn, LdapConnSettings, LdapError, LdapResult, Mod, Scope, SearchEntry, SearchOptions};
use rustls::ClientConfig;

use crate::clients::tls;
use crate::config::LdapSettings;
use crate::error::{Error, Kind, Result};
use crate::zimbra::entry::Entry;

/// Entries of one page.
const PAGE: i32 = 500;
/// More entries than this are more than anybody asked for.
const MAX_ENTRIES: usize = 100_000;

const NO_SUCH_OBJECT: u32 = 32;

/// A search: where, what, and which attributes.
pub(super) struct Search<'a> {
    pub base: &'a str,
    pub scope: Scope,
    pub filter: &'a str,
    pub attributes: &'a [&'a str],
    /// Fails when there are more entries than this.
    pub most: usize,
}

impl Search<'_> {
    pub const EVERYTHING: usize = MAX_ENTRIES;
}

/// How a server is reached, and the connection if there is one.
pub(super) struct Connection {
    url: String,
    tls: Option<Arc<ClientConfig>>,
    open: Option<LdapConn>,
}

/// Why a call failed.
enum Failure {
    /// The connection is of no use any more; the request may or may not have been seen.
    Broken(LdapError),
    /// The server answered.
    Answered(Error),
    /// There is no connection.
    NotConnected(Error),
}

impl Connection {
    pub fn new(url: &str, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { url: url.to_owned(), tls, open: None }
    }

    /// Searches, on a new connection when the old one turns out to be broken.
    pub fn search(&mut self, settings: &LdapSettings, search: &Search<'_>) -> Result<Vec<Entry>> {
        let had = self.open.is_some();
        let mut result = self.try_search(settings, search);
        if had && matches!(result, Err(Failure::Broken(_))) {
            log::debug!("{}: the connection broke, connecting again", self.url);
            result = self.try_search(settings, search);
        }
        let what = || format!("{}: searching {} below '{}'", self.url, search.filter, search.base);
        result.map_err(|failure| match failure {
            Failure::Broken(e) => Error::new(Kind::Unreachable, what()).because(e).retryable(),
            Failure::Answered(e) | Failure::NotConnected(e) => e,
        })
    }

    /// Changes an entry, once: a connection that breaks gives an error with the code `ambiguous`.
    pub fn modify(&mut self, settings: &LdapSettings, dn: &str, changes: Vec<Mod<String>>) -> Result<()> {
        let what = format!("{}: changing {dn}", self.url);
        let connection = match self.connect(settings) {
            Ok(connection) => connection,
            Err(Failure::Broken(e)) => return Err(Error::new(Kind::Unreachable, what).because(e).retryable()),
            Err(Failure::Answered(e) | Failure::NotConnected(e)) => return Err(e),
        };
        match connection.with_timeout(settings.timeout).modify(dn, changes) {
            Ok(result) if result.rc == 0 => Ok(()),
            Ok(result) => Err(answered(what, &result)),
            Err(e) => {
                self.open = None;
                Err(Error::new(Kind::Unreachable, what).because(e).code("ambiguous"))
            }
        }
    }

    fn try_search(&mut self, settings: &LdapSettings, search: &Search<'_>) -> Result<Vec<Entry>, Failure> {
        let url = self.url.clone();
        let connection = self.connect(settings)?;
        let result = run(connection, settings, search, &url);
        if matches!(result, Err(Failure::Broken(_))) {
            self.open = None;
        }
        result
    }

    fn connect(&mut self, settings: &LdapSettings) -> Result<&mut LdapConn, Failure> {
        if self.open.as_mut().is_some_and(LdapConn::is_closed) {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(self.bind(settings)?);
        }
        Ok(self.open.as_mut().expect("was opened above"))
    }

    fn bind(&self, settings: &LdapSettings) -> Result<LdapConn, Failure> {
        let refuse = |why: &str| Error::new(Kind::Config, format!("{}: {why}", self.url));
        // A bind with an empty name or password succeeds as nobody.
        if settings.bind_dn.is_empty() || settings.password.expose().is_empty() {
            return Err(Failure::NotConnected(refuse("ldap.bind_dn or the password is empty")));
        }
        let mut how = LdapConnSettings::new().set_conn_timeout(settings.connect_timeout);
        let encrypted = match self.scheme_and_host() {
            ("ldaps", Some(_)) => true,
            ("ldap", Some(_)) => settings.start_tls,
            ("ldapi", _) => false,
            _ => return Err(Failure::NotConnected(refuse("is no URL such as ldap://HOST:389"))),
        };
        if encrypted {
            let missing = || Failure::NotConnected(refuse("ldap.ca or ldap.pin must be set for TLS"));
            how = how.set_config(self.tls.clone().ok_or_else(missing)?).set_starttls(self.url.starts_with("ldap:"));
        } else if self.url.starts_with("ldap:") && !is_this_host(&self.url) {
            let e = refuse("the password is not sent without TLS to another host");
            return Err(Failure::NotConnected(e.hint("set ldap.start_tls = true, or use ldaps://")));
        }
        let mut connection = LdapConn::with_settings(how, &self.url).map_err(|e| self.not_connected(e))?;
        let bound =
            connection.with_timeout(settings.timeout).simple_bind(&settings.bind_dn, settings.password.expose());
        let bound = bound.map_err(|e| self.not_connected(e))?;
        if bound.rc != 0 {
            let e = answered(format!("{}: binding as {}", self.url, settings.bind_dn), &bound);
            return Err(Failure::NotConnected(e.hint("check ldap.bind_dn and the password")));
        }
        Ok(connection)
    }

    fn scheme_and_host(&self) -> (&str, Option<&str>) {
        let (scheme, rest) = self.url.split_once("://").unwrap_or_default();
        (scheme, rest.split(['/', ':', '?']).next().filter(|host| !host.is_empty()))
    }

    fn not_connected(&self, error: LdapError) -> Failure {
        if let Some((advice, tls)) = tls::refusal(&error) {
            let message = format!("{}: refused to trust the server: {tls}", self.url);
            return Failure::NotConnected(Error::new(Kind::Denied, message).hint(advice));
        }
        if let LdapError::LdapResult { result } = &error {
            return Failure::NotConnected(answered(format!("{}: starting TLS", self.url), result));
        }
        let kind = if matches!(error, LdapError::UrlParsing { .. }) { Kind::Config } else { Kind::Unreachable };
        let e = Error::new(kind, format!("{}: connecting", self.url)).because(error);
        Failure::NotConnected(if kind == Kind::Unreachable { e.retryable() } else { e })
    }
}

fn run(
    connection: &mut LdapConn,
    settings: &LdapSettings,
    search: &Search<'_>,
    url: &str,
) -> Result<Vec<Entry>, Failure> {
    let what = || format!("{url}: searching {} below '{}'", search.filter, search.base);
    let options = SearchOptions::new().timelimit(i32::try_from(settings.timeout.as_secs()).unwrap_or(i32::MAX));
    let attributes = search.attributes.to_vec();
    let adapters: Vec<Box<dyn Adapter<_, _>>> = match search.scope {
        Scope::Base => vec![Box::new(EntriesOnly::new())],
        _ => vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))],
    };
    connection.with_search_options(options).with_timeout(settings.timeout);
    // The library's own timeout starts again at each entry.
    let deadline = Instant::now() + settings.timeout * 10;
    let stream = connection.streaming_search_with(adapters, search.base, search.scope, search.filter, attributes);
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(LdapError::FilterParsing) => {
            return Err(Failure::Answered(Error::new(Kind::Usage, format!("{}: the filter is wrong", what()))));
        }
        Err(e) => return Err(Failure::Broken(e)),
    };
    let mut entries = Vec::new();
    while let Some(found) = stream.next().map_err(Failure::Broken)? {
        if entries.len() == search.most {
            let e = Error::new(Kind::Data, format!("{}: more than {} entries", what(), search.most));
            drop(stream.result());
            return Err(Failure::Answered(e));
        }
        if Instant::now() > deadline {
            return Err(Failure::Broken(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        }
        entries.push(entry(SearchEntry::construct(found)));
    }
    match stream.result() {
        result if result.rc == 0 => Ok(entries),
        // The base is not there: nothing was found.
        result if result.rc == NO_SUCH_OBJECT => Ok(Vec::new()),
        result => Err(Failure::Answered(answered(what(), &result))),
    }
}

/// Values that are no text are left out: nothing here asks for one.
fn entry(found: SearchEntry) -> Entry {
    let mut entry = Entry::new(found.dn);
    for (name, values) in found.attrs {
        for value in values {
            entry.add(&name, value);
        }
    }
    entry
}

/// A result that is no success, as an error with the result's number as its code.
fn answered(what: String, result: &LdapResult) -> Error {
    let (kind, word) = match result.rc {
        3 => (Kind::Unreachable, "time limit exceeded"),
        4 => (Kind::Data, "size limit exceeded"),
        8 | 13 => (Kind::Denied, "stronger authentication required"),
        10 => (Kind::Refused, "a replica refers to its master"),
        16 => (Kind::Unequal, "no such value"),
        20 => (Kind::Unequal, "value is there already"),
        19 => (Kind::Data, "constraint violation"),
        NO_SUCH_OBJECT => (Kind::NotFound, "no such entry"),
        49 => (Kind::Denied, "wrong name or password"),
        50 => (Kind::Denied, "no right to"),
        51 => (Kind::Peer, "busy"),
        52 => (Kind::Peer, "unavailable"),
        _ => (Kind::Peer, "refused"),
    };
    let text: String = result.text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let separator = if text.is_empty() { "" } else { ": " };
    let error = Error::new(kind, format!("{what}: {word} (ldap result {}){separator}{text}", result.rc))
        .code(result.rc.to_string());
    match result.rc {
        3 | 51 | 52 => error.retryable(),
        10 => error.hint("set ldap.master_url to the master's URL"),
        _ => error,
    }
}

/// Whether every address of a URL's host belongs to this host. An address that a socket can be bound to does.
fn is_this_host(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host_port = if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        authority.to_owned()
    } else {
        format!("{authority}:389")
    };
    let own = |ip: IpAddr| ip.is_loopback() || (!ip.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok());
    match host_port.to_socket_addrs() {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.collect();
            !addresses.is_empty() && addresses.iter().all(|address| own(address.ip()))
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_and_others() {
        assert!(is_this_host("ldap://127.0.0.1:389"));
        assert!(is_this_host("ldap://localhost/"));
        for other in ["ldap://192.0.2.1:389", "ldap://0.0.0.0", "ldap:/x", "", "ldap://does-not-exist.invalid"] {
            assert!(!is_this_host(other), "{other}");
        }
    }
}
