//! Mailboxes in the lab: made, written to and judged by `lab-mail`, which this tells where everything is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use lab_mail::golden::{Archive, Golden, Loaded, Picture};
use lab_mail::journal::Journal;
use lab_mail::oracle::{self, After, Before, Ldap, Report, Store};
use lab_mail::seed::{self, Seeded, Spec};
use lab_mail::writer::{self, Options, Targets, Writer};

use crate::{Host, Lab, SECRETS, directory};

/// What the mail writer is to do.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Addresses to deliver to, in turn.
    pub recipients: Vec<String>,
    /// Messages a second, over all recipients.
    pub rate: f64,
    /// End after this many messages, when given.
    pub count: Option<u64>,
    /// Bytes of a message, about.
    pub size: usize,
    /// The journal; lines are appended.
    pub journal: PathBuf,
    /// How long to go on with what is queued once told to stop.
    pub drain: Duration,
}

impl Lab {
    /// Makes the mailbox of an account that was added before.
    pub fn seed(&self, store: &str, spec: &Spec) -> Result<Seeded> {
        let host = self.host(store)?;
        seed::seed(&mut host.mysql()?, &host.zimbra_path(""), spec).with_context(|| format!("{store}: {}", spec.email))
    }

    /// Makes `count` more mailboxes in the group of the one that `spec` made, which share blobs with it.
    pub fn seed_neighbours(&self, store: &str, spec: &Spec, count: u32) -> Result<Vec<Seeded>> {
        let host = self.host(store)?;
        let made = seed::neighbours(&mut host.mysql()?, &host.zimbra_path(""), spec, count);
        made.with_context(|| format!("{store}: neighbours of {}", spec.email))
    }

    /// Adds `LOCAL@lab.test` with a golden mailbox, which Zimbra's own classes wrote, under its own number or another; gives
    /// what was unpacked as well, for comparison. One of each can be in a lab: the account's id is part of it.
    pub fn seed_golden(
        &self,
        archive: Archive,
        local: &str,
        store: &str,
        mailbox: Option<u32>,
    ) -> Result<(Golden, Loaded)> {
        let host = self.host(store)?;
        let told = || format!("{store}: {archive} as {local}@lab.test");
        let golden = Golden::unpack(archive, &self.dir().join("golden")).with_context(told)?;
        let attributes = golden.account(local, &host.fqdn).with_context(told)?;
        let mailbox = mailbox.unwrap_or(golden.manifest.mailbox);
        let home = host.zimbra_path("");
        let loaded = golden.load(&mut host.mysql()?, &home, mailbox, seed::group_of(mailbox)).with_context(told)?;
        let pairs: Vec<(&str, &str)> = attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.add_account(local, store, &pairs)?;
        Ok((golden, loaded))
    }

    /// What a store has of an account's mailbox, to be held against a golden one.
    pub fn picture(&self, store: &str, account_id: &str) -> Result<Picture> {
        let host = self.host(store)?;
        Picture::of_store(&mut host.mysql()?, &host.zimbra_path(""), account_id)
            .with_context(|| format!("{store}: mailbox of {account_id}"))
    }

    /// Starts a mail writer in proxy1's network. Before each attempt it asks the directory for the store, as postfix does.
    pub fn start_writer(&self, mail: Mail, stop: Arc<AtomicBool>) -> Result<Writer> {
        let proxy = self.host("proxy1")?;
        let options = self.writer_options(mail);
        // The writer's threads are in the network of the thread that starts them.
        thread::scope(|scope| {
            let starter = scope.spawn(|| -> Result<Writer> {
                proxy.enter_network()?;
                Ok(Writer::start(options, stop)?)
            });
            starter.join().expect("the thread does not panic")
        })
        .context("mail writer")
    }

    /// What [`Lab::start_writer`] gives the writer.
    pub fn writer_options(&self, mail: Mail) -> Options {
        Options {
            rcpts: mail.recipients,
            rate: mail.rate,
            count: mail.count,
            size: mail.size,
            run: writer::fresh_run(),
            targets: self.targets(),
            journal: mail.journal,
            drain: mail.drain,
        }
    }

    fn targets(&self) -> Targets {
        let hosts = self.hosts().to_vec();
        // A directory that does not answer leaves the message in the queue.
        Box::new(move |recipient| target(&hosts, recipient).map_or_else(|_| Vec::new(), |address| vec![address]))
    }

