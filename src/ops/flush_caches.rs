//! Making servers forget what they know of one account. One request a server, each looked at: the request's own
//! way of reaching all servers only logs what fails.

use std::sync::Arc;

use super::flow::spread;
use crate::clients::memcached::Memcached;
use crate::error::{Error, Kind, Result};
use crate::gate::{Gate, Operation, Watch};
use crate::site::Site;
use crate::zimbra::account::Account;
use crate::zimbra::ids::{Host, ZimbraId};
use crate::zimbra::route::{mailboxd_keys, route_keys};

/// How many folders' keys are deleted from memcached: the system folders and the user's, by their numbers.
const FOLDERS: std::ops::RangeInclusive<u32> = 1..=20;

/// Flushes on every server named, all at once. Fails with the first error, naming every server that failed.
pub fn all(
    gate: &Gate,
    site: &Arc<Site>,
    account: &Arc<Account>,
    stores: &[String],
    memcached: &[String],
) -> Result<()> {
    let mailboxds = stores.iter().map(|host| Ok((host.parse()?, Cache::Mailboxd)));
    let memcacheds = memcacheds(site, memcached)?.into_iter().map(|(host, port)| Ok((host, Cache::Memcached(port))));
    let flushes = mailboxds
        .chain(memcacheds)
        .map(|cache| cache.map(|(host, cache)| Flush { site: site.clone(), account: account.clone(), host, cache }))
        .collect::<Result<Vec<_>>>()?;
    // A plan must come out in the order the script names the servers in.
    let jobs = if gate.is_dry() { 1 } else { flushes.len() };
    let mut failed: Vec<(Host, Error)> = gate
        .unordered(|| spread(jobs, flushes, |flush| (flush.host.clone(), gate.pass(&flush))))
        .into_iter()
        .filter_map(|(host, result)| result.err().map(|error| (host, error)))
        .collect();
    if failed.len() <= 1 {
        return failed.pop().map_or(Ok(()), |(_, error)| Err(error));
    }
    if let Some(at) = failed.iter().position(|(_, error)| error.is_lost()) {
        return Err(failed.swap_remove(at).1);
    }
    let names: Vec<_> = failed.iter().map(|(host, _)| host.to_string()).collect();
    let (_, first) = failed.swap_remove(0);
    let retryable = first.is_retryable();
    let error = Error::new(first.kind(), format!("account {}: flushing on {}", account.address, names.join(", ")))
        .because(first);
    Err(if retryable { error.retryable() } else { error })
}

/// The memcacheds of these servers, and with them all others that mailboxds are told to use.
pub(super) fn memcacheds(site: &Site, named: &[String]) -> Result<Vec<(Host, u16)>> {
    let mut found = Vec::new();
    for host in named {
        let host = host.parse()?;
        let port = site.server(&host)?.memcached_port();
        found.push((host, port));
    }
    if !named.is_empty() {
        for server in site.servers()?.iter().filter(|server| server.is_store()) {
            let own = server.memcached_clients();
            let is_new = |cache: &(Host, u16)| {
                let same = |known: &(Host, u16)| known.0.as_str().eq_ignore_ascii_case(cache.0.as_str());
                !found.iter().any(|known| same(known) && known.1 == cache.1)
            };
            let new: Vec<_> = own.into_iter().filter(is_new).collect();
            found.extend(new);
        }
    }
    Ok(found)
}

/// Lets every mailboxd forget an account; for undoing, where each is tried and the first failure told.
pub(super) fn accounts(site: &Site, id: &ZimbraId) -> Result<()> {
    let stores: Vec<Host> = site.servers()?.iter().filter(|s| s.is_store()).map(|s| s.host.clone()).collect();
    let results = spread(stores.len(), stores, |host| flush_store(site, &host, id));
    results.into_iter().collect()
}

/// Flushes one account on one server.
pub struct Flush {
    site: Arc<Site>,
    account: Arc<Account>,
    host: Host,
    cache: Cache,
}

/// Who forgets it.
#[derive(Clone, Copy)]
enum Cache {
    Mailboxd,
    /// On this port.
    Memcached(u16),
}

impl Operation for Flush {
    type Output = ();

    fn name(&self) -> &'static str {
        "flush_caches"
    }

    fn describe(&self) -> String {
        let what = if matches!(self.cache, Cache::Mailboxd) { "mailboxd" } else { "memcached" };
        format!("{what} of {} forgets account {}", self.host, self.account.address)
    }

    fn details(&self) -> Result<Vec<String>> {
        match self.cache {
            Cache::Mailboxd => Ok(vec![format!("FlushCacheRequest type=account id={}", self.account.id)]),
            Cache::Memcached(_) => Ok(self.keys()?.iter().map(|key| format!("delete {key}")).collect()),
        }
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<()> {
        match self.cache {
            Cache::Mailboxd => flush_store(&self.site, &self.host, &self.account.id),
            Cache::Memcached(port) => self.flush_memcached(port),
        }
    }
}

impl Flush {
    fn keys(&self) -> Result<Vec<String>> {
        let facts = self.site.directory()?.route_facts(&self.account)?;
        let mut keys = route_keys(&facts);
        keys.extend(mailboxd_keys(&self.account.id, &FOLDERS.collect::<Vec<_>>()));
        Ok(keys)
    }

    fn flush_memcached(&self, port: u16) -> Result<()> {
        let keys = self.keys()?;
        let mut memcached = Memcached::connect(&self.host, port, self.site.config().timeout())?;
        memcached.delete(&keys).map(drop)
    }
}

/// Flushes an account on a store, and sees that the store then knows what the directory says.
fn flush_store(site: &Site, host: &Host, id: &ZimbraId) -> Result<()> {
    let server = site.server(host)?;
    let admin = site.admin()?;
    admin.flush_account(host, &server.id, id)?;
    let wanted = ["zimbraMailHost", "zimbraAccountStatus"];
    // A store reads a replica of the directory, which may lag behind the master: flush again until it shows.
    for pause in [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2] {
        let now = site.account(id)?;
        let seen = admin.get_account(host, id, &wanted, Some(&server.id))?;
        if wanted.iter().all(|name| seen.get(name) == now.entry.get(name)) {
            return Ok(());
        }
        super::flow::wait(site.cancel(), pause)?;
        admin.flush_account(host, &server.id, id)?;
    }
    Err(Error::new(
        Kind::Unequal,
        format!("{host}: still knows an older host or status of account {id} after it was flushed"),
    )
    .hint("does the directory's replica that this store reads lag behind?")
    .retryable())
}
