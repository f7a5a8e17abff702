//! Sites and accounts as they are in the world: what can be moved is moved, what cannot is refused with its name.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use zlm_lab::{SOURCE as ROOT_AT_SOURCE, Seat, Service, poll};

use super::scene::Scene;
use super::{Expect, Situation};
use crate::faults::{DEST, SOURCE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    /// MariaDBs of one zone that name it otherwise: one was started in summer.
    SameZone,
    /// MariaDBs of two zones with one name.
    SameNameOfZone,
    /// Tags that are one in the destination's collation.
    Collation,
    TransportOfOtherCase,
    TransportUnset,
    TransportOfOtherHost,
    /// A server that is in the directory and nowhere else.
    Retired {
        left_out: bool,
    },
    MemcachedDown {
        left_out: bool,
    },
    UnknownDomain,
    /// Another index than Lucene's.
    IndexClass,
    UnreadableBlob,
    UnwritableVolume,
    /// Nothing is configured, zlm is zimbra, and `/opt/zimbra` is root's.
    AsZimbra,
    /// A status of the account, and whether it gets mail.
    Status(&'static str, &'static str),
}

pub fn all() -> Vec<Box<dyn Situation>> {
    let statuses = ["active", "locked", "lockout", "closed", "pending", "maintenance"];
    let statuses = statuses.into_iter().flat_map(|s| ["enabled", "disabled"].map(|mail| Site::Status(s, mail)));
    let sites = [
        Site::SameZone,
        Site::SameNameOfZone,
        Site::Collation,
        Site::TransportOfOtherCase,
        Site::TransportUnset,
        Site::TransportOfOtherHost,
        Site::Retired { left_out: false },
        Site::Retired { left_out: true },
        Site::MemcachedDown { left_out: false },
        Site::MemcachedDown { left_out: true },
        Site::UnknownDomain,
        Site::IndexClass,
        Site::UnreadableBlob,
        Site::UnwritableVolume,
        Site::AsZimbra,
    ];
    sites.into_iter().chain(statuses).map(|site| Box::new(site) as Box<dyn Situation>).collect()
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Status(status, mail) => write!(f, "site: status {status}, mail {mail}"),
            Site::Retired { left_out } => write!(f, "site: retired server, left out: {left_out}"),
            Site::MemcachedDown { left_out } => write!(f, "site: memcached down, left out: {left_out}"),
            other => write!(f, "site: {other:?}"),
        }
    }
}

impl Situation for Site {
    fn expect(&self) -> Expect {
        match self {
            Site::SameNameOfZone => Expect::Refused(&["time zone"]),
            Site::Collation => Expect::Refused(&["tag", "i_tag_name"]),
            Site::TransportOfOtherCase | Site::TransportOfOtherHost => Expect::Refused(&["zimbraMailTransport"]),
            Site::Retired { left_out: false } => Expect::Refused(&["store7.lab.test", "--without"]),
            Site::MemcachedDown { left_out: false } => Expect::Refused(&["proxy1.lab.test", "--without"]),
            Site::IndexClass => Expect::Refused(&["store1.lab.test", "com.example.Other"]),
            Site::UnreadableBlob => Expect::Refused(&[".msg"]),
            Site::UnwritableVolume => Expect::Refused(&["/opt/zimbra/store"]),
            _ => Expect::Moved,
        }
    }

    fn attributes(&self) -> Vec<(&'static str, &'static str)> {
        match self {
            Site::TransportOfOtherCase => vec![("zimbraMailTransport", "lmtp:STORE1.lab.test:7025")],
            Site::TransportUnset => vec![("zimbraMailTransport", "")],
            Site::TransportOfOtherHost => vec![("zimbraMailTransport", "lmtp:store9.lab.test:7025")],
            Site::UnknownDomain => vec![("zimbraMailDeliveryAddress", "somebody@internal.test")],
            Site::Status(status, mail) => vec![("zimbraAccountStatus", status), ("zimbraMailStatus", mail)],
            _ => Vec::new(),
        }
    }

    fn mail(&self) -> bool {
        !matches!(self, Site::Status(..) | Site::TransportUnset | Site::UnknownDomain)
    }

    fn seat(&self) -> Seat {
        match self {
            Site::AsZimbra => Seat { host: SOURCE, user: "zimbra" },
            // Root at the source may read everything.
            Site::UnreadableBlob => Seat { host: DEST, user: "root" },
            _ => ROOT_AT_SOURCE,
        }
    }

