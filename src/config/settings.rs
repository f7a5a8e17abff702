//! What is decided from `zlm.toml` and `localconfig.xml` together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::secrets::Source;
use super::{Config, LocalConfig, guard};
use crate::error::{Context, Error, Kind, Result};
use crate::secret::Secret;
use crate::zimbra::ids::Host;

/// Whom a TLS connection trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The authorities of a PEM file, and the name in the certificate must be the server's.
    Ca(PathBuf),
    /// A certificate or public key of this SHA-256 only, whatever its name.
    Pin([u8; 32]),
}

/// How the directory is reached.
#[derive(Clone, Debug)]
pub struct LdapSettings {
    /// URLs of the master, to be tried in order. Decisions are read here.
    pub master: Vec<String>,
    /// URLs of every server, the master among them or not.
    pub all: Vec<String>,
    /// Whether `ldap://` is upgraded to TLS.
    pub start_tls: bool,
    /// The DN to bind as.
    pub bind_dn: String,
    /// Its password.
    pub password: Secret,
    /// Whom to trust; none only where no TLS is used.
    pub trust: Option<Trust>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// How admin SOAP is reached.
#[derive(Clone, Debug)]
pub struct SoapSettings {
    /// The store to ask what any store can answer, if one is known.
    pub server: Option<Host>,
    /// The admin port, where a store has no other.
    pub port: u16,
    /// Admin ports of single stores.
    pub ports: Vec<(Host, u16)>,
    /// The admin's name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Whom to trust.
    pub trust: Trust,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// How a host is reached by ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshSettings {
    /// The name or address to connect to.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// The private key, checked to be private; ssh's own choice unless set.
    pub identity: Option<PathBuf>,
    /// The known host keys; ssh's own choice unless set.
    pub known_hosts: Option<PathBuf>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
}

/// How a store is reached.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Its `zimbraServiceHostname`.
    pub host: Host,
    /// Whether it is this host.
    pub local: bool,
    /// Where Zimbra is installed there.
    pub zimbra_home: PathBuf,
    /// How to log in.
    pub ssh: SshSettings,
    /// The key with which it logs in to another store, a path on it.
    pub store_key: PathBuf,
    /// The hosts that it knows then, a path on it.
    pub store_known_hosts: PathBuf,
}

/// How a store's MariaDB is reached, as seen from the store.
#[derive(Clone, Debug)]
pub struct MysqlSettings {
    /// The address it listens on.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Its socket.
    pub socket: Option<PathBuf>,
    /// The user.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// How a copy leaves room for users while they work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Rows a second that go into one store.
    pub rows_per_second: Option<u64>,
    /// Bytes of rows a second that go into one store.
    pub bytes_per_second: Option<u64>,
    /// Threads that MariaDB of a store may have running.
    pub threads_running: Option<u64>,
    /// Seconds that MariaDB of a store may be behind its master.
    pub lag: Option<u64>,
    /// How long the copy waits at a time.
    pub patience: Duration,
}

fn missing(what: &str) -> Error {
    Error::new(Kind::Config, format!("{what}: not set in zlm.toml, and no localconfig.xml here has it"))
}

fn seconds(set: Option<u16>, default: u16) -> Duration {
    Duration::from_secs(set.unwrap_or(default).max(1).into())
}

impl Config {
    fn local(&self, key: &str) -> Option<String> {
        self.local.as_ref()?.get(key).map(str::to_owned)
    }

    /// How long a connection to the directory, SOAP or memcached may take.
    pub fn connect_timeout(&self) -> Duration {
        seconds(self.file.limits.connect_timeout, 10)
    }

    /// How long an answer of the directory or memcached may take.
    pub fn timeout(&self) -> Duration {
        seconds(self.file.limits.timeout, 30)
    }

    /// How many connections to one store's MariaDB copy rows: it has about ten to spare beside mailboxd's.
    pub fn connections(&self) -> usize {
        self.file.limits.connections.map_or(4, |connections| connections.get().into())
    }

