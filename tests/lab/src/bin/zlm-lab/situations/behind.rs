//! Peers that fail once the account has its new home: there is no way back then, and time mends it.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use zlm_lab::{Lab, Service};

use super::scene::Scene;
use super::{Situation, Way};
use crate::faults::plan::Points;
use crate::faults::trouble::{Back, Trouble, shell};
use crate::faults::{DEST, SOURCE};

/// How long a peer is away, as a restart of mailboxd takes.
pub const MINUTE: Duration = Duration::from_secs(60);
/// The same where only a part is played.
pub const SHORT: Duration = Duration::from_secs(6);

/// The operations of an undisturbed move.
pub struct Course {
    operations: Vec<String>,
    /// How many of them come before the account has its new home, and with that.
    switch: usize,
}

impl Course {
    pub fn of(points: &Points) -> Result<Self> {
        let operations: Vec<String> = points.operations.iter().map(|(name, _)| name.clone()).collect();
        ensure!(operations[points.switch - 1] == "switch_to", "operation {} does not switch", points.switch);
        Ok(Self { operations, switch: points.switch })
    }

    /// The failpoint as soon as the account has its new home.
    pub fn switched(&self) -> String {
        format!("{}.after", self.switch)
    }

    /// The failpoint before the first, or the last, operation of a name after the switch. A run that is taken up there
    /// counts only what it does itself.
    fn after_switch(&self, name: &str, last: bool, way: Way) -> Option<String> {
        let mut after = (self.switch..self.operations.len()).filter(|at| self.operations[*at] == name);
        let at = if last { after.next_back() } else { after.next() }?;
        let from = if way == Way::Resume { self.switch } else { 0 };
        let nth = self.operations[from..=at].iter().filter(|other| *other == name).count();
        Some(format!("{name}:{nth}.before"))
    }
}

/// Whom a run needs behind its switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    DestMailboxd,
    SourceMailboxd,
    ProxyMemcached,
    StoreMemcached,
    DestMariadb,
    Directory,
}

#[derive(Clone, Copy, Debug)]
enum Point {
    FirstFlush,
    GetMailbox,
    Reopen,
    LastFlush,
}

#[derive(Clone, Copy, Debug)]
enum Times {
    Once,
    Twice,
    /// It is away for so long.
    Away(Duration),
}

struct Behind {
    peer: Peer,
    point: Point,
    times: Times,
    way: Way,
}

/// Each peer, at each point, failing in each way; now as a move of its own, now in a batch, now in a run that was taken up.
pub fn all(minute: Duration) -> Vec<Box<dyn Situation>> {
    let mut all: Vec<Box<dyn Situation>> = Vec::new();
    let peers = [
        Peer::DestMailboxd,
        Peer::SourceMailboxd,
        Peer::ProxyMemcached,
        Peer::StoreMemcached,
        Peer::DestMariadb,
        Peer::Directory,
    ];
    for peer in peers {
        for point in [Point::FirstFlush, Point::GetMailbox, Point::Reopen, Point::LastFlush] {
            for times in [Times::Once, Times::Twice, Times::Away(minute)] {
                let way = [Way::Move, Way::Move, Way::Batch, Way::Resume, Way::Move][all.len() % 5];
                all.push(Box::new(Behind { peer, point, times, way }));
            }
        }
    }
    all
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = match self.times {
            Times::Once => "once",
            Times::Twice => "twice",
            Times::Away(_) => "for a minute",
        };
        write!(f, "behind the switch: {:?} fails {times} at {:?}, {:?}", self.peer, self.point, self.way)
    }
}

impl Situation for Behind {
    fn way(&self) -> Way {
        self.way
    }

    fn place(&self, course: &Course) -> Option<String> {
        match self.point {
            Point::FirstFlush => course.after_switch("flush_caches", false, self.way),
            Point::GetMailbox => course.after_switch("open_mailbox", false, self.way),
            Point::Reopen => course.after_switch("soap_modify", false, self.way),
            Point::LastFlush => course.after_switch("flush_caches", true, self.way),
        }
    }

