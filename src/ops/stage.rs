//! The mailbox's place at the destination: a number and a row that nobody can open yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use super::blobs::Seen;
use super::claim::Memory;
use super::dump_table::{Column, Ids};
use super::kept::{Named, Recall};
use super::look::Survey;
use super::readings::Readings;
use super::rsync::Place;
use super::undo::to_undo;
use crate::blobs::Tree;
use crate::cancel::Cancel;
use crate::clients::ssh::{Input, Limit};
use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Undo, Watch};
use crate::rows::{self, Dump, Held, Rewrite};
use crate::run::Run;
use crate::site::{Site, Store};
use crate::store::{self, Aside, Claims, IdFrom, Staged};
use crate::zimbra::ids::{Host, MailboxId};
use crate::zimbra::volume::Volume;

/// A move that has its place at the destination.
pub struct Move {
    /// What preflight found.
    pub survey: Survey,
    /// The place.
    pub staged: Staged,
    /// The store it is moved from.
    pub source: Arc<Store>,
    /// The store it is moved to.
    pub dest: Arc<Store>,
    dumps: OnceLock<Vec<Dump>>,
    /// What the destination's tables hold since the last copy of rows.
    pub(super) held: Arc<Readings<Held>>,
    /// What the last comparison of blobs saw.
    pub(super) seen: Mutex<Option<Arc<Seen>>>,
    /// The blobs that were compared with those of a kept copy.
    pub(super) kept_blobs: Mutex<Option<Arc<Named>>>,
    /// What was set aside when it was locked.
    pub(super) aside: Mutex<Option<Arc<Aside>>>,
}

/// A mailbox's directory on a volume of the source, and the one that takes its place.
#[derive(Clone)]
pub struct Pair {
    /// At the source.
    pub source: Tree,
    /// At the destination.
    pub dest: Tree,
}

/// Gives the mailbox of a survey its place. Fails with [`Kind::Refused`] and every problem that was found.
pub fn stage(run: &Run, survey: &Survey) -> Result<Move> {
    survey.refuse()?;
    let source = run.site.store(survey.source.as_str())?;
    let dest = run.own(run.site.store(survey.dest.as_str())?);
    let (site, claims, survey) = (run.site.clone(), run.claims.clone(), survey.clone());
    let staged = match survey.kept.clone() {
        Some(kept) => run.gate.pass(&Recall { site, dest: dest.clone(), survey: survey.clone(), kept })?,
        None => {
            let (survey, dest, run_id) = (survey.clone(), dest.clone(), run.id.clone());
            run.gate.pass(&Stage { site, claims, survey, dest, run: run_id })?
        }
    };
    Ok(Move::new(survey, staged, source, dest))
}

impl Move {
    fn new(survey: Survey, staged: Staged, source: Arc<Store>, dest: Arc<Store>) -> Self {
        Self {
            survey,
            staged,
            source,
            dest,
            dumps: OnceLock::new(),
            held: Arc::default(),
            seen: Mutex::default(),
            kept_blobs: Mutex::default(),
            aside: Mutex::default(),
        }
    }

    /// The move whose survey and place an earlier process of the run, or a run before it, had.
    pub(super) fn again(run: &Run, survey: &Survey, staged: &Staged) -> Result<Self> {
        let source = run.site.store(survey.source.as_str())?;
        let dest = run.own(run.site.store(survey.dest.as_str())?);
        Ok(Self::new(survey.clone(), staged.clone(), source, dest))
    }

    /// The mailbox's number at the source.
    pub fn source_id(&self) -> u32 {
        // A survey without a mailbox has a problem, and with a problem nothing is staged.
        self.survey.row.as_ref().map_or(0, |row| row.id)
    }

    /// Whether its place is a copy that was kept there, so that nothing is copied.
    pub fn goes_back(&self) -> bool {
        self.survey.kept.is_some()
    }

