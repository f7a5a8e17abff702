//! A lab of real servers: two mail stores, a directory, a proxy and an operator's host, each a tree of processes with its
//! own network, mounts and name. What each host has is in README.md.
//!
//! ```no_run
//! let lab = zlm_lab::Lab::boot("/var/tmp/zlm-lab")?;
//! let id = lab.add_account("ann", "store1", &[("zimbraMailAlias", "anna@lab.test")])?;
//! let before = lab.fingerprint()?;
//! let out = lab.host("store2")?.command("zimbra", &["ssh", "-V"]).output()?;
//! assert_eq!(lab.fingerprint()?.differences_from(&before), Vec::<String>::new());
//! lab.down()?;
//! # Ok::<(), anyhow::Error>(())
//! ```

mod boot;
mod certificate;
mod contest;
mod directory;
mod fingerprint;
mod host;
mod kept;
mod layout;
mod localconfig;
mod mail;
mod mariadb;
mod memcached;
mod network;
mod operator;
mod process;
mod scratch;
mod secret;
mod service;
mod shared;
mod ssh;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use contest::{Contest, End};
pub use directory::{Entry, account_dn};
pub use fingerprint::Fingerprint;
pub use host::Host;
pub use lab_mail;
pub use layout::{HOSTS, STORES, ZIMBRA_ID};
pub use mail::Mail;
pub use mariadb::{CREATE_DATABASE, UTF8MB4_GROUP, create_group, groups};
pub use memcached::Memcached;
pub use operator::{DEST, Deliveries, Ended, LOG, Operator, SOURCE, Seat, THIRD, assert_clean, operations};
pub use process::poll;
pub use scratch::ScratchLab;
pub use secret::SECRETS;
pub use service::Service;
pub use shared::{SharedLabs, Turn};

/// A lab, up or not. Dropping it leaves its hosts as they are.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    hosts: Vec<Host>,
}

impl Lab {
    /// Brings a lab up in `dir`, with everything running, or fails with the end of the log of what did not.
    ///
    /// A running lab is left as it is, one that is half dead is torn down first. Needs root, and `lab-mailboxd` next to
    /// the program (or above it, or named by `LAB_MAILBOXD`).
    pub fn boot(dir: impl AsRef<Path>) -> Result<Lab> {
        boot::up(Lab::at(dir.as_ref())?, true)
    }

    /// As [`Lab::boot`], but nothing stands in for mailboxd.
    pub fn boot_without_mailboxd(dir: impl AsRef<Path>) -> Result<Lab> {
        boot::up(Lab::at(dir.as_ref())?, false)
    }

    /// The lab that was brought up in `dir` before.
    pub fn open(dir: impl AsRef<Path>) -> Result<Lab> {
        let lab = Lab::at(dir.as_ref())?;
        ensure!(lab.dir.join("hosts").is_dir(), "{}: no lab was brought up here", lab.dir.display());
        Ok(lab)
    }

    fn at(dir: &Path) -> Result<Lab> {
        let dir = std::path::absolute(dir).with_context(|| dir.display().to_string())?;
        // The longest path of a socket must fit into 107 bytes.
        ensure!(dir.as_os_str().len() <= 60, "{}: too long for the sockets in it, 60 bytes at most", dir.display());
        let hosts = HOSTS.iter().map(|(name, ip)| Host::new(&dir, name, ip)).collect();
        Ok(Lab { dir, hosts })
    }

    /// Kills every host and removes all the lab had. A lab that is down already is no error.
    pub fn down(&self) -> Result<()> {
        boot::down(self)
    }

    /// The lab's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A host by its short name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        let host = self.hosts.iter().find(|host| host.name == name);
        host.with_context(|| format!("{name}: not a host of the lab"))
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// A password by its name, one of [`SECRETS`].
    pub fn secret(&self, name: &str) -> Result<String> {
        secret::read(&self.dir, name)
    }

    /// Where the lab's authority keeps its certificate, `ca.pem`.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca/ca.pem")
    }

    /// Kills every process of a host at once. What they had not given to the kernel is lost.
    pub fn power_cut(&self, host: &str) -> Result<()> {
        self.host(host)?.power_off()
    }

    /// Brings a host back that was cut off, with its services. mailboxd is started if the lab has one.
    pub fn boot_host(&self, host: &str) -> Result<()> {
        boot::host_again(self, self.host(host)?)
    }

    /// Starts a service and waits until it answers.
    pub fn start(&self, host: &str, service: Service) -> Result<()> {
        service::start(self.host(host)?, service)
    }

    /// Asks a service to end and waits for it.
    pub fn stop(&self, host: &str, service: Service) -> Result<()> {
        service::stop(self.host(host)?, service)
    }

    /// Ends a service as a crash would.
    pub fn kill(&self, host: &str, service: Service) -> Result<()> {
        service::kill(self.host(host)?, service)
    }

    /// Lets a service stand still, or go on: it has all that it had, and does nothing.
    pub fn stand_still(&self, host: &str, service: Service, still: bool) -> Result<()> {
        service::stand_still(self.host(host)?, service, still)
    }

    /// Ends the ssh sessions with a host at once, as they end when its network does; its server goes on.
    pub fn end_ssh_sessions(&self, host: &str) -> Result<()> {
        service::end_ssh_sessions(self.host(host)?)
    }

    /// Whether a service answers now.
    pub fn answers(&self, host: &str, service: Service) -> Result<bool> {
        Ok(service::answers(self.host(host)?, service))
    }

    /// Adds the account `LOCAL@lab.test` whose mailbox is to be on `store` (`store1`), and gives its `zimbraId`.
    ///
    /// Without `attributes` it is active, in the default class of service, with the password `account_password`. Values in
    /// `attributes` stand in place of the default ones of the same attribute, an empty one leaves the attribute out, several
    /// of one name are all set. An alias becomes a value of `mail` as well. No mailbox is made.
    pub fn add_account(&self, local: &str, store: &str, attributes: &[(&str, &str)]) -> Result<String> {
        self.host(store)?;
        let password = self.secret("account_password")?;
        directory::add_account(&mut self.ldap()?, local, store, &password, attributes)
    }

    /// Replaces all values of each attribute of an entry; an attribute without values is removed.
    pub fn ldap_modify(&self, dn: &str, changes: &[(&str, &[&str])]) -> Result<()> {
        directory::modify(&mut self.ldap()?, dn, changes)
    }

    /// The entries that match a filter, which starts with `(`, or the one of a distinguished name.
    pub fn ldap_get(&self, name_or_filter: &str) -> Result<Vec<Entry>> {
        directory::get(&mut self.ldap()?, name_or_filter)
    }

    /// A connection to the directory that may do everything.
    pub fn ldap(&self) -> Result<ldap3::LdapConn> {
        directory::connect(&self.host("ldap1")?.dir)
    }

    /// What the lab holds now, for comparison with what it holds later.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        Fingerprint::take(self)
    }
}
