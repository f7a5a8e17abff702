//! Preflight of a move that is taken back: whether the mailbox is where that move took it, and the copy that it left
//! behind as it was. Nothing of the user's is in one and not in the other, or it is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::kept::{Kept, Matched, OWN_COLUMNS, instead, some_of, tree};
use super::look::{Survey, Table, begun, stores, tell};
use super::peers;
use crate::blobs::IndexList;
use crate::cancel::Cancel;
use crate::clients::soap::MailboxProbe;
use crate::error::{Context, Kind, Result};
use crate::gate::{Effect, Operation, Watch};
use crate::rows::{self, FreezeMark, MAILBOX_ID, Rewrite};
use crate::run::Run;
use crate::site::{Site, Store};
use crate::store::{self, MailboxRow, Staged};
use crate::zimbra::account::Account;
use crate::zimbra::ids::Host;
use crate::zimbra::volume::Volume;

/// What makes mailboxd of a store forget.
const RESTART: &str = "run `zmmailboxdctl restart` there as zimbra, then this can be done";

/// What is known of the move that is taken back.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Where it took the mailbox.
    pub source: Host,
    /// The number it has there.
    pub mailbox: u32,
    /// The number of the copy that was left behind.
    pub kept: u32,
    /// That copy's `change_checkpoint` when it was left.
    pub changes: u64,
}

/// What a move's journal tells of the way back.
pub struct WayBack {
    /// The account's address at that time.
    pub email: String,
    /// The store that kept the copy.
    pub dest: Host,
    /// What is known of the move.
    pub taken: Taken,
}

/// Reads the way back out of what came of the operations `look`, `stage` and `freeze` of the move.
pub fn way_back(look: Value, stage: Value, freeze: Value) -> Result<WayBack> {
    let odd = || "what the journal has of the move".to_owned();
    let survey: Survey = serde_json::from_value(look).context(Kind::Data, odd)?;
    let place: Staged = serde_json::from_value(stage).context(Kind::Data, odd)?;
    let mark: FreezeMark = serde_json::from_value(freeze).context(Kind::Data, odd)?;
    let kept = survey.source_row()?.id;
    Ok(WayBack {
        email: survey.account.address.to_string(),
        dest: survey.source,
        taken: Taken { source: survey.dest, mailbox: place.id, kept, changes: mark.change_checkpoint },
    })
}

/// Surveys the way back to `dest`, and tells the run what it is about.
pub fn survey(run: &Run, account: &Account, dest: &str, taken: Taken) -> Result<Survey> {
    let look = LookBack {
        site: run.site.clone(),
        account: Arc::new(account.clone()),
        dest: dest.parse()?,
        taken,
        holds: !run.claims.is_empty(),
        without: run.without().to_vec(),
    };
    tell(run, account, dest);
    run.gate.pass(&look)
}

/// Surveys the way back.
struct LookBack {
    site: Arc<Site>,
    account: Arc<Account>,
    dest: Host,
    taken: Taken,
    /// Whether this run holds accounts itself.
    holds: bool,
    /// Servers that are left out.
    without: Vec<String>,
}

impl Operation for LookBack {
    type Output = Survey;