    /// How a copy leaves room for users.
    pub fn throttle(&self) -> Throttle {
        let throttle = &self.file.throttle;
        let limit = |set: Option<u32>, usual: u32| match set.unwrap_or(usual) {
            0 => None,
            limit => Some(limit.into()),
        };
        Throttle {
            rows_per_second: throttle.rows_per_second.map(Into::into),
            bytes_per_second: throttle.bytes_per_second.map(Into::into),
            threads_running: limit(throttle.threads_running, 40),
            lag: limit(throttle.lag, 60),
            patience: seconds(throttle.patience.map(|patience| patience.0), 300),
        }
    }

    /// How long a copy is tried again while users work when connections break, and everything behind a switch.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.file.retry.patience.unwrap_or(600).into())
    }

    /// How long a mailboxd may take to carry out a request, whether anybody still waits for the answer or not.
    ///
    /// Nothing in mailboxd ends a request that it works on: Jetty's idle times are those of connections and of threads
    /// without work. What bounds it is the directory, by default 120 s for a connection from the pool
    /// (`ldap_connect_pool_timeout`), 30 s to connect (`ldap_connect_timeout`) and 300 s for an answer
    /// (`ldap_read_timeout`), the last two once more where a connection broke: 780 s each time. A `ModifyAccount` comes to
    /// its change by way of two looks, where nothing is cached: 39 minutes. The rest is for a request that waited for
    /// a thread until then.
    pub fn request_life(&self) -> Duration {
        seconds(self.file.limits.request_life, 3600)
    }

    /// The rsync program on the stores.
    pub fn rsync_path(&self) -> String {
        self.file.rsync.path.as_ref().map_or_else(|| "rsync".to_owned(), |path| path.display().to_string())
    }

    /// The user that owns Zimbra's files.
    pub fn zimbra_user(&self) -> &str {
        self.file.zimbra.user.as_deref().unwrap_or("zimbra")
    }

    /// How the directory is reached; fails with [`Kind::Config`].
    pub fn ldap(&self) -> Result<LdapSettings> {
        let ldap = &self.file.ldap;
        let source = Source {
            name: "ldap.password".into(),
            password: &ldap.password,
            file: &ldap.password_file,
            command: &ldap.password_command,
        };
        let (master, all) = self.ldap_urls()?;
        let trust = self.trust(&ldap.ca, &ldap.pin);
        Ok(LdapSettings {
            master,
            all,
            start_tls: ldap.start_tls.unwrap_or_else(|| self.zimbra_uses_start_tls()),
            bind_dn: ldap
                .bind_dn
                .clone()
                .or_else(|| self.local("zimbra_ldap_userdn"))
                .ok_or_else(|| missing("ldap.bind_dn"))?,
            password: self.password(source, "zimbra_ldap_password")?,
            trust: trust?,
            connect_timeout: self.connect_timeout(),
            timeout: self.timeout(),
        })
    }

    /// The master's URLs and those of every server.
    fn ldap_urls(&self) -> Result<(Vec<String>, Vec<String>)> {
        let ldap = &self.file.ldap;
        let words = |urls: &str| urls.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if let Some(server) = &ldap.server {
            let url = vec![format!("ldap://{server}:{}", ldap.port.unwrap_or(389))];
            return Ok((url.clone(), url));
        }
        let (all, master) = match &ldap.url {
            Some(url) => (words(url), ldap.master_url.clone()),
            None => {
                let local = self.local("ldap_url");
                let host = || Some(format!("ldap://{}:{}", self.local("ldap_host")?, self.local("ldap_port")?));
                let all = local.or_else(host).or_else(|| ldap.master_url.clone()).ok_or_else(|| missing("ldap.url"))?;
                (words(&all), ldap.master_url.clone().or_else(|| self.local("ldap_master_url")))
            }
        };
        let master = master.map_or_else(|| all.clone(), |urls| words(&urls));
        if master.is_empty() || all.is_empty() {
            return Err(missing("ldap.url"));
        }
        Ok((master, all))
    }

    /// Zimbra's own rule, where it says anything; TLS where it does not.
    fn zimbra_uses_start_tls(&self) -> bool {
        let keys = ["ldap_starttls_supported", "ldap_starttls_required", "zimbra_require_interprocess_security"];
        self.file.ldap.url.is_some()
            || self.file.ldap.server.is_some()
            || self.local.as_ref().is_none_or(|local| keys.iter().all(|key| local.is_on(key)))
    }

    /// How admin SOAP is reached; fails with [`Kind::Config`].
    pub fn soap(&self) -> Result<SoapSettings> {
        let soap = &self.file.soap;
        let source = Source {
            name: "soap.password".into(),
            password: &soap.password,
            file: &soap.password_file,
            command: &soap.password_command,
        };
        let of_host = self.local("zimbra_server_hostname").filter(|host| host != "localhost");
        let server = match (&soap.server, of_host) {
            (Some(server), _) => Some(server.clone()),
            (None, Some(host)) => {
                Some(host.parse().context(Kind::Config, || "localconfig.xml: zimbra_server_hostname".into())?)
            }
            (None, None) => None,
        };
        let local_port = self.local.as_ref().map(|l| l.port("zimbra_admin_service_port")).transpose()?.flatten();
        let ports = self.file.store.iter().filter_map(|(host, store)| Some((host.clone(), store.soap.port?)));
        Ok(SoapSettings {
            server,
            port: soap.port.or(local_port).unwrap_or(7071),
            ports: ports.collect(),
            user: soap.user.clone().or_else(|| self.local("zimbra_ldap_user")).ok_or_else(|| missing("soap.user"))?,
            password: self.password(source, "zimbra_ldap_password")?,
            trust: self.trust(&soap.ca, &soap.pin)?.ok_or_else(|| missing("soap.ca"))?,
            connect_timeout: self.connect_timeout(),
            timeout: seconds(self.file.limits.soap_timeout, 120),
        })
    }

    /// How a store is reached; fails with [`Kind::Config`], for one when a key is readable by others.
    pub fn store(&self, host: &Host) -> Result<StoreSettings> {
        let (ssh, store) = (&self.file.ssh, self.file.store.get(host).cloned().unwrap_or_default());
        let is_here =
            || self.local("zimbra_server_hostname").is_some_and(|name| name.eq_ignore_ascii_case(host.as_str()));
        let local = store.local.unwrap_or_else(is_here);
        let home = self.file.zimbra_home();
        let zimbras = |name: &str| Some(home.join(".ssh").join(name)).filter(|path| path.exists());
        let identity = store.ssh.identity.or_else(|| ssh.identity.clone()).or_else(|| zimbras("zimbra_identity"));
        if let (Some(key), false) = (&identity, local) {
            guard::check_key(key)?;
        }
        let zimbra_home = store.zimbra_home.unwrap_or_else(|| home.to_owned());
        let stores_own = zimbra_home.join(".ssh");
        let store_key = store.ssh.store_key.or_else(|| ssh.store_key.clone());
        Ok(StoreSettings {
            host: host.clone(),
            local,
            zimbra_home,
            store_key: store_key.unwrap_or_else(|| stores_own.join("zimbra_identity")),
            store_known_hosts: stores_own.join("known_hosts"),
            ssh: SshSettings {
                host: store.ssh.host.unwrap_or_else(|| host.clone()),
                port: store.ssh.port.unwrap_or(22),
                user: store.ssh.user.or_else(|| ssh.user.clone()).unwrap_or_else(|| "zimbra".into()),
                identity,
                known_hosts: ssh.known_hosts.clone().or_else(|| zimbras("known_hosts")),
                connect_timeout: seconds(ssh.connect_timeout, 10),
            },
        })
    }

    /// How a store's MariaDB is reached: what `zlm.toml` says, over `local`, which is that store's own
    /// localconfig.xml. Fails with [`Kind::Config`].
    pub fn mysql(&self, host: &Host, local: &LocalConfig) -> Result<MysqlSettings> {
        let mysql = self.file.store.get(host).map(|store| store.mysql.clone()).unwrap_or_default();
        let source = Source {
            name: format!("mysql.{host}.password"),
            password: &mysql.password,
            file: &mysql.password_file,
            command: &mysql.password_command,
        };
        let text = |key: &str| local.get(key).map(str::to_owned);
        let unset = |key: &str| {
            Error::new(Kind::Config, format!("{host}: {key} is set neither in zlm.toml nor in its localconfig.xml"))
        };
        let address = || {
            let address = text("mysql_bind_address").unwrap_or_else(|| "127.0.0.1".into());
            // Zimbra writes the address in IPv6 form where it listens on both, or names the host itself.
            let address = if address == "localhost" || address.contains(':') { "127.0.0.1" } else { &address };
            address.parse().context(Kind::Config, || format!("{host}: mysql_bind_address"))
        };
        Ok(MysqlSettings {
            host: mysql.host.clone().map_or_else(address, Ok)?,
            port: mysql.port.map_or_else(|| local.port("mysql_port"), |port| Ok(Some(port)))?.unwrap_or(7306),
            socket: mysql.socket.clone().or_else(|| text("mysql_socket").map(PathBuf::from)),
            user: mysql.user.clone().or_else(|| text("zimbra_mysql_user")).ok_or_else(|| unset("zimbra_mysql_user"))?,
            password: match source.read()? {
                Some(password) => password,
                None => local.secret("zimbra_mysql_password").ok_or_else(|| unset("zimbra_mysql_password"))?,
            },
        })
    }

    fn password(&self, source: Source<'_>, key: &str) -> Result<Secret> {
        match source.read()? {
            Some(password) => Ok(password),
            None => self.local.as_ref().and_then(|local| local.secret(key)).ok_or_else(|| missing(&source.name)),
        }
    }

    /// The trust that is set, else Zimbra's own authority where its file is there.
    fn trust(&self, ca: &Option<PathBuf>, pin: &Option<String>) -> Result<Option<Trust>> {
        if let Some(pin) = pin {
            return parse_pin(pin).map(|pin| Some(Trust::Pin(pin)));
        }
        let zimbras =
            || Some(self.file.zimbra_home().join("conf/ca/ca.pem")).filter(|path: &PathBuf| Path::exists(path));
        Ok(ca.clone().or_else(zimbras).map(Trust::Ca))
    }
}

