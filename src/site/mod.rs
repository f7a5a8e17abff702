//! One Zimbra site as zlm reaches it: the directory, admin SOAP, and the stores. Everything is connected when
//! it is first asked for, and kept.

mod rate;
mod store;

pub use crate::config::Throttle;
pub use rate::{Rate, Speed};
pub use store::Store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::cancel::Cancel;
use crate::clients::ldap::Directory;
use crate::clients::soap::Admin;
use crate::clients::ssh::{Link, RunDir, Shell, User};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::zimbra::account::Account;
use crate::zimbra::ids::{Host, ZimbraId};
use crate::zimbra::server::Server;

/// A port of this host that leads to a store's MariaDB.
pub struct Tunnel {
    link: Arc<Link>,
    cancel: Cancel,
}

impl Tunnel {
    /// Fails with [`Kind::Unreachable`] when the connection behind it is gone.
    pub fn check(&self) -> Result<()> {
        match self.link.is_alive(&self.cancel) {
            true => Ok(()),
            false => Err(Error::new(
                Kind::Unreachable,
                format!("tunnel to {}: the connection ended", self.link.options().host),
            )
            .retryable()),
        }
    }
}

/// A site, described by the configuration, as one run uses it, or a command that is about none.
pub struct Site {
    shared: Arc<Shared>,
    cancel: Cancel,
}

/// What all who use a site share.
struct Shared {
    config: Arc<Config>,
    /// What ends what nobody has for himself, such as connections.
    cancel: Cancel,
    run_dir: OnceLock<Arc<RunDir>>,
    directory: OnceLock<Arc<Directory>>,
    admin: OnceLock<Arc<Admin>>,
    servers: OnceLock<Vec<Server>>,
    stores: Mutex<HashMap<String, Store>>,
    /// Held while something is connected, so that nothing is connected twice.
    connecting: Mutex<()>,
}

impl Site {
    /// The site of `config`; connects to nothing yet. What it waits for ends when `cancel` says so.
    pub fn new(config: Arc<Config>, cancel: Cancel) -> Result<Self> {
        let shared = Arc::new(Shared {
            config,
            cancel: cancel.clone(),
            run_dir: OnceLock::new(),
            directory: OnceLock::new(),
            admin: OnceLock::new(),
            servers: OnceLock::new(),
            stores: Mutex::default(),
            connecting: Mutex::default(),
        });
        Ok(Self { shared, cancel })
    }

    /// The same site for a run: what that waits for ends when its `cancel` says so, for want of time too.
    pub fn of_run(&self, cancel: Cancel) -> Self {
        Self { shared: Arc::clone(&self.shared), cancel }
    }

    /// The configuration.
    pub fn config(&self) -> &Arc<Config> {
        &self.shared.config
    }

    /// The flag that ends what this site waits for.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The directory. Fails with [`Kind::Config`], [`Kind::Denied`], [`Kind::Unreachable`].
    pub fn directory(&self) -> Result<Arc<Directory>> {
        self.once(&self.shared.directory, || Ok(Arc::new(Directory::new(self.config().ldap()?)?)))
    }

    /// Admin SOAP of all stores. Fails with [`Kind::Config`].
    pub fn admin(&self) -> Result<Arc<Admin>> {
        self.once(&self.shared.admin, || Ok(Arc::new(Admin::new(self.config().soap()?)?)))
    }

    /// Every server that the directory knows.
    pub fn servers(&self) -> Result<Vec<Server>> {
        let directory = self.directory()?;
        self.once(&self.shared.servers, || directory.servers(None))
    }

    /// The server that accounts name in zimbraMailHost. Fails with [`Kind::NotFound`] when there is none.
    pub fn server(&self, host: &Host) -> Result<Server> {
        let servers = self.servers()?;
        servers.iter().find(|s| s.host.as_str().eq_ignore_ascii_case(host.as_str())).cloned().ok_or_else(|| {
            let known: Vec<_> = servers.iter().filter(|s| s.is_store()).map(|s| s.host.to_string()).collect();
            Error::new(Kind::NotFound, format!("server {host}: the directory knows no such server"))
                .hint(format!("the mail stores are {}", known.join(", ")))
        })
    }

    /// The account `id`, as the directory's master has it now. Fails with [`Kind::NotFound`] when it is gone.
    pub fn account(&self, id: &ZimbraId) -> Result<Account> {
        let gone = || Error::new(Kind::NotFound, format!("account {id}: is not in the directory any more"));
        self.directory()?.account_by_id(id)?.ok_or_else(gone)
    }

    /// The store `name`, connected. Fails with [`Kind::NotFound`] when the directory knows no such store, and as
    /// ssh and MariaDB do.
    pub fn store(&self, name: &str) -> Result<Arc<Store>> {
        let host: Host = name.parse()?;
        let server = self.server(&host)?;
        if !server.is_store() {
            return Err(Error::new(Kind::NotFound, format!("server {host}: is not a mail store"))
                .hint("zimbraServiceEnabled of a mail store has `mailbox`"));
        }
        let _connecting = lock(&self.shared.connecting);
        if let Some(store) = lock(&self.shared.stores).get(host.as_str()) {
            return Ok(Arc::new(store.of_run(self.cancel.clone())));
        }
        let store = Store::connect(self.config(), server, self.run_dir()?, &self.shared.cancel)?;
        let own = Arc::new(store.of_run(self.cancel.clone()));
        lock(&self.shared.stores).insert(host.to_string(), store);
        Ok(own)
    }

    /// A port of this host that leads to a store's MariaDB, for as long as the tunnel is kept.
    ///
    /// Fails with [`Kind::Usage`] for the store that is this host, which needs none.
    pub fn tunnel(&self, name: &str, port: u16) -> Result<Tunnel> {
        let store = self.store(name)?;
        let Shell::Remote(link) = store.shell() else {
            return Err(Error::new(Kind::Usage, format!("{name}: is this host; its MariaDB needs no tunnel")));
        };
        let there = self.config().mysql(&store.server().host, store.local_config())?.port;
        link.forward_port(port, there, &self.cancel)?;
        Ok(Tunnel { link: link.clone(), cancel: self.cancel.clone() })
    }

    /// The private directory for sockets of this run; it belongs to the user that owns Zimbra's files.
    fn run_dir(&self) -> Result<Arc<RunDir>> {
        if let Some(dir) = self.shared.run_dir.get() {
            return Ok(dir.clone());
        }
        // Only root can become another user; anybody else works as who they are.
        let user = match rustix::process::geteuid().is_root() {
            true => Some(User::lookup(self.config().zimbra_user())?),
            false => None,
        };
        let dir = Arc::new(RunDir::new(user)?);
        Ok(self.shared.run_dir.get_or_init(|| dir).clone())
    }

    fn once<T: Clone>(&self, cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some(value) = cell.get() {
            return Ok(value.clone());
        }
        let _connecting = lock(&self.shared.connecting);
        if let Some(value) = cell.get() {
            return Ok(value.clone());
        }
        let value = make()?;
        Ok(cell.get_or_init(|| value).clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What it guards is valid whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