    fn name(&self) -> &'static str {
        "look_back"
    }

    fn describe(&self) -> String {
        format!("account {} back to {}", self.account.address, self.dest)
    }

    fn outcome(&self, survey: &Survey) -> String {
        format!("{} rows, {} blobs, {} problems", survey.rows(), survey.blobs, survey.problems.len())
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

impl LookBack {
    fn look(&self) -> Result<Survey> {
        let mut survey = begun(&self.site, &self.account, &self.dest)?;
        if survey.source != survey.dest {
            survey.instead = Some(instead(&survey));
            if survey.source != self.taken.source {
                let Taken { source, .. } = &self.taken;
                survey.problems.push(format!("it is on {} now, and that move took it to {source}", survey.source));
            }
        }
        if !survey.problems.is_empty() {
            return Ok(survey);
        }
        let Some((source, dest)) = stores(&self.site, &mut survey, self.holds)? else { return Ok(survey) };
        let Some((here, there)) = self.rows(&mut survey, &source, &dest)? else { return Ok(survey) };
        if peers::ask(&self.site, &mut survey, &self.without)? {
            survey.warnings.extend(super::probe::reindexing(&self.site, &survey)?);
            self.memory(&mut survey, &here, &dest)?;
        }
        if survey.problems.is_empty() {
            self.contents(&mut survey, (&source, &here), (&dest, &there))?;
        }
        Ok(survey)
    }

    /// The rows of both mailboxes, if they are those that the move left.
    fn rows(&self, survey: &mut Survey, source: &Store, dest: &Store) -> Result<Option<(MailboxRow, MailboxRow)>> {
        let (id, taken) = (survey.account.id.as_str().to_owned(), &self.taken);
        let here = store::mailbox_by_account(&mut *source.session()?, &id)?;
        let there = store::mailbox_by_account(&mut *dest.session()?, &id)?;
        let (from, to) = (survey.source.clone(), survey.dest.clone());
        match &here {
            Some(row) if row.id == taken.mailbox => {}
            Some(row) => survey
                .problems
                .push(format!("its mailbox on {from} has number {}, and that move gave it {}", row.id, taken.mailbox)),
            None => survey.problems.push(format!("it has no mailbox on {from}")),
        }
        match &there {
            Some(row) if row.id != taken.kept => survey
                .problems
                .push(format!("{to} has mailbox {} of it, and the copy that was kept is {}", row.id, taken.kept)),
            Some(row) if row.change_checkpoint != taken.changes => survey.problems.push(format!(
                "the copy that {to} kept is not as it was left: its change_checkpoint was {} and is {}",
                taken.changes, row.change_checkpoint
            )),
            Some(_) => {}
            None => survey.problems.push(format!("the copy that {to} kept is gone")),
        }
        Ok(here.zip(there).filter(|_| survey.problems.is_empty()))
    }

    /// What mailboxd of the store to go back to has in its memory.
    fn memory(&self, survey: &mut Survey, here: &MailboxRow, dest: &Store) -> Result<()> {
        let kept = self.taken.kept;
        let to = survey.dest.clone();
        match self.site.admin()?.probe_mailbox(&to, &dest.server().id, &survey.account.id)? {
            // Not in memory, since it was started again: it will be read from its rows when it comes home.
            MailboxProbe::Clean => {}
            // As the move left it: nobody can have used it. But it goes on counting changes from where it stood, and
            // the other store, which passed over all numbers that may have been in use, has perhaps told higher ones
            // to clients that ask for what is new by number.
            MailboxProbe::Locked(Some(number)) if number.get() == kept => {
                if here.get("tracking_sync").is_some_and(|token| token != "0") {
                    survey.problems.push(format!(
                        "clients synchronise with it, and mailboxd of {to}, which holds the copy in memory, would give numbers of changes to them twice: {RESTART}"
                    ));
                }
            }
            MailboxProbe::Locked(other) | MailboxProbe::StaleMap(other) => survey.problems.push(format!(
                "mailboxd of {to} remembers {} of it, and the copy that was kept is {kept}: {RESTART}",
                other.map_or_else(|| "a mailbox".to_owned(), |number| format!("mailbox {number}"))
            )),
            MailboxProbe::InMemory(number) => survey.problems.push(format!(
                "mailboxd of {to} has mailbox {number} of it in memory and not locked, so that it may have been written to: {RESTART}"
            )),
        }
        Ok(())
    }

    /// Whether both copies have the same contents. They are read while the user works: the proof comes with the freeze,
    /// and nobody is frozen for what can be seen now.
    fn contents(&self, survey: &mut Survey, source: (&Store, &MailboxRow), dest: (&Store, &MailboxRow)) -> Result<()> {
        let ((from, here), (to, there)) = (source, dest);
        let kept = Kept { row: there.clone(), groups: to.groups()?.get() };
        let place = kept.place();
        survey.row = Some(here.clone());
        survey.kept = Some(kept);
        let mut written = store::row_differences(there, here);
        written.extend(store::used_since(&mut *to.session()?, &place, there, here)?);
        let rewrites = BTreeMap::from([(MAILBOX_ID.to_owned(), Rewrite::Constant(place.id.into()))]);
        let dumps = {
            let (mut from, mut to) = from.session_with(to)?;
            rows::mailbox_dumps(&mut from, &mut to, &here.group(), &place.database, here.id, &rewrites)
        };
        let compared =
            dumps.and_then(|dumps| rows::compare(from.db(), to.db(), &dumps, OWN_COLUMNS, self.site.cancel()));
        match compared {
            Ok(compared) => {
                let proof = rows::proof_of(&compared);
                written.extend(proof.differences);
                survey.tables = compared
                    .iter()
                    .zip(&proof.tables)
                    .map(|(compared, table)| Table {
                        database: compared.dump.database.clone(),
                        name: compared.dump.table.clone(),
                        mailbox: here.id,
                        rows: table.rows,
                    })
                    .collect();
            }
            // Tables or columns that only the other store has, and that are in use there.
            Err(error) if error.kind() == Kind::Refused => written.push(error.message().to_owned()),
            Err(error) => return Err(error),
        }
        if !written.is_empty() {
            survey.problems.push(format!(
                "it was written to on {} since that move: {}",
                survey.source,
                some_of(&written)
            ));
            return Ok(());
        }
        survey.source_volumes = store::facts(&mut *from.session()?)?.volumes;
        survey.dest_volumes = store::facts(&mut *to.session()?)?.volumes;
        self.files(survey, source, dest)
    }

    /// Whether the copy that was kept has its blobs and its index.
    fn files(&self, survey: &mut Survey, source: (&Store, &MailboxRow), dest: (&Store, &MailboxRow)) -> Result<()> {
        let cancel = self.site.cancel();
        let matched = Matched::read(source, dest, (&survey.source_volumes, &survey.dest_volumes), cancel)?;
        (survey.blobs, survey.bytes) = (matched.count(), matched.bytes);
        let mut lost = matched.lost;
        if lost_index(survey, source, dest, cancel)? {
            lost.push("its index is gone".to_owned());
        }
        if !lost.is_empty() {
            survey.problems.push(format!("the copy that {} kept is not whole: {}", survey.dest, some_of(&lost)));
        }
        Ok(())
    }
}

/// Whether the kept copy has rows of what was in its index, and no index, while the other one has it. One that was never
/// indexed has none, and gets one at its new home as soon as it is opened there.
fn lost_index(
    survey: &Survey,
    source: (&Store, &MailboxRow),
    dest: (&Store, &MailboxRow),
    cancel: &Cancel,
) -> Result<bool> {
    let index = |(store, row): (&Store, &MailboxRow), volumes: &[Volume]| {
        IndexList::read(&tree(store, volumes, row.index_volume()?, row.id)?, cancel)
    };
    Ok(index(source, &survey.source_volumes)?.holds_items()
        && !index(dest, &survey.dest_volumes)?.holds_items()
        && store::has_indexed(&mut *dest.0.session()?, dest.1)?)
}
