//! A mail store as zlm reaches it: a shell, its MariaDB, what its localconfig says.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rate::{Rate, Speed};
use crate::cancel::Cancel;
use crate::clients::db::{Address, Fences, Gauge, Lease, Pool, Target, pair};
use crate::clients::ssh::{Input, Limit, Link, Onward, Options, RunDir, Shell};
use crate::config::{Config, LocalConfig, StoreSettings};
use crate::error::{Context, Kind, Result};
use crate::zimbra::ids::GroupCount;
use crate::zimbra::server::Server;

/// How busy its MariaDB is, how fast rows may go into it, and how fast work went so far.
struct Paces {
    gauge: Gauge,
    rows: Rate,
    bytes: Rate,
    comparing: Speed,
    inserting: Speed,
    copying: Speed,
}

/// A connected mail store.
pub struct Store {
    db: Pool,
    connected: Arc<Connected>,
    /// What ends what is waited for here.
    cancel: Cancel,
}

/// What all who use a store share.
struct Connected {
    server: Server,
    home: PathBuf,
    shell: Shell,
    local: LocalConfig,
    pace: Paces,
    is_local: bool,
    rsync: String,
    /// How often rows of a table were written, by `database.table`.
    writes: Mutex<HashMap<String, u64>>,
    /// Directories all of whose files are on disk, as far as this process knows.
    synced: Mutex<BTreeSet<String>>,
    /// What was looked at and found fine.
    fine: Mutex<BTreeSet<String>>,
}

impl Store {
    /// Connects to a store: by ssh unless it is this host, then to its MariaDB with the password that its own
    /// localconfig holds.
    pub(super) fn connect(config: &Config, server: Server, run_dir: Arc<RunDir>, cancel: &Cancel) -> Result<Self> {
        let settings = config.store(&server.host)?;
        let shell = shell(&settings, &run_dir, cancel)?;
        let local = local_config(&shell, &settings.zimbra_home, cancel)?;
        // The connection is asked for this name every time: a tunnel to a wrong end would copy a wrong mailbox.
        let uname = shell.expect(&["uname", "-n"], Input::None, Limit::default(), cancel)?;
        let hostname = String::from_utf8_lossy(&uname).trim().to_owned();
        let target = target(config, &server, &local, &shell, hostname, cancel)?;
        let gauge = Gauge::new(target.clone());
        let db = Pool::new(target, config.connections());
        let (rows, bytes) = (Rate::default(), Rate::default());
        let (comparing, inserting, copying) = (Speed::default(), Speed::default(), Speed::default());
        let rsync = config.rsync_path();
        let connected = Arc::new(Connected {
            server,
            home: settings.zimbra_home,
            shell,
            local,
            pace: Paces { gauge, rows, bytes, comparing, inserting, copying },
            is_local: settings.local,
            rsync,
            writes: Mutex::default(),
            synced: Mutex::default(),
            fine: Mutex::default(),
        });
        Ok(Self { db, connected, cancel: cancel.clone() })
    }

    /// The same store for a run: what that waits for ends when its `cancel` says so.
    pub(super) fn of_run(&self, cancel: Cancel) -> Self {
        Self { db: self.db.clone(), connected: Arc::clone(&self.connected), cancel }
    }

    /// The same store for a run that holds accounts on it: its transactions ask for `fences` first.
    pub fn fenced(&self, fences: Fences) -> Self {
        let (connected, cancel) = (Arc::clone(&self.connected), self.cancel.clone());
        Self { db: self.db.fenced(fences), connected, cancel }
    }

    /// Its name, as in zimbraMailHost.
    pub fn name(&self) -> &str {
        self.connected.server.host.as_str()
    }

    /// What the directory says of it.
    pub fn server(&self) -> &Server {
        &self.connected.server
    }

    /// Where commands run on it.
    pub fn shell(&self) -> &Shell {
        &self.connected.shell
    }

    /// Connections to its MariaDB.
    pub fn db(&self) -> &Pool {
        &self.db
    }

    /// A connection to its MariaDB.
    pub fn session(&self) -> Result<Lease> {
        self.db.get(&self.cancel)
    }

    /// A connection to its MariaDB and one to another store's: who needs both asks for both at once.
    pub fn session_with(&self, other: &Self) -> Result<(Lease, Lease)> {
        pair(&self.db, &other.db, &self.cancel)
    }

    /// How busy its MariaDB is.
    pub fn gauge(&self) -> &Gauge {
        &self.connected.pace.gauge
    }

    /// Rows that go into it.
    pub fn rows_rate(&self) -> &Rate {
        &self.connected.pace.rows
    }

    /// Bytes of rows that go into it.
    pub fn bytes_rate(&self) -> &Rate {
        &self.connected.pace.bytes
    }

    /// How fast rows of a source were compared with its own, a table at a time.
    pub fn comparing(&self) -> &Speed {
        &self.connected.pace.comparing
    }

