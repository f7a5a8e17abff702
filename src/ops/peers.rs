//! The servers that must be told where a mailbox is: every mailboxd, and every memcached. Behind the switch there is no way
//! back from one that does not answer, so each is asked before anybody is frozen.

use std::time::Duration;

use super::flush_caches::{self, Cache};
use super::look::Survey;
use crate::clients::memcached::Memcached;
use crate::error::{Error, Kind, Result};
use crate::parallel;
use crate::run::Subject;
use crate::site::Site;
use crate::zimbra::ids::{Host, ZimbraId};
use crate::zimbra::server::Server;

/// Nobody who is well takes longer to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A service that must be told.
struct Peer {
    host: Host,
    /// Its server's entry; a memcached may be named by mailboxds alone.
    server: Option<Server>,
    cache: Cache,
}

impl Peer {
    /// Where the directory names it.
    fn named(&self) -> &'static str {
        match (self.cache, self.server.as_ref().map(Server::version)) {
            (Cache::Mailboxd, Some(Some(_))) => "take `service` out of its zimbraServiceEnabled",
            (Cache::Mailboxd, _) => "take `mailbox` out of its zimbraServiceEnabled",
            (Cache::Memcached(_), Some(_)) => "take `memcached` out of its zimbraServiceEnabled",
            (Cache::Memcached(_), None) => "take it out of zimbraMemcachedClientServerList",
        }
    }

    /// Asks it for what a flush asks it for: the account, or its version.
    fn answer(&self, site: &Site, account: &ZimbraId) -> Result<()> {
        match (self.cache, &self.server) {
            (Cache::Mailboxd, Some(server)) => site.admin()?.probe(&self.host, &server.id, account, LIMIT),
            (Cache::Mailboxd, None) => site.server(&self.host).map(drop),
            (Cache::Memcached(port), _) => {
                let limit = LIMIT.min(site.config().timeout());
                Memcached::connect(&self.host, port, limit)?.version().map(drop)
            }
        }
    }

    /// Whether it may be left out: the mailboxd of the mailbox's own two stores may not.
    fn is_left_out(&self, without: &[String], ends: &[&str]) -> bool {
        is_among(without, &self.host) && !self.is_end(ends)
    }

    /// Whether it is the mailboxd of one of the mailbox's own two stores.
    fn is_end(&self, ends: &[&str]) -> bool {
        self.cache.is_mailboxd() && ends.iter().any(|end| is(&self.host, end))
    }
}

/// Asks every mailboxd and memcached at once, and says of each that does not answer, or is left out and does, what is to be
/// done. Gives whether the destination's mailboxd answers.
///
/// Fails with [`Kind::Denied`] and [`Kind::Config`] where it is zlm that is not let in.
pub(super) fn ask(site: &Site, survey: &mut Survey, without: &[String]) -> Result<bool> {
    let (source, dest) = (survey.source.clone(), survey.dest.clone());
    let ends = [source.as_str(), dest.as_str()];
    let peers = peers(site)?;
    for host in without {
        let own: Vec<&Peer> = peers.iter().filter(|peer| is(&peer.host, host)).collect();
        if !own.iter().any(|peer| peer.is_left_out(without, &ends)) {
            let why = match own.is_empty() {
                true => "the directory knows no server of that name that is told of a move",
                false => "its mailboxd must know of the move",
            };
            survey.problems.push(format!("--without {host}: {why}"));
        }
    }
    let mut is_there = true;
    for (peer, answer) in answers(site, &survey.account.id, &source, peers) {
        let (service, host) = (peer.cache.word(), &peer.host);
        match (peer.is_left_out(without, &ends), answer) {
            (false, Ok(())) => {}
            (true, Ok(())) => survey.problems.push(answers_all_the_same(&peer)),
            (true, Err(error)) => survey.warnings.push(format!(
                "{service} of {host} is left out, and is not told: {error}; what it has cached of the account is old for a while"
            )),
            (false, Err(error)) if matches!(error.kind(), Kind::Denied | Kind::Config) => return Err(error),
            (false, Err(error)) => {
                is_there &= !(peer.cache.is_mailboxd() && is(host, dest.as_str()));
                survey.problems.push(silent(&peer, &error, peer.is_end(&ends)));
            }
        }
    }
    // What the keys are made of must be there as well.
    if let Err(error) = flush_caches::keys(site, &survey.account) {
        survey.problems.push(format!("what memcached is told to forget cannot be known: {error}"));
    }
    Ok(is_there)
}

