//! What happens around a run: servers that die, sessions and networks that end, disks that fill, requests that fail.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql::prelude::Queryable;
use zlm_lab::{Lab, Service};

use super::{DEST, SOURCE};

/// When a server that was killed is there again.
#[derive(Clone, Copy, Debug)]
pub enum Back {
    /// Before the run goes on: it meets one that forgot.
    Before,
    /// So many milliseconds after the run went on.
    Soon(u64),
    /// When the run has ended.
    End,
}

/// A disk.
#[derive(Clone, Copy, Debug)]
pub enum Disk {
    /// With the journal of runs, at the source.
    Journal,
    /// With blobs and index, at the destination.
    Blobs,
    /// With the destination's databases.
    Mariadb,
}

/// One thing that happens around a run.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The run stands still for a while.
    Nothing,
    /// A server dies.
    Kill { host: &'static str, service: Service, back: Back },
    /// Every ssh session with the destination ends so many milliseconds after the run went on.
    Sessions { after: u64 },
    /// Every ssh session with the destination ends once so many bytes more went through all of them, packets counted whole.
    /// The end that sends next is told; the other one may never hear of it.
    Torn { bytes: u64 },
    /// Nobody reaches a host for so many milliseconds.
    Cut { host: &'static str, ms: u64 },
    /// A disk is full until the run has ended.
    Full(Disk),
    /// One request to a mailboxd has this fate.
    Soap { host: &'static str, request: &'static str, fate: &'static str },
}

impl Trouble {
    /// Arranges before the run what it takes.
    pub fn prepare(&self, lab: &Lab) -> Result<()> {
        match self {
            // As if it died within a second of whatever it was told, always.
            Trouble::Kill { host: DEST, service: Service::Mariadb, .. } => {
                let mut root = lab.host(DEST)?.mysql()?;
                root.query_drop("SET GLOBAL innodb_flush_log_at_timeout = 2700")?;
                settle(&mut root)
            }
            Trouble::Full(Disk::Journal) => shell(
                lab,
                SOURCE,
                "mkdir -p -m 700 /var/lib/zlm; mountpoint -q /var/lib/zlm || mount -t tmpfs -o size=1m,mode=700 tmpfs /var/lib/zlm",
            ),
            // Inodes run out with less memory than bytes.
            Trouble::Full(Disk::Blobs) => shell(
                lab,
                DEST,
                "for dir in store index; do mountpoint -q /opt/zimbra/$dir ||
                 mount -t tmpfs -o size=600m,nr_inodes=2000,uid=7900,gid=7900,mode=755 tmpfs /opt/zimbra/$dir; done",
            ),
            Trouble::Full(Disk::Mariadb) => onto_small_disk(lab),
            _ => Ok(()),
        }
    }

    /// Lets it happen, while the run stands still. `open` says that the mailbox may have its new home.
    pub fn begin(&self, lab: &Lab, open: bool) -> Result<()> {
        match self {
            Trouble::Kill { host, service, back } => {
                if *service == Service::Mariadb && (open || *host != DEST) {
                    // What it accepted as mail must not be lost: that would be its own fault, not a move's.
                    let mut root = lab.host(host)?.mysql()?;
                    root.query_drop("SET GLOBAL innodb_flush_log_at_trx_commit = 1")?;
                    settle(&mut root)?;
                }
                lab.kill(host, *service)?;
                if *service == Service::Sshd {
                    lab.end_ssh_sessions(DEST)?;
                }
                if matches!(back, Back::Before) { again(lab, host, *service) } else { Ok(()) }
            }
            Trouble::Torn { bytes } => tear(lab, *bytes),
            Trouble::Cut { host, .. } => link(lab, host, "down"),
            Trouble::Full(Disk::Journal) => shell(lab, SOURCE, "cat /dev/zero > /var/lib/zlm/filler; true"),
            Trouble::Full(Disk::Blobs) => shell(
                lab,
                DEST,
                "for dir in store index; do i=0; while : > /opt/zimbra/$dir/filler.$i; do i=$((i + 1)); done; done 2>/dev/null; true",
            ),
            Trouble::Full(Disk::Mariadb) => shell(lab, DEST, "cat /dev/zero > /opt/zimbra/data/mysql/filler; true"),
            Trouble::Soap { host, request, fate } => tell(lab, host, &format!("fault {request}Request {fate} 1")),
            Trouble::Nothing | Trouble::Sessions { .. } => Ok(()),
        }
    }

    /// What happens once the run goes on.
    pub fn go_on(&self, lab: &Lab) -> Result<()> {
        match self {
            Trouble::Kill { host, service, back: Back::Soon(ms) } => {
                thread::sleep(Duration::from_millis(*ms));
                again(lab, host, *service)
            }
            Trouble::Cut { host, ms } => {
                thread::sleep(Duration::from_millis(*ms));
                link(lab, host, "up")
            }
            Trouble::Sessions { after } => {
                thread::sleep(Duration::from_millis(*after));
                lab.end_ssh_sessions(DEST)
            }
            _ => Ok(()),
        }
    }

    /// All is well again. Done once more, or without a beginning, it does no harm.
    pub fn end(&self, lab: &Lab) -> Result<()> {
        match self {
            Trouble::Kill { host, service, .. } => again(lab, host, *service),
            Trouble::Torn { .. } => {
                shell(lab, DEST, "! nft list table inet torn > /dev/null 2>&1 || nft delete table inet torn")?;
                // Servers that nobody told would keep what a dead run had.
                lab.end_ssh_sessions(DEST)
            }
            Trouble::Cut { host, .. } => link(lab, host, "up"),
            Trouble::Full(Disk::Journal) => shell(lab, SOURCE, "rm -f /var/lib/zlm/filler"),
            Trouble::Full(Disk::Blobs) => {
                shell(lab, DEST, "rm -f /opt/zimbra/store/filler.* /opt/zimbra/index/filler.*")
            }
            Trouble::Full(Disk::Mariadb) => {
                shell(lab, DEST, "rm -f /opt/zimbra/data/mysql/filler")?;
                // One that died of it.
                again(lab, DEST, Service::Mariadb)
            }
            Trouble::Soap { host, .. } => tell(lab, host, "fault clear"),
            Trouble::Nothing | Trouble::Sessions { .. } => Ok(()),
        }
    }

    /// Takes away what was arranged, when every run has ended.
    pub fn clear(&self, lab: &Lab) -> Result<()> {
        match self {
            Trouble::Full(Disk::Journal) => shell(lab, SOURCE, "! mountpoint -q /var/lib/zlm || umount /var/lib/zlm"),
            // What was moved must lie where it is looked for from outside.
            Trouble::Full(Disk::Blobs) => shell(
                lab,
                DEST,
                "mountpoint -q /opt/zimbra/store || exit 0
                 mkdir -p /run/under; mount --bind /opt/zimbra /run/under
                 for dir in store index; do
                     cp -a /opt/zimbra/$dir/. /run/under/$dir/ && umount -l /opt/zimbra/$dir || exit 1
                 done
                 umount /run/under",
            ),
            _ => Ok(()),
        }
    }
}

/// Makes what a server has committed survive its death.
fn settle(root: &mut mysql::Conn) -> Result<()> {
    root.query_drop("CREATE TABLE zimbra.settle (a INT) ENGINE=InnoDB")?;
    Ok(root.query_drop("DROP TABLE zimbra.settle")?)
}

/// Starts a server again that may run.
fn again(lab: &Lab, host: &str, service: Service) -> Result<()> {
    if service == Service::Mailboxd && !lab.answers(host, service)? {
        // What came in when it was killed is half a file that it promised nobody.
        shell(lab, host, "rm -f /opt/zimbra/*/incoming/mailboxd-*")?;
    }
    lab.start(host, service)?;
    if service == Service::Mailboxd { tell(lab, host, "background off") } else { Ok(()) }
}

fn tell(lab: &Lab, host: &str, line: &str) -> Result<()> {
    let answer = lab.host(host)?.mailboxd_control(line)?;
    ensure!(answer == "ok", "{host}: {line}: {answer}");
    Ok(())
}

/// Has the destination reset what comes through ssh sessions when so many bytes more went through; those that begin later
/// are let through.
fn tear(lab: &Lab, bytes: u64) -> Result<()> {
    // A packet of a connection that was reset looks like one of a new connection: only its first packet tells.
    let rules = format!(
        "table inet torn {{}}
         delete table inet torn
         table inet torn {{
             quota room {{ over {bytes} bytes; }}
             chain in {{ type filter hook input priority 0; tcp dport 22 jump ssh; }}
             chain out {{ type filter hook output priority 0; tcp sport 22 jump ssh; }}
             chain ssh {{
                 tcp flags & rst == rst accept
                 ct mark 1 accept
                 tcp flags & (syn | ack) == syn quota name room ct mark set 1 accept
                 quota name room reject with tcp reset
             }}
         }}"
    );
    shell(lab, DEST, &format!("nft -f - <<< '{rules}'"))
}

/// Plugs a host's cable in or out.
fn link(lab: &Lab, host: &str, state: &str) -> Result<()> {
    shell(lab, "switch", &format!("ip link set v-{host} {state}"))
}

/// Moves the destination's databases onto a disk with little room, once a lab.
fn onto_small_disk(lab: &Lab) -> Result<()> {
    let mounted = lab.host(DEST)?.command("root", &["mountpoint", "-q", "/opt/zimbra/data/mysql"]).status()?;
    if mounted.success() {
        return Ok(());
    }
    lab.stop(DEST, Service::Mariadb)?;
    shell(
        lab,
        DEST,
        "size=$(($(du -sm /opt/zimbra/data/mysql | cut -f 1) + 48))
         mkdir -p /run/under; mount --bind /opt/zimbra/data /run/under
         mount -t tmpfs -o size=${size}m,uid=7900,gid=7900,mode=700 tmpfs /opt/zimbra/data/mysql
         cp -a /run/under/mysql/. /opt/zimbra/data/mysql/; umount /run/under",
    )?;
    lab.start(DEST, Service::Mariadb)
}

/// Runs a script of the shell on a host as root.
pub fn shell(lab: &Lab, host: &str, script: &str) -> Result<()> {
    let mut command: Command = lab.host(host)?.command("root", &["bash", "-c", script]);
    let out = command.output().context("nsenter: cannot be started")?;
    ensure!(out.status.success(), "{host}: {script}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}
