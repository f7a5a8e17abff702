//! What `zlm.toml` may hold.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::zimbra::ids::Host;

/// The file as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Where and how much is logged.
    pub log: Log,
    /// What runs did.
    pub journal: JournalFile,
    /// The directory.
    pub ldap: Ldap,
    /// Admin SOAP.
    pub soap: Soap,
    /// How other hosts are reached.
    pub ssh: Ssh,
    /// What differs for one store, by its `zimbraServiceHostname`.
    pub store: BTreeMap<Host, Store>,
    /// Mailbox ids.
    pub ids: Ids,
    /// How blobs are copied.
    pub rsync: Rsync,
    /// Bounds.
    pub limits: Limits,
    /// How a copy leaves room for users while they work.
    pub throttle: ThrottleFile,
    /// How long connections that broke are waited for.
    pub retry: Retry,
    /// Where Zimbra is installed.
    pub zimbra: Zimbra,
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A file to log to, besides stderr.
    pub file: Option<PathBuf>,
    /// How much: `info` unless set.
    pub level: Option<Level>,
}

/// `[journal]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalFile {
    /// The directory, on a local disk and nobody else's; by the user unless set.
    pub dir: Option<PathBuf>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What is odd.
    Warn,
    /// Each effect.
    Info,
    /// Each call.
    Debug,
    /// Everything.
    Trace,
}

impl From<Level> for log::LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Off => Self::Off,
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

/// `[ldap]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ldap {
    /// URLs of every directory server, separated by spaces, as `ldap_url` of localconfig.
    pub url: Option<String>,
    /// URLs of the master, as `ldap_master_url` of localconfig; `url` unless set.
    pub master_url: Option<String>,
    /// The master's host, instead of URLs.
    pub server: Option<String>,
    /// Its port, with `server`; 389 unless set.
    pub port: Option<u16>,
    /// Whether `ldap://` is upgraded to TLS; true unless set. Without it only a directory on this host is used.
    pub start_tls: Option<bool>,
    /// The DN to bind as.
    #[serde(alias = "user")]
    pub bind_dn: Option<String>,
    /// Its password.
    #[serde(deserialize_with = "secret")]
    pub password: Option<Secret>,
    /// A private file with the password.
    pub password_file: Option<PathBuf>,
    /// A program with arguments that prints the password. No shell runs it.
    pub password_command: Option<Vec<String>>,
    /// The certificates of the only authorities to trust, in PEM.
    pub ca: Option<PathBuf>,
    /// The SHA-256 of the server's certificate or public key, in hexadecimal, to trust instead of an authority.
    pub pin: Option<String>,
}

/// `[soap]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Soap {
    /// The store to ask what any store can answer.
    pub server: Option<Host>,
    /// The admin port; 7071 unless set.
    pub port: Option<u16>,
    /// The admin's name.
    pub user: Option<String>,
    /// Its password.
    #[serde(deserialize_with = "secret")]
    pub password: Option<Secret>,
    /// A private file with the password.
    pub password_file: Option<PathBuf>,
    /// A program with arguments that prints the password. No shell runs it.
    pub password_command: Option<Vec<String>>,
    /// The certificates of the only authorities to trust, in PEM.
    pub ca: Option<PathBuf>,
    /// The SHA-256 of the servers' certificate or public key, in hexadecimal, to trust instead of an authority.
    pub pin: Option<String>,
}

/// `[ssh]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// The user to log in as; `zimbra` unless set.
    pub user: Option<String>,
    /// The private key.
    pub identity: Option<PathBuf>,
    /// The known host keys.
    pub known_hosts: Option<PathBuf>,
    /// Seconds to wait for a connection; 10 unless set.
    pub connect_timeout: Option<u16>,
    /// The key with which a store logs in to another one, a path on the store; Zimbra's own unless set.
    pub store_key: Option<PathBuf>,
}

/// `[store."HOST"]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Whether the store is this host, so that no ssh is needed; found out by the host's name unless set.
    pub local: Option<bool>,
    /// Where Zimbra is installed there.
    pub zimbra_home: Option<PathBuf>,
    /// How the host is reached.
    pub ssh: StoreSsh,
    /// How its MariaDB is reached; what is missing comes from that store's localconfig.xml.
    pub mysql: Mysql,
    /// Its admin SOAP.
    pub soap: StoreSoap,
}

