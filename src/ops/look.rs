//! Preflight: everything about moving an account to a store, and every reason against it, at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::blobs::still_lost;
use super::claim;
use super::kept::Kept;
use super::peers;
use crate::blobs::{Expected, Listing, Tree};
use crate::clients::db::Session;
use crate::clients::soap::MailboxProbe;
use crate::error::{Error, Kind, Result};
use crate::gate::{Effect, Operation, Watch};
use crate::rows;
use crate::run::{Run, Subject};
use crate::site::{Site, Store};
use crate::store::{self, MailboxRow};
use crate::zimbra::account::{Account, AccountStatus, FOLLOW_STATUS};
use crate::zimbra::blob::BlobName;
use crate::zimbra::ids::{Host, MailboxId};
use crate::zimbra::volume::{Current, Mapping, Volume, locator, map_volumes};

/// What a copy needs on disk beyond what its files weigh: directories, and what arrives meanwhile.
const SPARE_BYTES: u64 = 256 * 1024 * 1024;
/// How many lost blobs a problem names.
const SHOWN: usize = 5;

/// A mailbox on a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The store.
    pub store: String,
    /// Its row.
    pub row: MailboxRow,
}

/// A table with rows of the mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// Database at the source.
    pub database: String,
    /// Table.
    pub name: String,
    /// The mailbox's number at the source.
    pub mailbox: u32,
    /// Rows it has there.
    pub rows: u64,
}

/// What preflight found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Survey {
    /// The account.
    pub account: Account,
    /// Where it is.
    pub source: Host,
    /// Where it shall be.
    pub dest: Host,
    /// The mailbox's row at the source; none where the account has no mailbox there.
    pub row: Option<MailboxRow>,
    /// The tables that hold rows of it.
    pub tables: Vec<Table>,
    /// The source's volumes.
    pub source_volumes: Vec<Volume>,
    /// The destination's volumes.
    pub dest_volumes: Vec<Volume>,
    /// The destination's current volumes.
    pub current: Option<Current>,
    /// The source's volume that new blobs go to.
    pub receiving: Option<u8>,
    /// The source's volume that old blobs go to.
    #[serde(default)]
    pub ageing: Option<u8>,
    /// Which volume becomes which.
    pub mapping: Mapping,
    /// Blobs that rows name.
    pub blobs: u64,
    /// What their files weigh at the source, in bytes.
    pub bytes: u64,
    /// Every reason against the move.
    pub problems: Vec<String>,
    /// What should be known before it.
    pub warnings: Vec<String>,
    /// The copy at the destination that the mailbox goes back to, where it was moved away from there.
    #[serde(default)]
    pub kept: Option<Kept>,
    /// The command to run instead where this move is refused.
    #[serde(default)]
    pub instead: Option<String>,
}

impl Survey {
    /// A survey that has found nothing yet.
    pub(super) fn new(account: Account, source: Host, dest: Host) -> Self {
        Self {
            account,
            source,
            dest,
            row: None,
            tables: Vec::new(),
            source_volumes: Vec::new(),
            dest_volumes: Vec::new(),
            current: None,
            receiving: None,
            ageing: None,
            mapping: Mapping::default(),
            blobs: 0,
            bytes: 0,
            problems: Vec::new(),
            warnings: Vec::new(),
            kept: None,
            instead: None,
        }
    }

    /// Rows of the mailbox in all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Rows of the mailbox in the table of a dump.
    pub fn rows_of(&self, dump: &rows::Dump) -> u64 {
        let own = self.tables.iter().find(|table| table.database == dump.database && table.name == dump.table);
        own.map_or(0, |table| table.rows)
    }

    /// The mailbox at the source.
    pub fn mailbox(&self) -> Option<Found> {
        self.row.clone().map(|row| Found { store: self.source.to_string(), row })
    }

    /// The mailbox's row at the source. Fails with [`Kind::Refused`] where there is none.
    pub fn source_row(&self) -> Result<&MailboxRow> {
        self.row.as_ref().ok_or_else(|| {
            Error::new(Kind::Refused, format!("account {}: has no mailbox on {}", self.account.address, self.source))
        })
    }

    /// Fails with [`Kind::Refused`] and every reason against the move, if there is one.
    pub fn refuse(&self) -> Result<()> {
        match self.problems.as_slice() {
            [] => Ok(()),
            problems => {
                let message = format!("account {} to {}: {}", self.account.address, self.dest, problems.join("; "));
                let error = Error::new(Kind::Refused, message);
                Err(self.instead.iter().fold(error, |error, instead| error.hint(instead)))
            }
        }
    }
}