    /// What was set aside when it was locked; nothing by a run of a version that did not.
    pub(super) fn aside(&self) -> Option<Arc<Aside>> {
        // Plain data, valid whatever panicked.
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fails with [`Kind::Usage`] where nothing may be copied: the rows and files of a kept copy are its own.
    pub(super) fn check_copies(&self) -> Result<()> {
        if !self.goes_back() {
            return Ok(());
        }
        let message = format!("mailbox {} on {}: is a copy that was kept", self.staged.id, self.survey.dest);
        Err(Error::new(Kind::Usage, message).hint("nothing is copied on the way back: see scripts/reverse.rhai"))
    }

    /// What `rewrite_ids` needs.
    pub fn ids(&self) -> Ids {
        let mailbox = ("mailbox_id".to_owned(), Column::Number(self.staged.id.into()));
        let database = Some(self.staged.database.clone());
        if self.goes_back() {
            return Ids { database, columns: BTreeMap::from([mailbox]) };
        }
        let locators = self.survey.mapping.pairs().map(|(from, to)| (from.to_string(), to.to_string())).collect();
        Ids { database, columns: BTreeMap::from([mailbox, ("locator".to_owned(), Column::Texts(locators))]) }
    }

    /// All tables of the mailbox, as rewritten, the largest first: two are worked on at a time, and the largest
    /// takes as long as all others.
    pub fn dumps(&self) -> Result<Vec<Dump>> {
        if let Some(dumps) = self.dumps.get() {
            return Ok(dumps.clone());
        }
        let row = self.survey.source_row()?;
        let rewrites = self
            .ids()
            .columns
            .into_iter()
            .map(|(name, column)| match column {
                Column::Number(number) => (name, Rewrite::Constant(number)),
                Column::Texts(map) => (name, Rewrite::Map(map)),
            })
            .collect();
        let (mut from, mut to) = self.source.session_with(&self.dest)?;
        let mut dumps =
            rows::mailbox_dumps(&mut from, &mut to, &row.group(), &self.staged.database, row.id, &rewrites)?;
        dumps.sort_by_key(|dump| std::cmp::Reverse(self.survey.rows_of(dump)));
        Ok(self.dumps.get_or_init(|| dumps).clone())
    }

    /// The volumes with blobs, and what becomes of them.
    pub fn pairs(&self) -> Result<Vec<Pair>> {
        let index = self.survey.source_row()?.index_volume()?;
        self.survey.mapping.pairs().filter(|(from, _)| *from != index).map(|(from, to)| self.pair(from, to)).collect()
    }

    /// The directories of the search index.
    pub fn index_pair(&self) -> Result<Pair> {
        let from = self.survey.source_row()?.index_volume()?;
        let to = match &self.survey.kept {
            Some(kept) => kept.row.index_volume()?,
            None => self.survey.mapping.get(from).ok_or_else(|| unmapped(from))?,
        };
        self.pair(from, to)
    }

    pub(super) fn pair(&self, from: u8, to: u8) -> Result<Pair> {
        let row = self.survey.source_row()?;
        let find =
            |volumes: &[Volume], id: u8| volumes.iter().find(|v| v.id == id).cloned().ok_or_else(|| unmapped(id));
        Ok(Pair {
            source: Tree {
                shell: self.source.shell().clone(),
                volume: find(&self.survey.source_volumes, from)?,
                mailbox: row.id,
            },
            dest: Tree {
                shell: self.dest.shell().clone(),
                volume: find(&self.survey.dest_volumes, to)?,
                mailbox: self.staged.id,
            },
        })
    }

    /// Name, source and destination of each volume's blobs.
    pub fn volumes(&self) -> Result<Vec<(String, Place, Place)>> {
        let place = |store: &Arc<Store>, tree: &Tree| Place::of(store, tree, &tree.volume.message_dir(tree.mailbox));
        self.pairs()?
            .iter()
            .map(|pair| {
                let name = pair.source.volume.name.clone();
                Ok((name, place(&self.source, &pair.source)?, place(&self.dest, &pair.dest)?.staged()))
            })
            .collect()
    }

    /// Name, source and destination of the index.
    pub fn index(&self) -> Result<(String, Place, Place)> {
        let pair = self.index_pair()?;
        let place = |store: &Arc<Store>, tree: &Tree| Place::of(store, tree, &tree.volume.index_dir(tree.mailbox));
        let to = place(&self.dest, &pair.dest)?.staged();
        Ok((pair.source.volume.name.clone(), place(&self.source, &pair.source)?, to))
    }
}

pub(super) fn unmapped(volume: u8) -> Error {
    Error::new(Kind::Data, format!("volume {volume}: has no counterpart at the destination"))
        .hint("a volume that came into use while the move ran: start it again")
}

/// Allocates the number and inserts the row, in one transaction.
struct Stage {
    site: Arc<Site>,
    claims: Arc<Claims>,
    survey: Survey,
    dest: Arc<Store>,
    run: String,
}

/// What takes the place away again, with all that was copied under it.
#[derive(Serialize, Deserialize)]
pub(super) struct Unstage {
    pub(super) store: Host,
    pub(super) placeholder: String,
    pub(super) volumes: Vec<Volume>,
    /// The databases of groups that were there before: what the run created goes away again.
    pub(super) group_databases: Vec<String>,
}

impl Unstage {
    /// It as undo data.
    pub(super) fn to_undo(&self, address: &str) -> Result<Undo> {
        let what = format!("the copy of {address} on {}: rows, blobs and number taken away", self.store);
        to_undo("unstage", self, what)
    }
}

/// Where new numbers come from, as configured.
pub(super) fn id_from(site: &Site) -> IdFrom {
    site.config().file.ids.offset.map_or(IdFrom::Counter, IdFrom::Offset)
}

impl Stage {
    /// Hands what the store needs to know to `body`.
    fn with<T>(&self, body: impl FnOnce(&store::MailboxRow, &store::Stage<'_>) -> Result<T>) -> Result<T> {
        let text = self.dest.read(&self.dest.home().join("db/create_database.sql")).ok();
        let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
        let id = id_from(&self.site);
        let groups = self.dest.groups()?.get();
        body(self.survey.source_row()?, &store::Stage { run: &self.run, groups, id, create_database: text.as_deref() })
    }

    /// Makes the row stay, and sees that there are no files in its place. Nothing is copied before this has ended well.
    fn settle(&self, staged: &Staged, cancel: &Cancel) -> Result<()> {
        for volume in &self.survey.dest_volumes {
            let tree = Tree { shell: self.dest.shell().clone(), volume: volume.clone(), mailbox: staged.id };
            let dir = volume.mailbox_dir(staged.id);
            if volume.objection().is_some() {
                continue;
            }
            let found = match tree.has(&dir, cancel) {
                Ok(false) => continue,
                Ok(true) => Error::new(
                    Kind::Refused,
                    format!("mailbox {} on {}: {dir} is there already", staged.id, self.survey.dest),
                )
                .hint("a leftover of a mailbox that is gone: move it away, then start again"),
                Err(error) => error,
            };
            // Whose it is nobody knows, so undoing must not remove it: the row goes now, what is there stays.
            store::unstage(self.dest.db(), staged, &cancel.patient())?;
            return Err(found);
        }
        let mut session = self.dest.session()?;
        store::note_copy(&mut session, self.survey.account.id.as_str(), &self.run, staged.id)?;
        // Only the row says whose the files are that come next: a killed MariaDB must not forget it.
        store::barrier(&mut session)?;
        drop(session);
        self.make_directories(staged)
    }

    /// Whether the claim says that the directories of this number are the run's own.
    fn is_settled(&self, staged: &Staged) -> Result<bool> {
        let claim = store::claim_of(&mut *self.dest.session()?, self.survey.account.id.as_str())?;
        Ok(claim.is_some_and(|claim| claim.by.run == self.run && claim.mailbox == Some(staged.id)))
    }

    /// The databases of groups at the destination before this run made any: a run that is taken up again has made its
    /// own.
    fn groups_before(&self) -> Result<Vec<String>> {
        let account = self.survey.account.id.as_str();
        match self.claims.all().iter().find(|claim| claim.account == account) {
            Some(claim) => Ok(Memory::of(claim)?.groups),
            None => store::groups(&mut *self.dest.session()?),
        }
    }

    /// Makes the directories of the copy. Nothing else does: what still copies after they were removed with the row finds
    /// no place.
    fn make_directories(&self, staged: &Staged) -> Result<()> {
        let index = self.survey.source_row()?.index_volume()?;
        let mut argv = vec!["mkdir".to_owned(), "-p".to_owned(), "--".to_owned()];
        for (from, to) in self.survey.mapping.pairs() {
            let volume = self.survey.dest_volumes.iter().find(|volume| volume.id == to).ok_or_else(|| unmapped(to))?;
            argv.push(if from == index { volume.index_dir(staged.id) } else { volume.message_dir(staged.id) });
        }
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        self.dest.shell().expect(&argv, Input::None, Limit::default(), self.site.cancel()).map(drop)
    }

    fn placeholder(&self) -> String {
        store::placeholder(self.survey.account.id.as_str(), &self.run)
    }
}

/// What was read before the claim may be of a run that has ended since: its maintenance is not a status to give back.
pub(super) fn unchanged(site: &Site, survey: &Survey) -> Result<()> {
    let then = &survey.account;
    let now = site.account(&then.id)?;
    if now.mail_host == then.mail_host && now.status == then.status {
        return Ok(());
    }
    let message = format!("account {}: its store or status changed since it was looked at", then.address);
    Err(Error::new(Kind::Refused, message).hint("start the move again"))
}

impl Operation for Stage {
    type Output = Staged;