    fn happen(&self, scene: &Scene<'_>) -> Result<()> {
        let lab = scene.lab();
        match self.fails() {
            Fails::Away(trouble) | Fails::Broken(trouble) => trouble.begin(lab, true),
            Fails::Requests(host, fate, count) => scene.tell(host, &format!("fault * {fate} {count}")),
            Fails::Connections(host, port, count) => refuse(lab, host, port, count),
        }?;
        match (self.fails(), self.times) {
            // Its connections have broken; the next one is refused, too.
            (Fails::Broken(_), Times::Twice) => refuse(lab, self.peer.host(), self.peer.port(), 1),
            _ => Ok(()),
        }
    }

    fn go_on(&self, scene: &Scene<'_>) -> Result<()> {
        match self.fails() {
            Fails::Away(trouble) => trouble.go_on(scene.lab()),
            _ => Ok(()),
        }
    }

    fn clear(&self, scene: &Scene<'_>) -> Result<()> {
        match self.fails() {
            Fails::Away(trouble) | Fails::Broken(trouble) => trouble.end(scene.lab())?,
            Fails::Requests(host, ..) => scene.tell(host, "fault clear")?,
            Fails::Connections(..) => {}
        }
        let remove = "! nft list table inet refused > /dev/null 2>&1 || nft delete table inet refused";
        scene.shell(self.peer.host(), remove)
    }
}

/// How a peer fails.
enum Fails {
    /// It dies and comes back later.
    Away(Trouble),
    /// It dies and is there at once.
    Broken(Trouble),
    /// So many requests to a mailboxd have this fate.
    Requests(&'static str, &'static str, u32),
    /// So many connections to a port of a host are refused.
    Connections(&'static str, u16, u32),
}

impl Behind {
    fn fails(&self) -> Fails {
        let (host, service) = (self.peer.host(), self.peer.service());
        let count = match self.times {
            Times::Once => 1,
            Times::Twice => 2,
            Times::Away(time) => {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                return Fails::Away(Trouble::Kill { host, service, back: Back::Soon(ms) });
            }
        };
        match self.peer {
            Peer::DestMailboxd | Peer::SourceMailboxd => {
                let fates = ["fail service.FAILURE", "drop-before", "unreachable"];
                Fails::Requests(host, fates[self.point as usize % fates.len()], count)
            }
            Peer::ProxyMemcached | Peer::StoreMemcached => Fails::Connections(host, self.peer.port(), count),
            Peer::DestMariadb | Peer::Directory => Fails::Broken(Trouble::Kill { host, service, back: Back::Before }),
        }
    }
}

impl Peer {
    fn host(self) -> &'static str {
        match self {
            Peer::DestMailboxd | Peer::DestMariadb => DEST,
            Peer::SourceMailboxd | Peer::StoreMemcached => SOURCE,
            Peer::ProxyMemcached => "proxy1",
            Peer::Directory => "ldap1",
        }
    }

    fn service(self) -> Service {
        match self {
            Peer::DestMailboxd | Peer::SourceMailboxd => Service::Mailboxd,
            Peer::ProxyMemcached | Peer::StoreMemcached => Service::Memcached,
            Peer::DestMariadb => Service::Mariadb,
            Peer::Directory => Service::Slapd,
        }
    }

    fn port(self) -> u16 {
        match self.service() {
            Service::Mailboxd => 7071,
            Service::Memcached => 11211,
            Service::Mariadb => 7306,
            _ => 389,
        }
    }
}

/// Has a host refuse the next connections to a port, as one does where nobody listens; those after them are let through.
fn refuse(lab: &Lab, host: &str, port: u16, count: u32) -> Result<()> {
    let rules = format!(
        "table inet refused {{}}
         delete table inet refused
         table inet refused {{
             chain in {{
                 type filter hook input priority 0
                 tcp dport {port} tcp flags & (syn | ack) == syn limit rate 1/day burst {count} packets reject with tcp reset
             }}
         }}"
    );
    shell(lab, host, &format!("nft -f - <<< '{rules}'"))?;
    // What connects at once may be mailboxd: let it have its turn.
    thread::sleep(Duration::from_millis(50));
    Ok(())
}