    fn options(&self) -> Vec<&'static str> {
        match self {
            Site::Retired { left_out: true } => vec!["--without", "store7.lab.test"],
            Site::MemcachedDown { left_out: true } => vec!["--without", "proxy1.lab.test"],
            _ => Vec::new(),
        }
    }

    fn allowed(&self) -> Option<&'static str> {
        match self {
            // Zimbra forces it whenever it sets such a status.
            Site::Status("closed" | "pending", "enabled") => {
                Some(r#"zimbraMailStatus: ["enabled"] became ["disabled"]"#)
            }
            _ => None,
        }
    }

    fn arrange(&self, scene: &Scene<'_>) -> Result<()> {
        match self {
            Site::SameZone => {
                start_in(scene, SOURCE, "CET-1CEST,M3.5.0,M10.5.0/3")?;
                start_in(scene, DEST, "XET-1XEST,M3.5.0,M10.5.0/3")
            }
            Site::SameNameOfZone => {
                start_in(scene, SOURCE, "CST6CDT,M3.2.0,M11.1.0")?;
                start_in(scene, DEST, "CST-8")
            }
            Site::Collation => two_tags(scene),
            Site::Retired { .. } => retired(scene),
            Site::MemcachedDown { .. } => scene.lab().stop("proxy1", Service::Memcached),
            Site::IndexClass => scene.shell(
                SOURCE,
                "cd /opt/zimbra/conf; cp -p localconfig.xml localconfig.kept
                 key='<key name=\"zimbra_class_index_store_factory\"><value>com.example.Other</value></key>'
                 sed -i \"s|</localconfig>|$key</localconfig>|\" localconfig.xml",
            ),
            Site::UnreadableBlob => {
                let find = format!("find {} -name '*.msg' | head -1", blobs(scene)?);
                scene.shell(SOURCE, &format!("blob=$({find}); chown root \"$blob\"; chmod 600 \"$blob\""))
            }
            Site::UnwritableVolume => scene.shell(DEST, "chown root: /opt/zimbra/store /opt/zimbra/store/0 || true"),
            Site::AsZimbra => scene.shell(SOURCE, "chown root: /opt/zimbra"),
            _ => Ok(()),
        }
    }

    fn clear(&self, scene: &Scene<'_>) -> Result<()> {
        match self {
            Site::SameZone | Site::SameNameOfZone => {
                for store in [SOURCE, DEST] {
                    scene.lab().stop(store, Service::Mariadb)?;
                    scene.lab().start(store, Service::Mariadb)?;
                }
                Ok(())
            }
            Site::Retired { .. } => {
                // One that is gone already is no error.
                scene.lab().ldap()?.delete(RETIRED).map(drop)?;
                Ok(())
            }
            Site::MemcachedDown { .. } => scene.lab().start("proxy1", Service::Memcached),
            Site::IndexClass => scene
                .shell(SOURCE, "cd /opt/zimbra/conf; [ ! -e localconfig.kept ] || mv localconfig.kept localconfig.xml"),
            Site::UnreadableBlob => scene.shell(
                SOURCE,
                &format!("find {} -user root -exec chown zimbra {{}} + -exec chmod 640 {{}} +", blobs(scene)?),
            ),
            Site::UnwritableVolume => scene.shell(DEST, "chown zimbra: /opt/zimbra/store /opt/zimbra/store/0 || true"),
            _ => Ok(()),
        }
    }
}

/// Where the mailbox's blobs lie at the source, as a shell there knows it.
fn blobs(scene: &Scene<'_>) -> Result<String> {
    Ok(format!("/opt/zimbra/store/0/{}/msg", scene.number(SOURCE)?))
}

const RETIRED: &str = "cn=store7.lab.test,cn=servers,cn=zimbra";

/// A mail store that was taken away, but not out of the directory.
fn retired(scene: &Scene<'_>) -> Result<()> {
    let values = [
        ("objectClass", "zimbraServer"),
        ("cn", "store7.lab.test"),
        ("zimbraId", "77777777-7777-4777-8777-777777777777"),
        ("zimbraServiceHostname", "store7.lab.test"),
        ("zimbraServerVersion", "10.1.0"),
        ("zimbraServiceInstalled", "mailbox"),
        ("zimbraServiceEnabled", "mailbox"),
        ("zimbraAdminPort", "7071"),
        ("zimbraLmtpBindPort", "7025"),
    ];
    let entry = values.into_iter().map(|(name, value)| (name, [value].into())).collect();
    scene.lab().ldap()?.add(RETIRED, entry)?.success()?;
    Ok(())
}

/// Starts MariaDB of a store again in another time zone.
fn start_in(scene: &Scene<'_>, store: &str, zone: &str) -> Result<()> {
    let lab = scene.lab();
    lab.stop(store, Service::Mariadb)?;
    let script = "echo $$ > /run/mariadb.pid
         exec /usr/sbin/mariadbd --defaults-file=/opt/zimbra/conf/my.cnf >> /opt/lab/log/mariadb.log 2>&1";
    let words = ["setsid", "--fork", "bash", "-c", script];
    let started = lab.host(store)?.command("zimbra", &words).env("TZ", zone).status()?;
    ensure!(started.success(), "{store}: MariaDB cannot be started");
    let limit = Duration::from_secs(30);
    let answers = poll(limit, || Ok(lab.answers(store, Service::Mariadb)?.then_some(())))?;
    answers.with_context(|| format!("{store}: MariaDB does not answer"))
}

/// Tags that differ by case, which the source's collation tells apart.
fn two_tags(scene: &Scene<'_>) -> Result<()> {
    let number = scene.number(SOURCE)?;
    let table = format!("mboxgroup{}.tag", (number - 1) % 100 + 1);
    let binary = "MODIFY name VARCHAR(128) CHARACTER SET utf8 COLLATE utf8_bin NOT NULL";
    scene.sql(SOURCE, &format!("ALTER TABLE {table} {binary}"))?;
    let tag = |id: u32, name: &str| format!("({number}, {id}, '{name}', 1, 0, 0, 1, 1)");
    let columns = "mailbox_id, id, name, color, item_count, unread, listed, sequence";
    let (upper, lower) = (tag(9001, "Quartz"), tag(9002, "quartz"));
    scene.sql(SOURCE, &format!("INSERT INTO {table} ({columns}) VALUES {upper}, {lower}"))
}