/// Surveys a move, and tells the run what it is about.
pub fn survey(run: &Run, account: &Account, dest: &str, allow_missing_blobs: bool) -> Result<Survey> {
    let look = Look {
        site: run.site.clone(),
        account: Arc::new(account.clone()),
        dest: dest.parse()?,
        allow_missing_blobs,
        run: run.id.clone(),
        holds: !run.claims.is_empty(),
        without: run.without().to_vec(),
    };
    tell(run, account, dest);
    run.gate.pass(&look)
}

/// Tells the run what it is about.
pub(super) fn tell(run: &Run, account: &Account, dest: &str) {
    if let Some(source) = &account.mail_host {
        run.set_subject(Subject {
            account_id: account.id.to_string(),
            email: account.address.to_string(),
            source: source.to_string(),
            dest: dest.to_owned(),
            status: account.status.to_string(),
            mail_status: account.mail_status.clone(),
        });
    }
}

/// Surveys a move.
struct Look {
    site: Arc<Site>,
    account: Arc<Account>,
    dest: Host,
    allow_missing_blobs: bool,
    run: String,
    /// Whether this run holds accounts itself.
    holds: bool,
    /// Servers that are left out.
    without: Vec<String>,
}

impl Operation for Look {
    type Output = Survey;

    fn name(&self) -> &'static str {
        "look"
    }

    fn describe(&self) -> String {
        format!("account {} to {}", self.account.address, self.dest)
    }

    fn outcome(&self, survey: &Survey) -> String {
        let Survey { blobs, bytes, problems, .. } = survey;
        format!("{} rows, {blobs} blobs, {bytes} bytes, {} problems", survey.rows(), problems.len())
    }

    fn effect(&self) -> Effect {
        Effect::Look
    }

    fn pretend(&self) -> Result<Survey> {
        self.look()
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Survey> {
        self.look()
    }
}

impl Look {
    fn look(&self) -> Result<Survey> {
        let mut survey = begun(&self.site, &self.account, &self.dest)?;
        if !self.dest(&mut survey)? {
            return Ok(survey);
        }
        let Some((source, dest)) = stores(&self.site, &mut survey, self.holds)? else { return Ok(survey) };
        self.servers(&mut survey, &source, &dest);
        let is_dest_there = peers::ask(&self.site, &mut survey, &self.without)?;
        survey.row = store::mailbox_by_account(&mut *source.session()?, survey.account.id.as_str())?;
        let Some(row) = survey.row.clone() else {
            survey.problems.push(format!(
                "it has no mailbox on {}: nobody ever logged in and no mail came; set zimbraMailHost, nothing has to be copied",
                survey.source
            ));
            return Ok(survey);
        };
        self.leftovers(&mut survey, &dest, is_dest_there)?;
        // What another run leaves on its way looks like that, too, and must not be removed.
        if !survey.problems.is_empty() && !self.holds && !is_alone(&self.site, &mut survey, [&source, &dest])? {
            return Ok(survey);
        }
        self.databases(&mut survey, &row, &source, &dest)?;
        self.files(&mut survey, &row, &source, &dest)?;
        Ok(survey)
    }

