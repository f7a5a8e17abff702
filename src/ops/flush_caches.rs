//! Making servers forget what they know of one account. One request a server, each looked at: the request's own
//! way of reaching all servers only logs what fails.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::flow::wait;
use super::peers::is_among;
use crate::clients::memcached::Memcached;
use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Watch};
use crate::parallel;
use crate::run::Run;
use crate::site::Site;
use crate::zimbra::account::Account;
use crate::zimbra::ids::{Host, ZimbraId};
use crate::zimbra::route::{mailboxd_keys, route_keys};

/// How many folders' keys are deleted from memcached: the system folders and the user's, by their numbers.
const FOLDERS: std::ops::RangeInclusive<u32> = 1..=20;

/// How long a mailboxd that is not the account's home is asked behind the switch while nobody listens there.
///
/// A process that ended has nothing cached, and one that starts reads the directory, which has the new home by then. It is
/// asked for a while all the same: one that is stopped closes its ports some seconds before it forgets, and one that starts may
/// read a replica that lags. What it would know then is an account in maintenance, which the next flush or a quarter of an
/// hour ends; so the user, who waits meanwhile, waits no longer for it.
const STARTING: Duration = Duration::from_secs(15);

/// Flushes on every server named, all at once. Fails with the first error, naming every server that failed.
pub fn all(run: &Run, account: &Arc<Account>, stores: &[String], memcached: &[String]) -> Result<()> {
    let gate = &run.gate;
    let mailboxds = stores.iter().map(|host| Ok((host.parse()?, Cache::Mailboxd)));
    let memcacheds = gate.insist(|| memcacheds(&run.site, memcached))?.into_iter();
    let flushes = mailboxds
        .chain(memcacheds.map(|(host, port)| Ok((host, Cache::Memcached(port)))))
        .map(|flush: Result<(Host, Cache)>| {
            let (host, cache) = flush?;
            let is_left_out = run.leaves_out(host.as_str(), cache.is_mailboxd());
            let (site, account) = (run.site.clone(), account.clone());
            Ok(Flush { site, account, host, cache, is_left_out, refused: OnceLock::new() })
        })
        .collect::<Result<Vec<_>>>()?;
    // A plan must come out in the order the script names the servers in.
    let jobs = if gate.is_dry() { 1 } else { flushes.len() };
    let mut failed: Vec<(Host, Error)> = gate
        .unordered(|| parallel::all(jobs, flushes, |flush| (flush.host.clone(), flush.pass(run))))
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

/// Lets every mailboxd forget an account on the way back, but for those left out, each asked a few times. Gives what is to
/// be told of those that were not reached. Where nobody listens nothing is cached.
///
/// Fails only when the servers are not known, and when a stop is asked for.
pub(super) fn accounts(site: &Site, id: &ZimbraId, without: &[String]) -> Result<Vec<String>> {
    let stores: Vec<Host> = site.servers()?.iter().filter(|s| s.is_store()).map(|s| s.host.clone()).collect();
    let told = parallel::all(stores.len(), stores, |host| match is_among(without, &host) {
        true => Ok(None),
        false => untold(site, &host, id),
    });
    told.into_iter().filter_map(Result::transpose).collect()
}

/// Flushes on a store; gives what is to be told where that does not go.
fn untold(site: &Site, host: &Host, id: &ZimbraId) -> Result<Option<String>> {
    let mut pauses = [1.0, 2.0].into_iter();
    loop {
        match flush_store(site, host, id) {
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == Kind::Cancelled => return Err(error),
            Err(error) if error.is_connection_refused() => return Ok(None),
            Err(error) => match pauses.next() {
                Some(pause) => wait(site.cancel(), pause)?,
                None => {
                    let text = format!(
                        "mailboxd of {host} is not told that the account is as it was: {error}; what it has cached of it ends within 15 minutes"
                    );
                    return Ok(Some(text));
                }
            },
        }
    }
}

/// Flushes one account on one server.
pub struct Flush {
    site: Arc<Site>,
    account: Arc<Account>,
    host: Host,
    cache: Cache,
    /// Whether it is told nothing, since it does not answer.
    is_left_out: bool,
    /// Since when nobody listens there.
    refused: OnceLock<Instant>,
}

/// Who forgets it.
#[derive(Clone, Copy)]
pub(super) enum Cache {
    Mailboxd,
    /// On this port.
    Memcached(u16),
}

impl Cache {
    pub(super) fn is_mailboxd(self) -> bool {
        matches!(self, Cache::Mailboxd)
    }

    /// That of a host, in words.
    pub(super) fn of(self, host: &Host) -> String {
        format!("{} of {host}", self.word())
    }

    /// Its name.
    pub(super) fn word(self) -> &'static str {
        if self.is_mailboxd() { "mailboxd" } else { "memcached" }
    }
}

impl Operation for Flush {
    type Output = ();

    fn name(&self) -> &'static str {
        "flush_caches"
    }

    fn describe(&self) -> String {
        format!("{} forgets account {}", self.cache.of(&self.host), self.account.address)
    }

    fn outcome(&self, (): &()) -> String {
        if self.is_left_out { "left out" } else { "done" }.to_owned()
    }

    fn details(&self) -> Result<Vec<String>> {
        if self.is_left_out {
            return Ok(vec!["left out".to_owned()]);
        }
        match self.cache {
            Cache::Mailboxd => Ok(vec![format!("FlushCacheRequest type=account id={}", self.account.id)]),
            Cache::Memcached(_) => Ok(self.keys()?.iter().map(|key| format!("delete {key}")).collect()),
        }
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<()> {
        if self.is_left_out {
            return Ok(());
        }
        if let Cache::Memcached(port) = self.cache {
            return self.flush_memcached(port);
        }
        match flush_store(&self.site, &self.host, &self.account.id) {
            Err(error) if watch.is_past_switch() && error.is_connection_refused() && self.has_ended()? => {
                watch.warn(format!("{error}: mailboxd of {} does not run, and has nothing to forget", self.host));
                Ok(())
            }
            flushed => flushed,
        }
    }
}

/// Every key of memcached that names an account.
pub(super) fn keys(site: &Site, account: &Account) -> Result<Vec<String>> {
    let facts = site.directory()?.route_facts(account)?;
    let mut keys = route_keys(&facts);
    keys.extend(mailboxd_keys(&account.id, &FOLDERS.collect::<Vec<_>>()));
    Ok(keys)
}

impl Flush {
    fn pass(&self, run: &Run) -> Result<()> {
        run.gate.pass(self)?;
        run.note_told(self.cache.of(&self.host), self.cache.is_mailboxd());
        Ok(())
    }

    /// Whether nobody has listened there for so long that its process has ended. The account's home must be told whatever
    /// it takes: it opens the mailbox.
    fn has_ended(&self) -> Result<bool> {
        let since = self.refused.get_or_init(Instant::now);
        Ok(since.elapsed() >= STARTING && self.site.account(&self.account.id)?.mail_host.as_ref() != Some(&self.host))
    }

    fn keys(&self) -> Result<Vec<String>> {
        keys(&self.site, &self.account)
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
        wait(site.cancel(), pause)?;
        admin.flush_account(host, &server.id, id)?;
    }
    Err(Error::new(
        Kind::Unequal,
        format!("{host}: still knows an older host or status of account {id} after it was flushed"),
    )
    .hint("does the directory's replica that this store reads lag behind?")
    .retryable())
}