/// `[store."HOST".ssh]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSsh {
    /// The name or address to connect to; the store's own name unless set.
    pub host: Option<Host>,
    /// The port; 22 unless set.
    pub port: Option<u16>,
    /// The user to log in as.
    pub user: Option<String>,
    /// The private key.
    pub identity: Option<PathBuf>,
    /// The key with which it logs in to another store, a path on it.
    pub store_key: Option<PathBuf>,
}

/// `[store."HOST".mysql]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mysql {
    /// The address it listens on, as seen from the store.
    pub host: Option<Host>,
    /// The port.
    pub port: Option<u16>,
    /// The socket, as seen from the store.
    pub socket: Option<PathBuf>,
    /// The user.
    pub user: Option<String>,
    /// Its password.
    #[serde(deserialize_with = "secret")]
    pub password: Option<Secret>,
    /// A private file with the password.
    pub password_file: Option<PathBuf>,
    /// A program with arguments that prints the password. No shell runs it.
    pub password_command: Option<Vec<String>>,
}

/// `[store."HOST".soap]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSoap {
    /// The admin port.
    pub port: Option<u16>,
}

/// `[ids]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ids {
    /// A number below which no new mailbox id is taken; the destination's next id unless set.
    pub offset: Option<u32>,
}

/// `[rsync]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rsync {
    /// The program on the stores; `rsync` unless set.
    pub path: Option<PathBuf>,
    /// KiB a second while users work; unbounded unless set.
    pub bwlimit: Option<u32>,
    /// Whether it leaves processor and disk to others on both hosts while users work; true unless set.
    pub gentle: Option<bool>,
}

/// `[limits]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Seconds to wait for a connection to the directory, SOAP or memcached; 10 unless set.
    pub connect_timeout: Option<u16>,
    /// Seconds to wait for an answer of the directory or memcached; 30 unless set.
    pub timeout: Option<u16>,
    /// Seconds to wait for an answer of SOAP; 120 unless set. Locking a mailbox may take a store 60.
    pub soap_timeout: Option<u16>,
    /// Seconds after which a store carries a request out no more that it has not answered; 3600 unless set.
    pub request_life: Option<u16>,
    /// Connections to one store's MariaDB that copy rows; 4 unless set.
    pub connections: Option<NonZeroU16>,
}

/// `[throttle]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThrottleFile {
    /// Rows a second that go into one store; unbounded unless set.
    pub rows_per_second: Option<NonZeroU64>,
    /// Bytes of rows a second that go into one store; unbounded unless set.
    pub bytes_per_second: Option<NonZeroU64>,
    /// The copy waits while MariaDB of either store has more threads running; 40 unless set, 0 for never.
    pub threads_running: Option<u32>,
    /// The copy waits while MariaDB of either store, where it is a replica, is more seconds behind; 60 unless set, 0
    /// for never.
    pub lag: Option<u32>,
    /// Seconds that it waits at a time before it fails; 300 unless set.
    pub patience: Option<Patience>,
}

/// `[retry]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Seconds for which a copy is tried again while users work, when connections break, and for which a merge of the search
    /// index is waited for under a freeze; 600 unless set, 0 for never.
    pub patience: Option<u16>,
}

/// Seconds that a copy waits: a server ends a connection on which nobody takes rows for ten minutes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "NonZeroU16")]
pub struct Patience(pub u16);

impl TryFrom<NonZeroU16> for Patience {
    type Error = String;

    fn try_from(seconds: NonZeroU16) -> Result<Self, String> {
        match seconds.get() {
            1..=500 => Ok(Self(seconds.get())),
            more => Err(format!("{more} seconds are too long to wait, at most 500")),
        }
    }
}

/// `[zimbra]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Zimbra {
    /// Where it is installed; `/opt/zimbra` unless set.
    pub home: Option<PathBuf>,
    /// The user that owns its files; `zimbra` unless set.
    pub user: Option<String>,
}

