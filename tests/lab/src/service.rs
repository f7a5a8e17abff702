//! The servers that run on hosts: started in the foreground, known by a pid file, ready when they answer.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use mysql::prelude::Queryable;

use crate::directory;
use crate::host::Host;
use crate::memcached::Memcached;
use crate::process::{output, poll, tail};

/// How long a server has to come up, and to end.
const LIMIT: Duration = Duration::from_secs(30);

/// A server of the lab.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// MariaDB of a store.
    Mariadb,
    /// The ssh server.
    Sshd,
    /// memcached.
    Memcached,
    /// The directory.
    Slapd,
    /// The stand-in for mailboxd.
    Mailboxd,
}

impl Service {
    /// The servers of a host, in the order they are started.
    pub fn of_host(host: &str) -> &'static [Service] {
        match host {
            "ldap1" => &[Service::Slapd],
            "store1" | "store2" => &[Service::Mariadb, Service::Sshd, Service::Memcached, Service::Mailboxd],
            "proxy1" => &[Service::Memcached, Service::Sshd],
            _ => &[],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Service::Mariadb => "mariadb",
            Service::Sshd => "sshd",
            Service::Memcached => "memcached",
            Service::Slapd => "slapd",
            Service::Mailboxd => "mailboxd",
        }
    }

    /// The name of the process.
    fn process(self) -> &'static str {
        match self {
            Service::Mariadb => "mariadbd",
            Service::Mailboxd => "lab-mailboxd",
            other => other.name(),
        }
    }

    fn user(self) -> &'static str {
        match self {
            Service::Sshd | Service::Slapd => "root",
            Service::Mariadb | Service::Memcached | Service::Mailboxd => "zimbra",
        }
    }

    fn arguments(self, host: &Host) -> Result<Vec<String>> {
        let words: &[&str] = match self {
            Service::Mariadb => &["/usr/sbin/mariadbd", "--defaults-file=/opt/zimbra/conf/my.cnf"],
            Service::Sshd => &["/usr/sbin/sshd", "-D", "-e", "-f", "/opt/lab/etc/sshd_config"],
            Service::Memcached => &["/usr/bin/memcached", "-l", "0.0.0.0", "-p", "11211", "-m", "64"],
            Service::Slapd => &[
                "/usr/sbin/slapd",
                "-d",
                "stats",
                "-f",
                "/opt/lab/etc/slapd.conf",
                "-u",
                "zimbra",
                "-g",
                "zimbra",
                "-h",
                "ldap://0.0.0.0:389/ ldapi://%2Frun%2Fldapi",
            ],
            Service::Mailboxd => {
                let program = host.install(&mailboxd_program()?)?;
                return Ok([
                    &program,
                    "--host",
                    &host.fqdn,
                    "--zimbra-home",
                    "/opt/zimbra",
                    "--ldap",
                    "ldap://ldap1.lab.test",
                    "--ca",
                    "/opt/zimbra/conf/ca/ca.pem",
                    "--cert",
                    "/opt/zimbra/conf/mailboxd.pem",
                    "--key",
                    "/opt/zimbra/conf/mailboxd.key",
                    "--control",
                    "/run/mailboxd.sock",
                    "--log",
                    "/opt/zimbra/log/mailbox.log",
                ]
                .map(str::to_owned)
                .to_vec());
            }
        };
        Ok(words.iter().map(|word| (*word).to_owned()).collect())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        [Service::Mariadb, Service::Sshd, Service::Memcached, Service::Slapd, Service::Mailboxd]
            .into_iter()
            .find(|service| service.name() == text)
            .ok_or_else(|| anyhow!("{text}: not one of mariadb, sshd, memcached, slapd, mailboxd"))
    }
}

/// The mailboxd to run: `LAB_MAILBOXD`, or `lab-mailboxd` next to this program (or above it, for a test's program).
pub(crate) fn mailboxd_program() -> Result<PathBuf> {
    let program = match std::env::var_os("LAB_MAILBOXD") {
        Some(path) => PathBuf::from(path),
        None => {
            let own = std::env::current_exe()?;
            let places = own.ancestors().skip(1).take(2).map(|dir| dir.join("lab-mailboxd"));
            places.into_iter().find(|path| path.exists()).with_context(|| {
                format!("lab-mailboxd: not next to {}; build it, or say where it is in LAB_MAILBOXD", own.display())
            })?
        }
    };
    program.canonicalize().with_context(|| program.display().to_string())
}

/// Starts a server and waits until it answers. One that already answers is left as it is.
pub(crate) fn start(host: &Host, service: Service) -> Result<()> {
    ensure!(host.is_up(), "{}: is down", host.name);
    ensure!(Service::of_host(host.name).contains(&service), "{}: has no {service}", host.name);
    if answers(host, service) {
        return Ok(());
    }
    // What a test has a server find in its environment.
    let environment = format!("/opt/lab/etc/{service}.env");
    let script = format!(
        "[ ! -e {environment} ] || . {environment}; echo $$ > /run/{service}.pid; exec \"$@\" >> /opt/lab/log/{service}.log 2>&1"
    );
    let arguments = service.arguments(host)?;
    let mut words = vec!["setsid", "--fork", "bash", "-c", &script, service.name()];
    words.extend(arguments.iter().map(String::as_str));
    let _ = fs::remove_file(pid_file(host, service));
    output(host.command(service.user(), &words).stdin(Stdio::null()))?;
    let ready = poll(LIMIT, || {
        if answers(host, service) {
            return Ok(Some(()));
        }
        if written_pid(host, service).is_some_and(|number| has_ended(host, number)) {
            bail!("{}: {service} ended; {}", host.name, tail(&log(host, service)));
        }
        Ok(None)
    })?;
    ready.ok_or_else(|| anyhow!("{}: {service} does not answer; {}", host.name, tail(&log(host, service))))
}

