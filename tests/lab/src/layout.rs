//! The hosts of a lab and the files each starts with.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::Host;

/// The uid and gid of `zimbra` in every host.
pub const ZIMBRA_ID: u32 = 7900;

/// Name and address of each host. The switch only holds the bridge.
pub const HOSTS: [(&str, &str); 6] = [
    ("switch", ""),
    ("ldap1", "10.77.0.10"),
    ("store1", "10.77.0.21"),
    ("store2", "10.77.0.22"),
    ("proxy1", "10.77.0.31"),
    ("ops1", "10.77.0.41"),
];

/// The two mail stores.
pub const STORES: [&str; 2] = ["store1", "store2"];

pub(crate) fn fqdn(name: &str) -> String {
    format!("{name}.lab.test")
}

/// Makes the directories and the files in `etc` of a new host.
pub(crate) fn provision(host: &Host) -> Result<()> {
    for dir in ["run", "log", "etc", "tmp", "zimbra"] {
        fs::create_dir_all(host.dir.join(dir))?;
    }
    give_to_zimbra(&host.dir.join("log"))?;
    // On a real store `/opt/zimbra` is root's, and only what is below it is zimbra's.
    fs::set_permissions(host.dir.join("zimbra"), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(host.dir.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let etc = host.dir.join("etc");
    fs::write(etc.join("init"), include_str!("etc/init"))?;
    fs::write(etc.join("passwd"), with_zimbra("/etc/passwd", ":*:7900:7900::/opt/zimbra:/bin/bash")?)?;
    fs::write(etc.join("group"), with_zimbra("/etc/group", ":x:7900:")?)?;
    fs::write(etc.join("hosts"), hosts_file())?;
    // Names are looked up here and nowhere else: a lab does not depend on what the real system asks.
    fs::write(etc.join("nsswitch.conf"), "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")?;
    for dir in zimbra_dirs(host.name) {
        make_zimbra_dir(host, dir)?;
    }
    Ok(())
}

/// A user or group file of the real system with the lab's `zimbra` in it. `*` is no password, but not a lock either.
fn with_zimbra(path: &str, entry: &str) -> Result<String> {
    let real = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let others = real.lines().filter(|line| !line.starts_with("zimbra:"));
    let mut text: String = others.map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("zimbra{entry}\n"));
    Ok(text)
}

fn hosts_file() -> String {
    let mut text = String::from("127.0.0.1 localhost\n");
    for (name, ip) in HOSTS.iter().filter(|(_, ip)| !ip.is_empty()) {
        text.push_str(&format!("{ip} {} {name}\n", fqdn(name)));
    }
    text
}

fn zimbra_dirs(host: &str) -> &'static [&'static str] {
    match host {
        "switch" => &[],
        "ldap1" => &[".ssh", "conf", "conf/ca", "data", "data/ldap", "log"],
        "store1" => &[
            ".ssh",
            "conf",
            "conf/ca",
            "data",
            "data/mysql",
            "data/tmp",
            "data/tmp/mysql",
            "db",
            "log",
            "mailboxd",
            "store",
            "index",
            "hsm",
        ],
        "store2" => &[
            ".ssh",
            "conf",
            "conf/ca",
            "data",
            "data/mysql",
            "data/tmp",
            "data/tmp/mysql",
            "db",
            "log",
            "mailboxd",
            "store",
            "index",
            "hsm2",
        ],
        _ => &[".ssh", "conf", "conf/ca", "log"],
    }
}

/// Makes a directory of `/opt/zimbra` that belongs to `zimbra`.
pub(crate) fn make_zimbra_dir(host: &Host, dir: &str) -> Result<()> {
    let path = host.zimbra_path(dir);
    fs::create_dir_all(&path)?;
    let mode = if dir == ".ssh" { 0o700 } else { 0o755 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    give_to_zimbra(&path)
}

/// Writes a file of `/opt/zimbra` that belongs to `zimbra`.
pub(crate) fn write_zimbra_file(host: &Host, relative: &str, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
    let path = host.zimbra_path(relative);
    fs::write(&path, content).with_context(|| path.display().to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    give_to_zimbra(&path)
}

/// Removes what an earlier life of the host left in `/run`: its pid files and sockets mean nothing any more.
pub(crate) fn empty_run_dir(host: &Host) -> Result<()> {
    let run = host.dir.join("run");
    fs::remove_dir_all(&run).with_context(|| run.display().to_string())?;
    fs::create_dir(&run)?;
    give_to_zimbra(&run)?;
    // sshd wants this one to belong to root.
    fs::create_dir(run.join("sshd"))?;
    Ok(())
}

fn give_to_zimbra(path: &Path) -> Result<()> {
    chown(path, Some(ZIMBRA_ID), Some(ZIMBRA_ID)).with_context(|| path.display().to_string())
}