    fn name(&self) -> &'static str {
        "stage"
    }

    fn describe(&self) -> String {
        format!("a number and a row for {} on {}", self.survey.account.address, self.survey.dest)
    }

    fn details(&self) -> Result<Vec<String>> {
        let staged = self.pretend()?;
        Ok(vec![
            "UPDATE zimbra.current_volumes SET next_mailbox_id = next_mailbox_id + 1".to_owned(),
            format!(
                "INSERT INTO zimbra.mailbox (id {}, group {}, account_id '{}')",
                staged.id, staged.group_id, staged.placeholder
            ),
        ])
    }

    fn outcome(&self, staged: &Staged) -> String {
        format!("mailbox {} in {}", staged.id, staged.database)
    }

    fn pretend(&self) -> Result<Staged> {
        let mut session = self.dest.session()?;
        self.with(|row, stage| store::would_stage(&mut session, row, stage))
    }

    fn observe(&self) -> Result<Option<Staged>> {
        let row = store::mailbox_by_account(&mut *self.dest.session()?, &self.placeholder())?;
        // The row comes first, the group's database second: without it nothing was staged.
        let Some(row) = row else { return Ok(None) };
        let staged = staged_as(&row, self.placeholder(), false, self.dest.groups()?.get());
        if store::groups(&mut *self.dest.session()?)?.contains(&staged.database) {
            match self.is_settled(&staged)? {
                true => self.make_directories(&staged)?,
                false => self.settle(&staged, self.site.cancel())?,
            }
            return Ok(Some(staged));
        }
        store::unstage(self.dest.db(), &staged, self.site.cancel())?;
        Ok(None)
    }