/// Kills the processes of ssh sessions, each of which is named as the server is.
pub(crate) fn end_ssh_sessions(host: &Host) -> Result<()> {
    let script = "server=$(cat /run/sshd.pid)
         for dir in /proc/[0-9]*; do
             if [ \"$(cat $dir/comm 2>/dev/null)\" = sshd ] && [ \"${dir#/proc/}\" != \"$server\" ]; then
                 kill -KILL \"${dir#/proc/}\" 2>/dev/null
             fi
         done; true";
    output(&mut host.command("root", &["bash", "-c", script])).map(drop)
}

/// Asks a server to end and waits for it. Nothing is done when it does not run.
pub(crate) fn stop(host: &Host, service: Service) -> Result<()> {
    end(host, service, "TERM")
}

/// Ends a server at once, as a crash would.
pub(crate) fn kill(host: &Host, service: Service) -> Result<()> {
    end(host, service, "KILL")
}

/// Lets a server stand still, or go on.
pub(crate) fn stand_still(host: &Host, service: Service, still: bool) -> Result<()> {
    let number = pid(host, service).with_context(|| format!("{}: {service} does not run", host.name))?;
    signal(host, number, if still { "STOP" } else { "CONT" })
}

fn signal(host: &Host, number: u32, signal: &str) -> Result<()> {
    let words = ["bash", "-c", "kill -s \"$1\" \"$2\"", "kill", signal, &number.to_string()];
    output(&mut host.command("root", &words)).map(drop)
}

fn end(host: &Host, service: Service, with: &str) -> Result<()> {
    let Some(number) = pid(host, service) else { return Ok(()) };
    signal(host, number, with)?;
    poll(LIMIT, || Ok(has_ended(host, number).then_some(())))?
        .with_context(|| format!("{}: {service} does not end; {}", host.name, tail(&log(host, service))))?;
    let _ = fs::remove_file(pid_file(host, service));
    Ok(())
}

/// Whether a server does what it is there for, right now.
pub(crate) fn answers(host: &Host, service: Service) -> bool {
    if pid(host, service).is_none() {
        return false;
    }
    let answer = match service {
        Service::Mariadb => host.mysql().and_then(|mut connection| Ok(connection.query_drop("SELECT 1")?)),
        Service::Sshd => greeting(host),
        Service::Memcached => Memcached::of(host).and_then(|mut memcached| memcached.version()).map(drop),
        Service::Slapd => directory::connect(&host.dir).and_then(|mut ldap| Ok(ldap.unbind()?)),
        Service::Mailboxd => host.mailboxd_control("ping").and_then(|answer| {
            ensure!(answer == "pong", "{answer}");
            Ok(())
        }),
    };
    answer.is_ok()
}

fn greeting(host: &Host) -> Result<()> {
    let mut start = [0; 4];
    host.connect("127.0.0.1:22")?.read_exact(&mut start)?;
    ensure!(&start == b"SSH-", "not an ssh server");
    Ok(())
}

/// The pid of a running server, as known inside the host.
fn pid(host: &Host, service: Service) -> Option<u32> {
    let number = written_pid(host, service)?;
    (process_name(host, number)? == service.process()).then_some(number)
}

/// Whether the process that is, or was to become, the server is gone, and its sockets with it. One that is just becoming
/// it is not, though its name and arguments cannot be read at that moment.
fn has_ended(host: &Host, number: u32) -> bool {
    let Some(outer) = host.pid() else { return true };
    let stat = format!("/proc/{}/root/proc/{number}/stat", outer.as_raw_nonzero());
    let Ok(stat) = fs::read_to_string(stat) else { return true };
    // What follows the name, which may hold anything: the state is the first field, the threads are the 18th.
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    // The first thread may have ended while others still hold what all share.
    matches!(fields.first(), Some(&("Z" | "X"))) && matches!(fields.get(17), Some(&("0" | "1")))
}

fn written_pid(host: &Host, service: Service) -> Option<u32> {
    fs::read_to_string(pid_file(host, service)).ok()?.trim().parse().ok()
}

/// The name of a process of the host, read from the host's own /proc. A dead one that nobody reaped yet has none.
fn process_name(host: &Host, number: u32) -> Option<String> {
    let outer = host.pid()?.as_raw_nonzero();
    let process = Path::new("/proc").join(outer.to_string()).join(format!("root/proc/{number}"));
    if fs::read(process.join("cmdline")).ok()?.is_empty() {
        return None;
    }
    Some(fs::read_to_string(process.join("comm")).ok()?.trim().to_owned())
}

fn pid_file(host: &Host, service: Service) -> PathBuf {
    host.dir.join(format!("run/{service}.pid"))
}

fn log(host: &Host, service: Service) -> PathBuf {
    host.dir.join(format!("log/{service}.log"))
}
