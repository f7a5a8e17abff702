//! Copying a tree from store to store.

use std::fmt;
use std::sync::Arc;

use crate::blobs::Tree;
use crate::cancel::Cancel;
use crate::clients::rsync::{self, Progress, Transfer, Transferred, What};
use crate::clients::ssh::{Options, Shell};
use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Watch};
use crate::run::Run;
use crate::site::{Site, Store};

/// A directory on a store.
#[derive(Clone)]
pub struct Place {
    /// The store.
    pub store: Arc<Store>,
    /// The directory, absolute.
    pub path: String,
    /// The mailbox that it is of. Zimbra makes such a directory with the first file in it: until then it is empty.
    tree: Option<Tree>,
    /// Whether it is of a copy, for which `stage` makes the directories.
    is_staged: bool,
}

impl Place {
    /// A directory of a store. Fails with [`Kind::Usage`] for a path that is not absolute or goes up.
    pub fn new(store: &Arc<Store>, path: &str) -> Result<Self> {
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(Error::new(Kind::Usage, format!("path {path}: must be absolute, without `..`")));
        }
        Ok(Self { store: store.clone(), path: path.to_owned(), tree: None, is_staged: false })
    }

    /// A directory of a mailbox. Fails as [`Place::new`] does.
    pub(super) fn of(store: &Arc<Store>, tree: &Tree, path: &str) -> Result<Self> {
        Ok(Self { tree: Some(tree.clone()), ..Self::new(store, path)? })
    }

    /// Whether there is something to copy: a directory of a mailbox may be not there, any other must be.
    ///
    /// Fails as [`Tree::has`] does.
    fn is_there(&self, cancel: &Cancel) -> Result<bool> {
        self.tree.as_ref().map_or(Ok(true), |tree| tree.has(&self.path, cancel))
    }

    /// The same directory, as one of a copy.
    pub(super) fn staged(self) -> Self {
        Self { is_staged: true, ..self }
    }

    fn to_client(&self) -> rsync::Place {
        let mut place = rsync::Place::new(self.store.shell().clone(), self.path.clone());
        place.rsync = self.store.rsync().to_owned();
        place
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store.name(), self.path)
    }
}

/// Copies a tree.
pub struct Rsync {
    /// The site.
    pub site: Arc<Site>,
    /// Where from.
    pub from: Place,
    /// Where to.
    pub to: Place,
    /// KiB a second at most.
    pub bwlimit: Option<u32>,
    /// Whether what the source does not have is deleted.
    pub delete: bool,
    /// Whether files may vanish meanwhile.
    pub vanishing: bool,
    /// Whether contents are compared.
    pub checksum: bool,
    /// Whether processor and disk are left to others.
    pub gentle: bool,
}

/// How a copy leaves room for others.
pub struct Room {
    /// KiB a second at most.
    pub bwlimit: Option<u32>,
    /// Whether processor and disk are left to others.
    pub gentle: bool,
}

/// What a script asks for, else what is configured for copies while users work; nothing while the user waits.
pub fn room(run: &Run, bwlimit: Option<u32>, gentle: Option<bool>, users_work: bool) -> Room {
    if run.is_frozen() {
        return Room { bwlimit: None, gentle: false };
    }
    let usual = &run.site.config().file.rsync;
    Room {
        bwlimit: bwlimit.or(usual.bwlimit.filter(|_| users_work)),
        gentle: gentle.unwrap_or(users_work && usual.gentle.unwrap_or(true)),
    }
}

impl Rsync {
    fn transfer(&self) -> Result<Transfer> {
        let mut transfer = transfer(&self.from, &self.to)?;
        transfer.make = !self.to.is_staged;
        transfer.bandwidth = self.bwlimit;
        transfer.delete = self.delete;
        transfer.vanished_is_normal = self.vanishing;
        transfer.gentle = self.gentle;
        transfer.checksum = self.checksum;
        Ok(transfer)
    }
}

/// Copies a tree whose source may be not there, also from one moment to the next: then it is empty, and so is a copy that
/// deletes.
pub(super) fn copy_tree(
    transfer: &Transfer,
    from: &Place,
    to: &Place,
    cancel: &Cancel,
    told: &mut dyn FnMut(Progress),
) -> Result<Transferred> {
    if from.is_there(cancel)? {
        match transfer.run(What::Tree, cancel, told) {
            Err(error) if error.kind() == Kind::NotFound && !from.is_there(cancel)? => {}
            done => return done,
        }
    }
    match transfer.delete && to.is_there(cancel)? {
        true => transfer.clear(cancel),
        false => Ok(Transferred::default()),
    }
}

/// A transfer from one place to another, by the way that the source's host has to the destination's.
pub(super) fn transfer(from: &Place, to: &Place) -> Result<Transfer> {
    transfer_between(from.to_client(), to.to_client())
}

/// The same into a staged copy, for places as the client knows them.
pub(super) fn transfer_into_copy(from: rsync::Place, to: rsync::Place) -> Result<Transfer> {
    let mut transfer = transfer_between(from, to)?;
    transfer.make = false;
    Ok(transfer)
}

fn transfer_between(from: rsync::Place, to: rsync::Place) -> Result<Transfer> {
    let mut transfer = Transfer::new(from, to);
    if let (Shell::Remote(from), Shell::Remote(to)) = (&transfer.from.shell, &transfer.to.shell) {
        transfer.route = Some(route(from.options(), to.options()));
    }
    Ok(transfer)
}

/// How one store logs in to another: with the key and the known hosts that it has for that.
fn route(from: &Options, to: &Options) -> Options {
    let mut route = to.clone();
    route.identity = from.onward.as_ref().map(|onward| onward.identity.clone());
    route.known_hosts = from.onward.as_ref().map(|onward| onward.known_hosts.clone());
    route
}

impl Operation for Rsync {
    type Output = Transferred;

    fn name(&self) -> &'static str {
        "rsync"
    }

    fn describe(&self) -> String {
        format!("{} to {}", self.from, self.to)
    }

    fn details(&self) -> Result<Vec<String>> {
        let (transfer, cancel) = (self.transfer()?, self.site.cancel());
        let counted = match self.from.is_there(cancel)? {
            true => transfer.count(What::Tree, cancel),
            false => Ok(Transferred::default()),
        };
        let counted = match counted {
            Err(error) if error.kind() == Kind::NotFound && !self.from.is_there(cancel)? => Transferred::default(),
            counted => counted?,
        };
        Ok(vec![transfer.describe(&What::Tree), format!("{} files, {} bytes", counted.files, counted.bytes)])
    }

    fn outcome(&self, done: &Transferred) -> String {
        format!("{} files, {} bytes", done.files, done.bytes)
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn pretend(&self) -> Result<Transferred> {
        Ok(Transferred::default())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Transferred> {
        let transfer = self.transfer()?;
        self.to.store.note_files(&self.to.path);
        let told = &mut |progress: Progress| watch.progress("bytes", progress.bytes, None);
        watch.check_guard()?;
        let done = copy_tree(&transfer, &self.from, &self.to, watch.cancel(), told)?;
        if self.bwlimit.is_none() {
            self.to.store.copying().note(done.files, done.seconds);
        }
        Ok(done)
    }
}
