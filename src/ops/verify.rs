//! Proving that both copies are equal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::freeze::Freeze;
use super::index;
use super::kept::{self, some_of};
use super::late::{self, Asked};
use super::stage::Pair;
use crate::blobs;
use crate::clients::db::Identity;
use crate::error::{Error, Kind, Result};
use crate::gate::{Effect, Kept, Operation, Watch};
use crate::rows::{self, Dump, Proved, TableProof};
use crate::run::Run;
use crate::site::Site;
use crate::store::{self, Steps};
use crate::zimbra::blob::FileName;

/// The proof that both copies were equal under a freeze.
pub struct Verified {
    /// That freeze.
    pub freeze: Arc<Freeze>,
    /// What was found equal.
    pub tables: Vec<TableProof>,
    /// How many new blobs were found equal.
    pub blobs: u64,
    /// The destination's MariaDB that was asked.
    pub(super) server: Identity,
}

impl Verified {
    /// How many rows were compared.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// Compares both copies.
pub fn verify(run: &Run, freeze: &Arc<Freeze>) -> Result<Verified> {
    let Proof { tables, blobs, server } = run.gate.pass(&Verify { freeze: freeze.clone() })?;
    Ok(Verified { freeze: freeze.clone(), tables, blobs, server })
}

/// Compares rows and new blobs on both sides. That the source stood still meanwhile is seen right before the switch.
struct Verify {
    freeze: Arc<Freeze>,
}

/// What was found equal.
#[derive(Serialize, Deserialize)]
struct Proof {
    tables: Vec<TableProof>,
    blobs: u64,
    server: Identity,
}

impl Operation for Verify {
    type Output = Proof;

    fn name(&self) -> &'static str {
        "verify"
    }

    fn describe(&self) -> String {
        let mv = &self.freeze.mv;
        format!("mailbox {} on {} against {} on {}", mv.staged.id, mv.survey.dest, mv.source_id(), mv.survey.source)
    }

    fn details(&self) -> Result<Vec<String>> {
        Ok(self.freeze.mv.dumps()?.iter().map(|dump| format!("compare every row of {}", dump.name())).collect())
    }

    fn outcome(&self, proof: &Proof) -> String {
        let rows: u64 = proof.tables.iter().map(|table| table.rows).sum();
        format!("{rows} rows of {} tables and {} new blobs are equal", proof.tables.len(), proof.blobs)
    }

    fn effect(&self) -> Effect {
        Effect::Change
    }

    fn pretend(&self) -> Result<Proof> {
        Ok(Proof { tables: Vec::new(), blobs: 0, server: self.freeze.mv.dest.session()?.identity()? })
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Proof> {
        let mv = &self.freeze.mv;
        // Every row of both copies is read once under the freeze: by the delta, or here where it was not.
        let (mut compared, mut unknown) = (Vec::new(), Vec::new());
        let server = mv.dest.session()?.identity()?;
        for dump in mv.dumps()? {
            match self.freeze.compared(&dump, &server) {
                Some(known) => compared.push(known),
                None => unknown.push(dump),
            }
        }
        let own = if mv.goes_back() { kept::OWN_COLUMNS } else { &[] };
        compared.extend(rows::compare(mv.source.db(), mv.dest.db(), &unknown, own, watch.cancel())?);
        let proof = rows::proof_of(&compared);
        let mut differences = proof.differences;
        let named = match mv.goes_back() {
            true => Vec::new(),
            false => super::blobs::left(&self.freeze, watch.cancel())?,
        };
        let blobs = named.iter().map(|(_, files)| files.len() as u64).sum();
        differences.extend(unequal_blobs(&named, watch)?);
        differences.extend(match mv.goes_back() {
            true => kept::differences(&self.freeze)?,
            false => counters(&self.freeze)?,
        });
        if !differences.is_empty() {
            return Err(match mv.goes_back() {
                true => written_since(&self.freeze, &differences),
                false => unequal(mv.staged.id, &differences),
            });
        }
        Ok(Proof { tables: proof.tables, blobs, server })
    }
}

/// What mailboxd would give out twice at the new home.
fn counters(freeze: &Freeze) -> Result<Vec<String>> {
    let mv = &freeze.mv;
    let id = mv.survey.account.id.as_str();
    let Some(row) = store::mailbox_by_account(&mut *mv.source.session()?, id)? else {
        return Ok(vec![format!("mailbox of account {id}: is gone from {}", mv.survey.source)]);
    };
    let behind = store::behind(&mut *mv.dest.session()?, &mv.staged, &row, Steps::default())?;
    Ok(behind.into_iter().map(|why| format!("zimbra.mailbox: {why}; call refresh_mailbox(frozen) first")).collect())
}

fn unequal_blobs(named: &[(Pair, Vec<FileName>)], watch: &Watch<'_>) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for (pair, files) in named {
        for file in blobs::unequal(&pair.source, &pair.dest, files, watch.cancel())? {
            differences.push(format!("blob {file} of volume {}: its bytes differ", pair.source.volume.id));
        }
    }
    Ok(differences)
}