    /// How fast rows were inserted, a batch at a time.
    pub fn inserting(&self) -> &Speed {
        &self.connected.pace.inserting
    }

    /// How fast files were copied to it.
    pub fn copying(&self) -> &Speed {
        &self.connected.pace.copying
    }

    /// The flag that ends what is waited for here.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Whether it is this host.
    pub fn is_local(&self) -> bool {
        self.connected.is_local
    }

    /// Where Zimbra is installed on it.
    pub fn home(&self) -> &Path {
        &self.connected.home
    }

    /// The rsync program on it.
    pub fn rsync(&self) -> &str {
        &self.connected.rsync
    }

    /// What its localconfig says.
    pub fn local_config(&self) -> &LocalConfig {
        &self.connected.local
    }

    /// Notes that rows of a table are about to be written; gives how often they were, this time included.
    pub fn note_write(&self, database: &str, table: &str) -> u64 {
        let mut writes = lock(&self.connected.writes);
        let count = writes.entry(format!("{database}.{table}")).or_default();
        *count += 1;
        *count
    }

    /// How often rows of a table were written.
    pub fn writes(&self, database: &str, table: &str) -> u64 {
        lock(&self.connected.writes).get(&format!("{database}.{table}")).copied().unwrap_or_default()
    }

    /// Notes that files of a directory are about to be written.
    pub fn note_files(&self, directory: &str) {
        lock(&self.connected.synced).remove(directory.trim_end_matches('/'));
    }

    /// Whether files of a directory may still wait in memory: those too that another process wrote, which died.
    pub fn is_unsynced(&self, directory: &str) -> bool {
        !lock(&self.connected.synced).contains(directory.trim_end_matches('/'))
    }

    /// Runs `sync`, which brings a directory's files to disk. What is written meanwhile counts as not synced.
    pub fn synced(&self, directory: &str, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        lock(&self.connected.synced).insert(directory.trim_end_matches('/').to_owned());
        sync().inspect_err(|_| self.note_files(directory))
    }

    /// What a look at the store finds against it; `what` that was found fine once is not looked at again.
    pub fn checked(&self, what: &str, look: impl FnOnce() -> Result<Vec<String>>) -> Result<Vec<String>> {
        if lock(&self.connected.fine).contains(what) {
            return Ok(Vec::new());
        }
        let found = look()?;
        if found.is_empty() {
            lock(&self.connected.fine).insert(what.to_owned());
        }
        Ok(found)
    }

    /// How many mailbox groups it has.
    pub fn groups(&self) -> Result<GroupCount> {
        self.connected.local.groups()
    }

    /// The text of a file on it, at most a mebibyte.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let path = path.to_string_lossy();
        self.connected.shell.expect(&["cat", "--", &path], Input::None, Limit::default(), &self.cancel)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data, valid whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shell(settings: &StoreSettings, run_dir: &Arc<RunDir>, cancel: &Cancel) -> Result<Shell> {
    if settings.local {
        return Ok(Shell::Local { user: run_dir.user().cloned() });
    }
    let mut options = Options::new(settings.ssh.host.as_str(), run_dir.clone());
    options.port = Some(settings.ssh.port);
    options.user = settings.ssh.user.clone();
    options.identity = settings.ssh.identity.clone();
    options.known_hosts = settings.ssh.known_hosts.clone();
    options.connect_timeout = settings.ssh.connect_timeout;
    options.onward =
        Some(Onward { identity: settings.store_key.clone(), known_hosts: settings.store_known_hosts.clone() });
    Ok(Shell::Remote(Arc::new(Link::open(options, cancel)?)))
}

fn local_config(shell: &Shell, home: &Path, cancel: &Cancel) -> Result<LocalConfig> {
    let path = home.join("conf/localconfig.xml");
    let path = path.to_string_lossy();
    let text = shell.expect(&["cat", "--", &path], Input::None, Limit::default(), cancel)?;
    LocalConfig::parse(&text).context(Kind::Config, || format!("{shell}: {path}"))
}

fn target(
    config: &Config,
    server: &Server,
    local: &LocalConfig,
    shell: &Shell,
    hostname: String,
    cancel: &Cancel,
) -> Result<Target> {
    let mysql = config.mysql(&server.host, local)?;
    let address = match (shell, mysql.socket) {
        (Shell::Remote(link), _) => {
            let socket = link.forward(mysql.port, cancel)?;
            Address::Tunnel { socket, link: link.clone(), cancel: cancel.clone() }
        }
        (Shell::Local { .. }, Some(socket)) if socket.exists() => Address::Socket(socket),
        _ => Address::Tcp { host: mysql.host.to_string(), port: mysql.port },
    };
    Ok(Target {
        store: server.host.to_string(),
        address,
        user: mysql.user,
        password: mysql.password,
        hostname: Some(hostname),
    })
}