    /// Whether the destination is a mail store; without one there is nothing to look at.
    fn dest(&self, survey: &mut Survey) -> Result<bool> {
        match self.site.server(&survey.dest) {
            Ok(server) if server.is_store() => Ok(survey.dest != survey.source),
            Ok(_) => {
                survey.problems.push(format!("{} is not a mail store", survey.dest));
                Ok(false)
            }
            Err(error) if error.kind() == Kind::NotFound => {
                survey.problems.push(format!("{error}; {}", error.advice().unwrap_or_default()));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn servers(&self, survey: &mut Survey, source: &Store, dest: &Store) {
        for store in [source, dest] {
            let server = store.server();
            if server.entry.get("zimbraAlwaysOnClusterId").is_some() {
                survey.problems.push(format!(
                    "{} belongs to an AlwaysOn cluster, whose mailboxes are not moved like this",
                    store.name()
                ));
            }
            if server.entry.is_true("zimbraConfiguredServerIDForBlobDirEnabled") {
                survey
                    .problems
                    .push(format!("{} keeps blobs under its server id, which is not supported", store.name()));
            }
            let manager = store.local_config().get("zimbra_class_store").unwrap_or_default();
            if !manager.is_empty() && !manager.ends_with(".FileBlobStore") {
                survey.problems.push(format!("{} keeps blobs by {manager}, which is not files", store.name()));
            }
            survey.problems.extend(super::probe::index_class(store));
            if store.local_config().is_on("zimbra_relative_volume_path") {
                survey
                    .problems
                    .push(format!("{} has volumes with relative paths, which is not supported", store.name()));
            }
        }
    }

    /// What an earlier stay or run left at the destination, in its database and in mailboxd's memory.
    fn leftovers(&self, survey: &mut Survey, dest: &Store, is_there: bool) -> Result<()> {
        let id = survey.account.id.clone();
        if let Some(left) = store::mailbox_by_account(&mut *dest.session()?, id.as_str())? {
            survey.problems.push(format!(
                "{} has a mailbox row of an earlier stay, number {}: remove that copy first, and restart mailboxd there",
                survey.dest, left.id
            ));
            return Ok(());
        }
        let own = store::placeholder(id.as_str(), &self.run);
        for (left, placeholder) in store::staged_for(&mut *dest.session()?, id.as_str())? {
            if placeholder == own {
                continue;
            }
            // A run that died may have left it in maintenance; which status it had only that run's log knows.
            let status = match survey.account.status {
                AccountStatus::Maintenance => "STATUS-BEFORE-THAT-RUN".to_owned(),
                status => status.to_string(),
            };
            survey.problems.push(format!(
                "{} has number {left} staged for it as {placeholder}, by a run that died: `zlm rollback {}` on the host it ran on takes it away, or `zlm run scripts/undo.rhai --email {} --dest {} --status {status}`",
                survey.dest,
                placeholder.rsplit(':').next().unwrap_or_default(),
                survey.account.address,
                survey.dest
            ));
        }
        if !is_there {
            return Ok(());
        }
        let server = dest.server();
        match self.site.admin()?.probe_mailbox(&survey.dest, &server.id, &id)? {
            MailboxProbe::Clean => {}
            MailboxProbe::StaleMap(stale) | MailboxProbe::Locked(stale) => survey.problems.push(format!(
                "mailboxd of {} remembers mailbox {} of an earlier stay, and mail would not get in: restart it first",
                survey.dest,
                stale.map_or_else(|| "an unknown number".to_owned(), |id: MailboxId| id.to_string())
            )),
            MailboxProbe::InMemory(stale) => survey.problems.push(format!(
                "mailboxd of {} still has mailbox {stale} of an earlier stay in memory: restart it first",
                survey.dest
            )),
        }
        Ok(())
    }

    fn databases(&self, survey: &mut Survey, row: &MailboxRow, source: &Store, dest: &Store) -> Result<()> {
        let (mut from, mut to) = source.session_with(dest)?;
        let (here, there) = (store::facts(&mut from)?, store::facts(&mut to)?);
        survey.problems.extend(store::objections(&here, &there, row));
        survey.source_volumes.clone_from(&here.volumes);
        survey.dest_volumes.clone_from(&there.volumes);
        survey.current = Some(there.current);
        survey.receiving = Some(here.current.message);
        survey.ageing = here.current.secondary;
        let database = row.group();
        for table in rows::mailbox_tables(&mut from, &database)? {
            let count = rows::count_rows(&mut from, &table, row.id)?;
            survey.tables.push(Table { database: table.database, name: table.table, mailbox: row.id, rows: count });
        }
        survey.tables.sort_by_key(|table| std::cmp::Reverse(table.rows));
        // A group that is not there yet is made like the others, so any of them tells.
        let likely = self.likely_group(row, &mut to, dest)?;
        let groups = store::groups(&mut to)?;
        if let Some(group) = groups.iter().find(|group| **group == likely).or(groups.first()) {
            store::await_group(&mut to, group)?;
            survey.problems.extend(rows::unfit(&mut from, &mut to, &database, group, row.id)?);
        }
        Ok(())
    }

    /// The group that the mailbox goes to unless somebody takes a number first: groups may have different layouts.
    fn likely_group(&self, row: &MailboxRow, session: &mut Session, dest: &Store) -> Result<String> {
        let (id, groups) = (super::stage::id_from(&self.site), dest.groups()?.get());
        let stage = store::Stage { run: "look", groups, id, create_database: None };
        Ok(store::would_stage(session, row, &stage)?.database)
    }

    fn files(&self, survey: &mut Survey, row: &MailboxRow, source: &Store, dest: &Store) -> Result<()> {
        let Some(current) = survey.current else { return Ok(()) };
        let index = row.index_volume()?;
        let mut used = BTreeSet::from([index]);
        let mut expected = Vec::new();
        let mut odd = BTreeSet::new();
        rows::named_blobs(&mut *source.session()?, &row.group(), row.id, &mut |name: BlobName, place: &str| {
            match locator(place) {
                Ok(volume) => {
                    used.insert(volume);
                    expected.push(Expected { name, volume });
                }
                Err(why) => {
                    odd.insert(why);
                }
            }
            Ok(())
        })?;
        survey.problems.extend(odd);
        survey.blobs = expected.len() as u64;
        // New mail goes to the source's current volume until the freeze.
        used.extend(survey.receiving);
        let map = |used: &BTreeSet<u8>| {
            map_volumes(&survey.source_volumes, used, &survey.dest_volumes, &current, &BTreeMap::new())
        };
        // Old mail may go to the secondary one at any time. That it cannot be moved matters once something is there.
        let with_ageing = used.iter().copied().chain(survey.ageing).collect();
        match map(&with_ageing)
            .map(|mapping| (mapping, with_ageing))
            .or_else(|_| map(&used).map(|mapping| (mapping, used)))
        {
            Ok(mapped) => (survey.mapping, used) = mapped,
            Err(reasons) => {
                survey.problems.extend(reasons);
                return Ok(());
            }
        }
        let unready = super::probe::files(&self.site, survey, (source, dest), row.id, &used)?;
        if !unready.is_empty() {
            survey.problems.extend(unready);
            return Ok(());
        }
        let mut listings: BTreeMap<u8, Listing> = BTreeMap::new();
        for volume in survey.source_volumes.iter().filter(|v| used.contains(&v.id) && v.id != index) {
            let tree = Tree { shell: source.shell().clone(), volume: volume.clone(), mailbox: row.id };
            listings.insert(volume.id, tree.list(self.site.cancel())?);
        }
        let difference =
            crate::blobs::difference(expected.into_iter().map(Ok), &listings, &BTreeMap::new(), &survey.mapping)?;
        survey.bytes = difference.bytes;
        self.lost(survey, &still_lost(&mut *source.session()?, row, difference.lost)?);
        self.space(survey, &listings, dest)
    }

    fn lost(&self, survey: &mut Survey, lost: &[Expected]) {
        if lost.is_empty() {
            return;
        }
        let shown: Vec<_> =
            lost.iter().take(SHOWN).map(|blob| format!("{} of volume {}", blob.name, blob.volume)).collect();
        let text =
            format!("{} blobs that rows name are missing on {}: {}", lost.len(), survey.source, shown.join(", "));
        match self.allow_missing_blobs {
            true => survey.warnings.push(text),
            false => survey.problems.push(format!("{text}; --allow-missing-blobs moves it without them")),
        }
    }

    fn space(&self, survey: &mut Survey, listings: &BTreeMap<u8, Listing>, dest: &Store) -> Result<()> {
        let mut needed: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
        for (volume, listing) in listings {
            let Some(target) = survey.mapping.get(*volume) else { continue };
            let sum = needed.entry(target).or_default();
            sum.0 += listing.bytes();
            sum.1 += listing.files().len() as u64;
        }
        for (volume, (bytes, files)) in needed {
            let Some(volume) = survey.dest_volumes.iter().find(|v| v.id == volume) else { continue };
            let tree = Tree { shell: dest.shell().clone(), volume: volume.clone(), mailbox: 0 };
            let free = tree.free_space(self.site.cancel())?;
            if free.bytes < bytes + bytes / 10 + SPARE_BYTES {
                survey.problems.push(format!(
                    "{}: {} has {} bytes free, the blobs weigh {bytes}",
                    survey.dest, volume.path, free.bytes
                ));
            }
            if free.files.is_some_and(|free| free < files + files / 10) {
                survey.problems.push(format!("{}: {} has too few inodes for {files} blobs", survey.dest, volume.path));
            }
        }
        Ok(())
    }
}

/// A survey with what the account itself says. Fails with [`Kind::Refused`] for an account that has no home.
pub(super) fn begun(site: &Site, account: &Account, dest: &Host) -> Result<Survey> {
    let source = account
        .mail_host
        .clone()
        .ok_or_else(|| Error::new(Kind::Refused, format!("account {}: zimbraMailHost is not set", account.address)))?;
    let mut survey = Survey::new(account.clone(), source, dest.clone());
    about_account(&mut survey);
    about_hosts(site, &mut survey)?;
    Ok(survey)
}

/// Both stores, unless another run left the account half moved: then that is the problem, and nothing else that is found
/// now is worth being told, since that run's end changes it. A run that `holds` the account has seen to that.
///
/// # Errors
/// `Held` while one that is alive holds it: what it has half done would look like an earlier stay.
pub(super) fn stores(site: &Site, survey: &mut Survey, holds: bool) -> Result<Option<(Arc<Store>, Arc<Store>)>> {
    let source = site.store(survey.source.as_str()).map_err(|error| unreachable_source(&survey.source, error))?;
    let dest = site.store(survey.dest.as_str())?;
    match holds || is_alone(site, survey, [&source, &dest])? {
        true => Ok(Some((source, dest))),
        false => Ok(None),
    }
}

/// Whether no other run is at the account, or was since it was read; else that is the one problem.
fn is_alone(site: &Site, survey: &mut Survey, stores: [&Arc<Store>; 2]) -> Result<bool> {
    let account = &survey.account;
    let left = |store: &Arc<Store>| claim::left(&account.address, account.id.as_str(), store).transpose();
    let problem = match stores.into_iter().find_map(left).transpose()? {
        Some(left) => left,
        // Whoever has ended since has let go by now, and the directory says where the account is.
        None => match site.account(&account.id)?.mail_host {
            Some(home) if home == survey.source => return Ok(true),
            home => {
                let home = home.map_or_else(|| "on no store".to_owned(), |home| format!("on {home}"));
                format!("it is {home} by now, and not on {} any more: it was moved meanwhile", survey.source)
            }
        },
    };
    survey.problems = vec![problem];
    Ok(false)
}

/// What the account itself says for and against a move.
fn about_account(survey: &mut Survey) {
    if survey.dest == survey.source {
        survey.problems.push(format!("it is on {} already", survey.dest));
    }
    let follow = changed_along(&survey.account);
    if !follow.is_empty() {
        let status = survey.account.status;
        survey
            .warnings
            .push(format!("Zimbra changes {} when it sets status {status}: set again after it", follow.join(", ")));
    }
    match survey.account.status {
        AccountStatus::Active => {}
        AccountStatus::Maintenance => {
            survey.warnings.push("its status is maintenance now, and will be again after the move".to_owned())
        }
        other => survey.warnings.push(format!("its status is {other}, and will be again after the move")),
    }
    if survey.account.entry.is_true("zimbraIsSystemAccount") || survey.account.entry.is_true("zimbraIsSystemResource") {
        survey.warnings.push("it is a system account; some are tied to their store".to_owned());
    }
}

/// The attributes that Zimbra will not leave as they are when it gives the account its status back.
fn changed_along(account: &Account) -> Vec<&'static str> {
    let has = |name: &str| !account.entry.all(name).is_empty();
    match account.status.forced_mail_status() {
        Some(forced) if account.mail_status.as_deref().is_some_and(|now| now != forced) => vec!["zimbraMailStatus"],
        None if account.status == AccountStatus::Active => {
            FOLLOW_STATUS.iter().copied().filter(|name| *name != "zimbraMailStatus" && has(name)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether Zimbra will let `zimbraMailHost` change from one to the other.
fn about_hosts(site: &Site, survey: &mut Survey) -> Result<()> {
    let servers = site.servers()?;
    let find = |host: &Host| servers.iter().find(|server| server.host == *host);
    // Of a home that is no server any more Zimbra asks nothing.
    if let Some(Err(error)) = find(&survey.source).map(|home| survey.account.check_transport(home.written_host())) {
        survey.problems.push(error.message().to_owned());
    }
    if let Some(dest) = find(&survey.dest).filter(|dest| !dest.is_named_as_host()) {
        let name = dest.entry.get("cn").unwrap_or_default();
        survey.problems.push(format!(
            "{} is the service hostname of server {name}, and Zimbra takes as zimbraMailHost only a server's own name",
            survey.dest
        ));
    }
    Ok(())
}

/// The source cannot be reached from here: say from where it could.
fn unreachable_source(source: &Host, error: Error) -> Error {
    let kind = error.kind();
    Error::new(kind, format!("store {source}: the account's mailbox is there, and it cannot be reached from this host"))
        .because(error)
        .hint(format!("run zlm on {source}, or let this host reach it by ssh"))
}