/// Looks once more, right before the switch, that the lock still holds.
///
/// The lock is asked for again: a mailbox that is locked says so, and one that is not was open meanwhile, to a
/// mailboxd that was restarted for one. The destination is asked for the account: it is to open the mailbox next.
pub(super) struct Still {
    pub(super) site: Arc<Site>,
    pub(super) freeze: Arc<Freeze>,
}

impl Operation for Still {
    type Output = ();

    fn name(&self) -> &'static str {
        "switch_to"
    }

    fn describe(&self) -> String {
        let mv = &self.freeze.mv;
        format!("mailbox {} on {} is still locked", mv.source_id(), mv.survey.source)
    }

    fn kept(&self) -> Kept {
        // Since the run died anything may have happened.
        Kept::Never
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<()> {
        let survey = &self.freeze.mv.survey;
        if self.site.account(&survey.account.id)?.mail_host.as_ref() == Some(&survey.dest) {
            // A run that died after its switch is taken up again: the source is not the mailbox any more.
            return Ok(());
        }
        let admin = self.site.admin()?;
        // The last moment at which there is a way back from a new home that cannot open the mailbox.
        let dest = self.site.server(&survey.dest)?;
        admin.get_account(&survey.dest, &survey.account.id, &["zimbraAccountStatus"], Some(&dest.id)).map_err(
            |error| {
                let message =
                    format!("mailboxd of {}: does not do what it is asked, right before the switch", survey.dest);
                Error::new(error.kind(), message).because(error)
            },
        )?;
        // It asks for a lock, and may come after an undo as well.
        let asked = Asked::Lock { account: survey.account.id.clone() };
        let request = || admin.lockout_start(&survey.source, &survey.account.id);
        match late::send(watch.gate(), &survey.source, &asked, request) {
            Err(error) if error.peer_code() == Some("mail.MAINTENANCE") => {}
            Err(error) => return Err(error),
            Ok(number) => {
                watch.gate().is_known(number);
                let message =
                    format!("mailbox {} on {}: was not locked any more", self.freeze.mv.source_id(), survey.source);
                return Err(Error::new(Kind::Unequal, message)
                    .hint("mailboxd was restarted there, or somebody unlocked it: start the move again"));
            }
        }
        index::still(&self.freeze, self.site.config().patience(), watch)
    }
}

/// Fails with [`Kind::Unequal`] when the source changed since it was frozen, a long table since its rows were read: what
/// writes past mailboxd is seen by marks.
pub(super) fn still(proof: &Verified) -> Result<()> {
    let mv = &proof.freeze.mv;
    let now = rows::freeze_mark(mv.source.db(), mv.source_id(), &mv.dumps()?, &|_| false, mv.source.cancel())?;
    let changes = proof.freeze.mark.changes(&now, &proof.tables);
    if changes.is_empty() {
        return Ok(());
    }
    let (mailbox, source) = (mv.source_id(), &mv.survey.source);
    Err(Error::new(
        Kind::Unequal,
        format!("mailbox {mailbox} on {source}: changed although it is frozen: {}", changes.join("; ")),
    )
    .hint("something writes past mailboxd: a script, a second mailboxd, a restarted one?"))
}

/// Fails with [`Kind::Unequal`] when the destination does not hold any more what was proved. The copy followed what it
/// wrote there; what others write is seen by reading again.
pub(super) fn still_there(proof: &Verified) -> Result<()> {
    let mv = &proof.freeze.mv;
    let own = if mv.goes_back() { kept::OWN_COLUMNS } else { &[] };
    let proved = |dump: Dump| {
        let table = proof.tables.iter().find(|table| table.name == dump.name())?;
        Some(Proved { compared: proof.freeze.compared(&dump, &proof.server), proof: table, dump })
    };
    let tables: Vec<_> = mv.dumps()?.into_iter().filter_map(proved).collect();
    let changed = rows::reread(mv.source.db(), mv.dest.db(), &tables, own, mv.dest.cancel())?;
    if changed.is_empty() {
        return Ok(());
    }
    let message =
        format!("mailbox {} on {}: changed since it was compared: {}", mv.staged.id, mv.survey.dest, some_of(&changed));
    Err(Error::new(Kind::Unequal, message)
        .hint("something else writes to the copy: find out what, then start the move again"))
}

fn unequal(mailbox: u32, differences: &[String]) -> Error {
    Error::new(Kind::Unequal, format!("mailbox {mailbox}: not equal to the source: {}", some_of(differences)))
}

fn written_since(freeze: &Freeze, differences: &[String]) -> Error {
    let (mv, survey) = (&freeze.mv, &freeze.mv.survey);
    let message = format!(
        "mailbox {} on {}: is not as it came from {}: {}",
        mv.source_id(),
        survey.source,
        survey.dest,
        some_of(differences)
    );
    Error::new(Kind::Unequal, message).hint(kept::instead(survey))
}
