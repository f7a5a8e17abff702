//! This mail store: everything one mailboxd is made of.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lab_mail::volume::{self, Volumes};
use mysql::{OptsBuilder, Pool, PoolConstraints, PoolOpts};
use parking_lot::{Mutex, RwLock};

use crate::directory::{Address, Directory};
use crate::entry::{self, Entry};
use crate::fault::{Fault, Outcome};
use crate::lmtp::Lmtp;
use crate::localconfig::LocalConfig;
use crate::mailbox::mailboxes::Mailboxes;
use crate::memcached::Memcached;
use crate::request_log::RequestLog;
use crate::script::Script;
use crate::tls;
use crate::token::Tokens;

const DATABASE_TIMEOUT: Duration = Duration::from_secs(60);
const START_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 20;

/// One mailboxd.
pub struct Store {
    /// Its name in `zimbraMailHost`.
    pub host: String,
    /// `/opt/zimbra`.
    pub home: PathBuf,
    /// `zimbra_mailbox_groups`.
    pub group_count: u32,
    /// The directory, and what is believed about it.
    pub directory: Directory,
    /// The database.
    pub pool: Pool,
    /// Mailboxes.
    pub mailboxes: Mailboxes,
    /// Tokens of administrators.
    pub tokens: Tokens,
    /// How other stores are recognised.
    pub tls: Arc<rustls::ClientConfig>,
    /// Faults on demand.
    pub script: Script,
    /// What was called.
    pub log: RequestLog,
    /// Whether the purge and the indexer rest: a judge who compares copies must be alone with them.
    pub resting: AtomicBool,
    /// Accounts whose mailbox is being indexed anew; whether a test holds it so.
    pub reindexing: Mutex<HashMap<String, bool>>,
    /// Whether keys of mailboxd in memcached are hashed, as since 9.0.0 patch 25.
    pub hashed_keys: Arc<AtomicBool>,
    /// Delivery.
    pub lmtp: Lmtp,
    memory: RwLock<Memory>,
}

/// What is read at start.
struct Memory {
    volumes: Arc<Volumes>,
    memcached: Arc<Memcached>,
}

/// Where a store finds what it needs.
pub struct Places<'a> {
    /// Its name in `zimbraMailHost`.
    pub host: &'a str,
    /// `/opt/zimbra`.
    pub home: &'a Path,
    /// The directory; nothing: as the local config says.
    pub ldap: Option<&'a str>,
    /// The certificate authority.
    pub ca: &'a Path,
    /// The request log.
    pub log: &'a Path,
}

impl Store {
    /// Reads the local config, connects, reads the map of mailboxes.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn start(places: &Places<'_>) -> Result<Arc<Self>, String> {
        let config = LocalConfig::read(&places.home.join("conf/localconfig.xml"))?;
        let tls = tls::client(places.ca)?;
        let pool = wait_for_database(&config)?;
        let url = places.ldap.map_or_else(|| config.get("ldap_url", ""), String::from);
        let url = url.split_whitespace().next().unwrap_or_default().to_string();
        let start_tls = url.starts_with("ldap://") && config.get("ldap_starttls_supported", "0") == "1";
        let address = Address {
            url,
            start_tls,
            tls: Arc::clone(&tls),
            user: config.get("zimbra_ldap_userdn", "uid=zimbra,cn=admins,cn=zimbra"),
            password: config.get("zimbra_ldap_password", ""),
        };
        let tokens = Tokens::new(&address.password);
        let minutes = config.get("ldap_cache_account_maxage", "15").parse().unwrap_or(15);
        let directory = Directory::new(address, places.host, Duration::from_secs(60 * minutes));
        let hashed_keys = Arc::new(AtomicBool::new(true));
        let memory = read_memory(&directory, &pool, places.home, &hashed_keys).map_err(|f| f.to_string())?;
        let log =
            RequestLog::open(places.log).map_err(|e| format!("{}: cannot open log: {e}", places.log.display()))?;
        let store = Self {
            host: places.host.into(),
            home: places.home.into(),
            group_count: config.get("zimbra_mailbox_groups", "100").parse().unwrap_or(100),
            directory,
            pool,
            mailboxes: Mailboxes::default(),
            tokens,
            tls,
            script: Script::default(),
            log,
            resting: AtomicBool::new(false),
            reindexing: Mutex::default(),
            hashed_keys,
            lmtp: Lmtp::default(),
            memory: RwLock::new(memory),
        };
        store.mailboxes.start(&store.pool).map_err(|f| f.to_string())?;
        Ok(Arc::new(store))
    }

    /// Loses everything that a restart loses: caches, the map, mailboxes in memory, lockouts.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn restart(&self) -> Outcome<()> {
        self.directory.flush("all");
        self.lmtp.forget();
        self.reindexing.lock().clear();
        self.mailboxes.start(&self.pool)?;
        *self.memory.write() = read_memory(&self.directory, &self.pool, &self.home, &self.hashed_keys)?;
        Ok(())
    }

    /// The volumes.
    pub fn volumes(&self) -> Arc<Volumes> {
        Arc::clone(&self.memory.read().volumes)
    }

    /// The memcached servers of mailboxd.
    pub fn memcached(&self) -> Arc<Memcached> {
        Arc::clone(&self.memory.read().memcached)
    }

    /// This server's entry.
    ///
    /// # Errors
    /// `service.FAILURE` when there is none.
    pub fn server(&self) -> Outcome<Entry> {
        self.directory
            .server_of(&self.host)?
            .ok_or_else(|| Fault::failure(format!("{}: no such server in the directory", self.host)))
    }

    /// Writes new content where blobs come in, on the current message volume.
    ///
    /// # Errors
    /// `service.FAILURE`.
    pub fn incoming(&self, bytes: &[u8]) -> Outcome<Incoming> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let volumes = self.volumes();
        let volume = volumes.current_message();
        let dir = volume.root.join("incoming");
        volume::make_dirs(&volume.root, &dir)?;
        let name = format!("mailboxd-{}-{}.msg", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let size = bytes.len() as u64;
        let incoming = Incoming { path: dir.join(name), volume: volume.id, digest: volume::digest(bytes), size };
        volume::write_file(&incoming.path, bytes, volume.compress && size > volume.compression_threshold)?;
        Ok(incoming)
    }
}