    /// The attributes of all accounts, by `zimbraId`.
    pub fn account_attributes(&self) -> Result<Ldap> {
        let accounts = self.ldap_get("(objectClass=zimbraAccount)")?.into_iter();
        let by_id = accounts.map(|entry| {
            let id = entry.value("zimbraId").with_context(|| format!("{}: no zimbraId", entry.dn))?;
            Ok((id.to_owned(), entry.attributes))
        });
        by_id.collect()
    }

    /// Captures an account whose mailbox is on `source`, and all around it on both stores, before a move. Other accounts
    /// that move at the same time are in `moving`, by `zimbraId`.
    pub fn before(&self, account_id: &str, source: &str, dest: &str, moving: &[String]) -> Result<Before> {
        let ldap = self.account_attributes()?;
        self.with_stores(source, dest, |source, dest| Before::take(account_id, source, dest, &ldap, moving))
    }

    /// Judges a move from `source` to `dest` that ended well. `journal` is that of the mail writer since, if one ran;
    /// `items_changed` says that something else changed items since.
    pub fn check_moved(
        &self,
        before: &Before,
        source: &str,
        dest: &str,
        journal: Option<&Journal>,
        items_changed: bool,
    ) -> Result<Report> {
        let after = After { ldap: &self.account_attributes()?, journal, items_changed };
        self.with_stores(source, dest, |source, dest| oracle::check_moved(before, source, dest, &after))
    }

    /// Judges a move from `source` to `dest` that was undone. Arguments as in [`Lab::check_moved`].
    pub fn check_rolled_back(
        &self,
        before: &Before,
        source: &str,
        dest: &str,
        journal: Option<&Journal>,
        items_changed: bool,
    ) -> Result<Report> {
        let after = After { ldap: &self.account_attributes()?, journal, items_changed };
        self.with_stores(source, dest, |source, dest| oracle::check_rolled_back(before, source, dest, &after))
    }

    /// Looks for the lab's secrets in files and below directories, outside paths.
    pub fn check_no_secrets(&self, paths: &[PathBuf]) -> Result<Report> {
        let secrets =
            SECRETS.iter().map(|name| Ok(((*name).to_owned(), self.secret(name)?))).collect::<Result<Vec<_>>>()?;
        Ok(oracle::no_secrets(paths, &secrets)?)
    }

    fn with_stores<T>(
        &self,
        source: &str,
        dest: &str,
        ask: impl FnOnce(&mut Store<'_>, &mut Store<'_>) -> lab_mail::Result<T>,
    ) -> Result<T> {
        let (from, to) = (self.host(source)?, self.host(dest)?);
        let (mut from_mysql, mut to_mysql) = (from.mysql()?, to.mysql()?);
        let (from_home, to_home) = (from.zimbra_path(""), to.zimbra_path(""));
        let (from_temp, to_temp) = (temporary(from), temporary(to));
        let mut source = Store { name: &from.fqdn, conn: &mut from_mysql, home: &from_home, temp: &from_temp };
        let mut dest = Store { name: &to.fqdn, conn: &mut to_mysql, home: &to_home, temp: &to_temp };
        Ok(ask(&mut source, &mut dest)?)
    }
}

/// Where a store keeps temporary files, as seen outside.
fn temporary(host: &Host) -> [PathBuf; 2] {
    [host.dir.join("tmp"), host.zimbra_path("data/tmp")]
}

/// The address that the directory's `zimbraMailTransport` of a recipient means.
fn target(hosts: &[Host], recipient: &str) -> Result<String> {
    let of = |name: &str| hosts.iter().find(|host| host.name == name || host.fqdn == name);
    let slapd: &Path = &of("ldap1").context("ldap1: not a host of the lab")?.dir;
    let mut ldap = directory::connect(slapd)?;
    let filter = format!("(mail={})", ldap3::ldap_escape(recipient));
    let found = directory::get(&mut ldap, &filter)?;
    let transport = found.first().and_then(|entry| entry.value("zimbraMailTransport"));
    let transport = transport.with_context(|| format!("{recipient}: no zimbraMailTransport"))?;
    let (name, port) = transport
        .strip_prefix("lmtp:")
        .and_then(|rest| rest.split_once(':'))
        .with_context(|| format!("{recipient}: zimbraMailTransport {transport}"))?;
    let host = of(name).with_context(|| format!("{name}: not a host of the lab"))?;
    Ok(format!("{}:{port}", host.ip))
}