/// Fails with [`Kind::Refused`] when one of the servers that a run shall leave out from now on may not be, or answers.
pub fn refuse_to_leave_out(site: &Site, subject: &Subject, without: &[String]) -> Result<()> {
    let (ends, account) = ([subject.source.as_str(), subject.dest.as_str()], subject.account_id.parse()?);
    let peers: Vec<Peer> = peers(site)?.into_iter().filter(|peer| peer.is_left_out(without, &ends)).collect();
    if let Some(host) = without.iter().find(|host| !peers.iter().any(|peer| is(&peer.host, host))) {
        let message = format!("--without {host}: no such server is told of this move, or its mailboxd must know of it");
        return Err(Error::new(Kind::Refused, message));
    }
    match parallel::all(peers.len(), peers, |peer| (peer.answer(site, &account), peer))
        .iter()
        .find(|(answer, _)| answer.is_ok())
    {
        Some((_, peer)) => Err(Error::new(Kind::Refused, answers_all_the_same(peer))),
        None => Ok(()),
    }
}

/// Whether a host is one of several, in whatever case they were typed.
pub(super) fn is_among(hosts: &[String], host: &Host) -> bool {
    hosts.iter().any(|other| is(host, other))
}

fn is(host: &Host, name: &str) -> bool {
    host.as_str().eq_ignore_ascii_case(name)
}

fn peers(site: &Site) -> Result<Vec<Peer>> {
    let servers = site.servers()?;
    let is_store = |server: &&Server| server.is_store() || server.runs("mailbox");
    let mailboxd =
        |server: &Server| Peer { host: server.host.clone(), server: Some(server.clone()), cache: Cache::Mailboxd };
    let mut peers: Vec<Peer> = servers.iter().filter(is_store).map(mailboxd).collect();
    let memcached = servers.iter().filter(|server| server.runs("memcached")).map(|server| server.host.to_string());
    for (host, port) in flush_caches::memcacheds(site, &memcached.collect::<Vec<_>>())? {
        let server = servers.iter().find(|server| is(&server.host, host.as_str())).cloned();
        peers.push(Peer { host, server, cache: Cache::Memcached(port) });
    }
    Ok(peers)
}

/// What all say, in their order. The account's home is asked first: it also lets zlm in, and whoever had to wait for another
/// one's silence would seem to be silent as well.
fn answers(site: &Site, account: &ZimbraId, home: &Host, peers: Vec<Peer>) -> Vec<(Peer, Result<()>)> {
    let is_home = |peer: &Peer| peer.cache.is_mailboxd() && is(&peer.host, home.as_str());
    let (first, others): (Vec<Peer>, Vec<Peer>) = peers.into_iter().partition(is_home);
    let ask = |peer: Peer| {
        let answer = peer.answer(site, account);
        (peer, answer)
    };
    let mut answers: Vec<_> = first.into_iter().map(ask).collect();
    answers.extend(parallel::all(others.len(), others, ask));
    answers
}

fn silent(peer: &Peer, error: &Error, is_end: bool) -> String {
    let (service, host, named) = (peer.cache.word(), &peer.host, peer.named());
    match is_end {
        true => format!("{service} of {host} does not answer: {error}: start it first"),
        false => {
            format!("{service} of {host} does not answer: {error}: {named}, or leave it out with --without {host}")
        }
    }
}

fn answers_all_the_same(peer: &Peer) -> String {
    let (service, host) = (peer.cache.word(), &peer.host);
    format!(
        "--without {host}: {service} answers there, and must be told; only a server that does not answer is left out"
    )
}
