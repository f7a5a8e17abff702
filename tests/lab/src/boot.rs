//! Bringing a lab up and down.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::layout::{STORES, write_zimbra_file};
use crate::service::{self, Service};
use crate::{Lab, certificate, directory, layout, localconfig, mariadb, network, secret, ssh};

/// A lab has this file once it was complete.
const COMPLETE: &str = "complete";

/// Brings a lab up unless it is.
pub(crate) fn up(lab: Lab, mailboxd: bool) -> Result<Lab> {
    let _lock = lock(&lab)?;
    if mailboxd {
        // Better known now than after everything else is up.
        service::mailboxd_program()?;
    }
    if !is_running(&lab) {
        clear(&lab)?;
        if let Err(error) = build(&lab) {
            // The logs stay, the processes do not.
            lab.hosts().iter().try_for_each(Host::power_off)?;
            return Err(error);
        }
        File::create(lab.dir().join(COMPLETE))?;
    }
    if mailboxd {
        in_parallel(STORES.map(|store| || lab.start(store, Service::Mailboxd)))?;
    }
    Ok(lab)
}

/// Kills all hosts and removes what they had.
pub(crate) fn down(lab: &Lab) -> Result<()> {
    if !lab.dir().exists() {
        return Ok(());
    }
    let _lock = lock(lab)?;
    clear(lab)
}

/// Brings one host back, with what it ran.
pub(crate) fn host_again(lab: &Lab, host: &Host) -> Result<()> {
    let _lock = lock(lab)?;
    ensure!(lab.dir().join(COMPLETE).exists(), "{}: no complete lab", lab.dir().display());
    if !host.is_up() {
        host.power_on()?;
        if host.name == "switch" {
            network::make_bridge(host)?;
            let others = lab.hosts().iter().filter(|other| other.name != host.name && other.is_up());
            others.into_iter().try_for_each(|other| network::plug(host, other))?;
        } else {
            network::plug(lab.host("switch")?, host)?;
        }
    }
    let services = Service::of_host(host.name).iter().filter(|service| wanted(lab, **service));
    services.into_iter().try_for_each(|service| service::start(host, *service))
}

/// Whether a host that comes back starts the service: mailboxd only in a lab that has had it.
fn wanted(lab: &Lab, service: Service) -> bool {
    let had_mailboxd =
        || STORES.iter().any(|store| lab.dir().join("hosts").join(store).join("log/mailboxd.log").exists());
    service != Service::Mailboxd || had_mailboxd()
}

/// One at a time may bring a lab up or down. The lock's file is also what tells a lab's directory from any other.
fn lock(lab: &Lab) -> Result<File> {
    let dir = lab.dir();
    let path = dir.join("lock");
    if !path.exists() {
        let empty = !dir.exists() || fs::read_dir(dir)?.next().is_none();
        ensure!(empty, "{}: not empty, and not a lab", dir.display());
        fs::create_dir_all(dir)?;
        ensure!(fs::metadata(dir)?.uid() == 0, "{}: not root's", dir.display());
    }
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    file.lock().with_context(|| path.display().to_string())?;
    Ok(file)
}

/// Ends what runs and empties the directory, but for the lock.
fn clear(lab: &Lab) -> Result<()> {
    lab.hosts().iter().try_for_each(Host::power_off)?;
    for entry in fs::read_dir(lab.dir())? {
        let entry = entry?;
        if entry.file_name() == "lock" {
            continue;
        }
        let path = entry.path();
        let removed = if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn is_running(lab: &Lab) -> bool {
    let answer = |host: &Host| {
        let mut services = Service::of_host(host.name).iter().filter(|service| **service != Service::Mailboxd);
        host.is_up() && services.all(|service| service::answers(host, *service))
    };
    lab.dir().join(COMPLETE).exists() && lab.hosts().iter().all(answer)
}

fn build(lab: &Lab) -> Result<()> {
    secret::make(lab.dir())?;
    lab.hosts().iter().try_for_each(layout::provision)?;
    let authority = lab.dir().join("ca");
    let servers = ["ldap1", "store1", "store2"].map(|name| (name, layout::fqdn(name)));
    let switch = lab.host("switch")?;
    thread::scope(|scope| {
        let certificates = scope.spawn(|| certificate::make(&authority, &servers));
        power_on_all(lab, switch)?;
        let stores: Vec<_> = STORES.iter().map(|store| scope.spawn(|| build_store(lab, store))).collect();
        ssh::make_keys(&lab.hosts().iter().filter(|host| host.name != "switch").collect::<Vec<_>>())?;
        for name in ["store1", "store2", "proxy1"] {
            lab.start(name, Service::Sshd)?;
            lab.start(name, Service::Memcached)?;
        }
        let directory = lab.host("ldap1")?;
        directory::install(directory, |name| lab.secret(name))?;
        certificates.join().expect("the thread does not panic")?;
        install_certificates(lab)?;
        lab.start("ldap1", Service::Slapd)?;
        add_administrator(lab)?;
        stores.into_iter().try_for_each(|store| store.join().expect("the thread does not panic"))
    })
}

fn power_on_all(lab: &Lab, switch: &Host) -> Result<()> {
    in_parallel(lab.hosts().iter().map(|host| || host.power_on()))?;
    network::make_bridge(switch)?;
    let others = lab.hosts().iter().filter(|host| host.name != "switch");
    others.into_iter().try_for_each(|host| network::plug(switch, host))
}

fn build_store(lab: &Lab, name: &str) -> Result<()> {
    let store = lab.host(name)?;
    let password = lab.secret(&format!("{name}.zimbra_mysql_password"))?;
    let localconfig = localconfig::of_store(store, &lab.secret("zimbra_ldap_password")?, &password);
    write_zimbra_file(store, "conf/localconfig.xml", 0o640, localconfig)?;
    mariadb::install(store)?;
    lab.start(name, Service::Mariadb)?;
    mariadb::create_databases(store, &password)
}

fn install_certificates(lab: &Lab) -> Result<()> {
    let authority = lab.dir().join("ca");
    for host in lab.hosts().iter().filter(|host| host.name != "switch") {
        write_zimbra_file(host, "conf/ca/ca.pem", 0o644, fs::read(authority.join("ca.pem"))?)?;
    }
    directory::install_certificate(lab.host("ldap1")?, &authority)?;
    for name in STORES {
        let store = lab.host(name)?;
        write_zimbra_file(store, "conf/mailboxd.pem", 0o644, fs::read(authority.join(format!("{name}.pem")))?)?;
        write_zimbra_file(store, "conf/mailboxd.key", 0o600, fs::read(authority.join(format!("{name}.key")))?)?;
    }
    Ok(())
}

fn add_administrator(lab: &Lab) -> Result<()> {
    let password = lab.secret("admin_password")?;
    lab.add_account("admin", "store1", &[("zimbraIsAdminAccount", "TRUE"), ("userPassword", &password)]).map(drop)
}

/// Does all at the same time; the first error is given when all have ended.
fn in_parallel<F: FnOnce() -> Result<()> + Send>(tasks: impl IntoIterator<Item = F>) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = tasks.into_iter().map(|task| scope.spawn(task)).collect();
        let ends: Vec<Result<()>> =
            threads.into_iter().map(|thread| thread.join().expect("the thread does not panic")).collect();
        ends.into_iter().collect()
    })
}