/// Content that has no place in a mailbox yet. The file goes with this value; links made from it stay.
pub struct Incoming {
    /// The file.
    pub path: PathBuf,
    /// Its volume.
    pub volume: u8,
    /// `blob_digest`.
    pub digest: String,
    /// Uncompressed bytes.
    pub size: u64,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // What cannot be removed is garbage in `incoming`, which nobody looks at.
        let _ = fs::remove_file(&self.path);
    }
}

fn read_memory(directory: &Directory, pool: &Pool, home: &Path, hashed: &Arc<AtomicBool>) -> Outcome<Memory> {
    let volumes = Volumes::read(&mut pool.get_conn()?, home)?;
    let memcached = Memcached::new(memcached_servers(directory)?, Arc::clone(hashed));
    Ok(Memory { volumes: Arc::new(volumes), memcached: Arc::new(memcached) })
}

/// The servers named in `zimbraMemcachedClientServerList`, of this server or of all. Where a lab names none,
/// those that run memcached: the real mailboxd would use none, and a test of its keys would test nothing.
fn memcached_servers(directory: &Directory) -> Outcome<Vec<String>> {
    let name = "zimbraMemcachedClientServerList";
    let own = directory.server_of(&directory.host)?.unwrap_or_default();
    let config = directory.config()?;
    let list = if own.all(name).is_empty() { config.all(name) } else { own.all(name) };
    if list.is_empty() {
        return route_servers(directory);
    }
    let list = list.iter().flat_map(|v| v.split([',', ' '])).filter(|v| !v.is_empty());
    Ok(list.map(|v| if v.contains(':') { v.to_string() } else { format!("{v}:11211") }).collect())
}

/// All memcached servers of the proxies, as `host:port`.
///
/// # Errors
/// `service.FAILURE` when the directory cannot be read.
pub fn route_servers(directory: &Directory) -> Outcome<Vec<String>> {
    let servers = directory.servers()?;
    let servers = servers.iter().filter(|s| s.runs("memcached"));
    Ok(servers.map(|s| format!("{}:{}", s.service_host(), s.port("zimbraMemcachedBindPort", 11211))).collect())
}

/// The lifetime of an administrator's token.
///
/// # Errors
/// `service.FAILURE` when the directory cannot be read.
pub fn token_lifetime(directory: &Directory) -> Outcome<Duration> {
    let config = directory.config()?;
    let configured = config.get("zimbraAdminAuthTokenLifetime").and_then(entry::duration);
    Ok(configured.unwrap_or(Duration::from_secs(12 * 3600)))
}

fn wait_for_database(config: &LocalConfig) -> Result<Pool, String> {
    let port = config.get("mysql_port", "7306");
    let constraints = PoolConstraints::new(0, CONNECTIONS).ok_or("0 is not above the number of connections")?;
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(config.get("mysql_bind_address", "127.0.0.1")))
        .tcp_port(port.parse().map_err(|_| format!("mysql_port: {port} is not a port"))?)
        .user(Some(config.get("zimbra_mysql_user", "zimbra")))
        .pass(Some(config.get("zimbra_mysql_password", "")))
        .prefer_socket(false)
        .read_timeout(Some(DATABASE_TIMEOUT))
        .write_timeout(Some(DATABASE_TIMEOUT))
        .init(vec!["SET NAMES utf8".to_string()])
        .pool_opts(PoolOpts::default().with_constraints(constraints));
    let until = Instant::now() + START_TIMEOUT;
    loop {
        let opened = Pool::new(options.clone()).and_then(|pool| pool.get_conn().map(|_| pool));
        match opened {
            Err(e) if Instant::now() > until => return Err(format!("database: cannot connect: {e}")),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
            Ok(pool) => return Ok(pool),
        }
    }
}