impl File {
    /// Parses the text of a file; fails with [`Kind::Config`], naming `path` and the line. The line itself is
    /// not shown: it may hold a password.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let file: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let why = e.message().replace('\n', ", ");
            Error::new(Kind::Config, format!("{}:{line}: {why}", path.display()))
        })?;
        file.check().map_err(|why| Error::new(Kind::Config, format!("{}: {why}", path.display())))?;
        Ok(file)
    }

    /// Whether a password is written in it.
    pub fn holds_secrets(&self) -> bool {
        let mysql = self.store.values().any(|store| store.mysql.password.is_some());
        mysql || self.ldap.password.is_some() || self.soap.password.is_some()
    }

    /// Where Zimbra is installed here.
    pub fn zimbra_home(&self) -> &Path {
        self.zimbra.home.as_deref().unwrap_or(Path::new("/opt/zimbra"))
    }

    /// What no type says: settings that exclude each other.
    fn check(&self) -> Result<(), String> {
        let secret = ["password", "password_file", "password_command"];
        let (ldap, soap) = (&self.ldap, &self.soap);
        let given =
            |p: &Option<Secret>, f: &Option<PathBuf>, c: &Option<Vec<String>>| [p.is_some(), f.is_some(), c.is_some()];
        one_of("[ldap]", &secret, &given(&ldap.password, &ldap.password_file, &ldap.password_command))?;
        one_of("[ldap]", &["url", "server"], &[ldap.url.is_some(), ldap.server.is_some()])?;
        one_of("[ldap]", &["master_url", "server"], &[ldap.master_url.is_some(), ldap.server.is_some()])?;
        one_of("[ldap]", &["ca", "pin"], &[ldap.ca.is_some(), ldap.pin.is_some()])?;
        one_of("[soap]", &secret, &given(&soap.password, &soap.password_file, &soap.password_command))?;
        one_of("[soap]", &["ca", "pin"], &[soap.ca.is_some(), soap.pin.is_some()])?;
        if ldap.port.is_some() && ldap.server.is_none() {
            return Err("[ldap]: port needs server".into());
        }
        for (host, store) in &self.store {
            let mysql = &store.mysql;
            let section = format!("[store.\"{host}\".mysql]");
            one_of(&section, &secret, &given(&mysql.password, &mysql.password_file, &mysql.password_command))?;
        }
        Ok(())
    }
}

fn one_of(section: &str, names: &[&str], given: &[bool]) -> Result<(), String> {
    let count = given.iter().filter(|given| **given).count();
    if count > 1 { Err(format!("{section}: only one of {} can be set", names.join(", "))) } else { Ok(()) }
}

/// Reads a password. A value of another type is refused without being shown.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => Ok(Some(Secret::new(text))),
        _ => Err(de::Error::custom("a password is a text between quotes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        File::parse(text, Path::new("zlm.toml")).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_line_and_what_is_allowed() {
        let e = wrong("[log]\nlevel = \"info\"\n[rsync]\nbandwidth = 3\n");
        assert!(e.starts_with("zlm.toml:4: unknown field `bandwidth`, expected"), "{e}");
        assert!(e.contains("`bwlimit`"), "{e}");
        let e = wrong("[log]\nlevel = \"loud\"\n");
        assert!(e.starts_with("zlm.toml:2:") && e.contains("`debug`"), "{e}");
        assert!(wrong("[store.\"-oProxyCommand=x\"]\n").contains("host"));
        let e = wrong("[throttle]\nthreads_running = 40\nrows_per_second = 0\n");
        assert!(e.starts_with("zlm.toml:3:") && e.contains("nonzero"), "{e}");
        let e = wrong("[throttle]\npatience = 900\n");
        assert!(e.starts_with("zlm.toml:2: 900 seconds are too long"), "{e}");
        assert!(wrong("[soap]\nserver = \"-x\"\n").starts_with("zlm.toml:2:"));
    }

    #[test]
    fn errors_do_not_show_a_password() {
        for text in [
            "[soap]\npassword = 4711\n",
            "[soap]\npassword = hunter4711\n",
            "[soap]\npassword = [\"4711\"]\n",
            "[soap]\npassword = \"4711\n",
        ] {
            let e = wrong(text);
            assert!(!e.contains("4711"), "{e}");
        }
    }

    #[test]
    fn exclusive_settings() {
        assert!(wrong("[ldap]\npassword_file = \"/a\"\npassword_command = [\"b\"]\n").contains("only one of"));
        assert!(wrong("[store.a.mysql]\npassword_file = \"/a\"\npassword = \"b\"\n").contains("[store.\"a\".mysql]"));
        assert!(wrong("[ldap]\nport = 389\n").contains("needs server"));
    }
}