    fn undo(&self) -> Result<Option<Undo>> {
        let unstage = Unstage {
            store: self.survey.dest.clone(),
            placeholder: self.placeholder(),
            volumes: self.survey.dest_volumes.clone(),
            group_databases: self.groups_before()?,
        };
        unstage.to_undo(self.survey.account.address.as_str()).map(Some)
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Staged> {
        unchanged(&self.site, &self.survey)?;
        // A run whose journal was lost has its copy still.
        if let Some(staged) = self.observe()? {
            return Ok(staged);
        }
        let mut session = self.dest.session()?;
        let staged = self.with(|row, stage| store::stage(&mut session, row, stage))?;
        drop(session);
        self.settle(&staged, watch.cancel())?;
        Ok(staged)
    }
}

/// Takes the row, all rows and all files of a staged mailbox away: files first, since the row is what says that
/// they are ours.
pub(super) fn unstage(dest: &Store, unstage: &Unstage) -> Result<()> {
    let cancel = dest.cancel().clone();
    let Some(row) = store::mailbox_by_account(&mut *dest.session()?, &unstage.placeholder)? else { return Ok(()) };
    MailboxId::new(row.id.into())?;
    for volume in unstage.volumes.iter().filter(|volume| volume.objection().is_none()) {
        let tree = Tree { shell: dest.shell().clone(), volume: volume.clone(), mailbox: row.id };
        tree.remove(&volume.mailbox_dir(row.id), &cancel)?;
    }
    let created = !unstage.group_databases.contains(&row.group());
    let staged = staged_as(&row, unstage.placeholder.clone(), created, dest.groups()?.get());
    store::unstage(dest.db(), &staged, &cancel).map(drop)
}

pub(super) fn staged_as(row: &store::MailboxRow, placeholder: String, created_group: bool, groups: u32) -> Staged {
    Staged { id: row.id, group_id: row.group_id, database: row.group(), placeholder, created_group, groups }
}