/// 64 hexadecimal digits, with colons as openssl prints them or without, perhaps behind `sha256:`.
fn parse_pin(text: &str) -> Result<[u8; 32]> {
    let digits: String = text.strip_prefix("sha256:").unwrap_or(text).chars().filter(|c| *c != ':').collect();
    let wrong = || Error::new(Kind::Config, format!("pin '{text}': is not a SHA-256 of 64 hexadecimal digits"));
    if digits.len() != 64 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut pin = [0; 32];
    for (at, byte) in pin.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(pin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::File;

    const LOCAL: &str = "<localconfig><key name='zimbra_server_hostname'><value>store1.lab.test</value></key>\
        <key name='ldap_url'><value>ldap://replica.lab.test:389 ldap://ldap1.lab.test:389</value></key>\
        <key name='ldap_master_url'><value>ldap://ldap1.lab.test:389</value></key>\
        <key name='ldap_starttls_supported'><value>1</value></key>\
        <key name='zimbra_ldap_password'><value>ldapsecret</value></key>\
        <key name='zimbra_mysql_password'><value>mysqlsecret</value></key></localconfig>";

    fn config(text: &str, local: Option<&str>) -> Config {
        Config {
            path: None,
            file: File::parse(text, Path::new("zlm.toml")).unwrap(),
            local: local.map(|local| LocalConfig::parse(local.as_bytes()).unwrap()),
        }
    }

    fn host(name: &str) -> Host {
        name.parse().unwrap()
    }

    #[test]
    fn a_zimbra_host_needs_no_file() {
        let config = config("", Some(LOCAL));
        let ldap = config.ldap().unwrap();
        assert_eq!(ldap.master, ["ldap://ldap1.lab.test:389"]);
        assert_eq!(ldap.all.len(), 2);
        assert!(ldap.start_tls && ldap.password.expose() == "ldapsecret");
        assert_eq!(ldap.bind_dn, "uid=zimbra,cn=admins,cn=zimbra");
        assert!(config.store(&host("store1.lab.test")).unwrap().local);
        assert!(!config.store(&host("store2.lab.test")).unwrap().local);
        assert!(!format!("{config:?}{ldap:?}").contains("ldapsecret"));
    }

    #[test]
    fn the_file_comes_first() {
        let config = config(
            "[ldap]\nserver = 'l.test'\nuser = 'cn=me'\npassword = 'mine'\n[soap]\nca = '/ca.pem'\nuser = 'adm'\n\
             [store.'store2.lab.test'.mysql]\nport = 3306\npassword = 'other'\n[store.'store2.lab.test'.soap]\nport = 9071\n\
             [store.'store2.lab.test'.ssh]\nhost = '10.77.0.22'\nport = 2222\nuser = 'mover'\n",
            Some(LOCAL),
        );
        let ldap = config.ldap().unwrap();
        assert_eq!(
            (ldap.master, ldap.bind_dn.as_str(), ldap.password.expose()),
            (vec!["ldap://l.test:389".into()], "cn=me", "mine")
        );
        let soap = config.soap().unwrap();
        assert_eq!((soap.server, soap.port, soap.user.as_str()), (Some(host("store1.lab.test")), 7071, "adm"));
        assert_eq!(soap.ports, [(host("store2.lab.test"), 9071)]);
        assert_eq!(soap.trust, Trust::Ca("/ca.pem".into()));
        let remote = LocalConfig::parse(LOCAL.as_bytes()).unwrap();
        let mysql = config.mysql(&host("store2.lab.test"), &remote).unwrap();
        assert_eq!((mysql.port, mysql.user.as_str(), mysql.password.expose()), (3306, "zimbra", "other"));
        assert_eq!(config.mysql(&host("store3.lab.test"), &remote).unwrap().password.expose(), "mysqlsecret");
        let ssh = config.store(&host("store2.lab.test")).unwrap().ssh;
        assert_eq!((ssh.host.as_str(), ssh.port, ssh.user.as_str()), ("10.77.0.22", 2222, "mover"));
    }

    #[test]
    fn stores_have_a_key_for_one_another() {
        let key = |text: &str, store: &str| config(text, None).store(&host(store)).unwrap().store_key;
        assert_eq!(key("", "a.test"), Path::new("/opt/zimbra/.ssh/zimbra_identity"));
        let text = "[ssh]\nstore_key = '/k'\n[store.'b.test'.ssh]\nstore_key = '/of-b'\n";
        assert_eq!((key(text, "a.test"), key(text, "b.test")), ("/k".into(), "/of-b".into()));
        assert_eq!(key("[store.'a.test']\nzimbra_home = '/z'\n", "a.test"), Path::new("/z/.ssh/zimbra_identity"));
    }

    #[test]
    fn a_copy_leaves_room_unless_told_otherwise() {
        let usual = config("", None).throttle();
        assert_eq!((usual.rows_per_second, usual.threads_running, usual.lag), (None, Some(40), Some(60)));
        let set =
            config("[throttle]\nrows_per_second = 500\nthreads_running = 0\nlag = 5\npatience = 20\n", None).throttle();
        assert_eq!((set.rows_per_second, set.threads_running, set.lag), (Some(500), None, Some(5)));
        assert_eq!(set.patience, Duration::from_secs(20));
        assert_eq!(config("", None).patience(), Duration::from_secs(600));
        assert_eq!(config("[retry]\npatience = 0\n", None).patience(), Duration::ZERO);
        assert_eq!(config("", None).connections(), 4);
        assert_eq!(config("[limits]\nconnections = 2\n", None).connections(), 2);
    }

    #[test]
    fn without_either_the_setting_is_named() {
        let e = config("", None).ldap().unwrap_err();
        assert_eq!((e.kind(), e.message().starts_with("ldap.url:")), (Kind::Config, true), "{e}");
    }

    #[test]
    fn pins() {
        let hex = "AB".repeat(32);
        let colons = vec!["ab"; 32].join(":");
        assert_eq!(parse_pin(&hex).unwrap(), [0xab; 32]);
        assert_eq!(parse_pin(&format!("sha256:{colons}")).unwrap(), [0xab; 32]);
        assert!(parse_pin(&"é".repeat(32)).is_err());
        assert!(parse_pin("abc").is_err());
    }
}
