//! The blobs that rows name: compared with what the stores have, and copied by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::freeze::Freeze;
use super::rsync::transfer_into_copy;
use super::stage::{Move, Pair, unmapped};
use crate::blobs::{self, Compared, Difference, Expected, Listing};
use crate::cancel::Cancel;
use crate::clients::db::Session;
use crate::clients::rsync::{Transferred, What};
use crate::error::{Error, Kind, Result};
use crate::gate::{Effect, Kept, Operation, Watch};
use crate::rows;
use crate::site::Site;
use crate::store::MailboxRow;
use crate::zimbra::blob::{BlobName, FileName};
use crate::zimbra::volume::locator;

/// Compares the blobs of a move.
pub struct Check {
    /// The site.
    pub site: Arc<Site>,
    /// The move.
    pub mv: Arc<Move>,
}

/// What a comparison found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Checked {
    /// Blobs that rows name.
    pub named: u64,
    /// Those whose bytes are the same on both sides.
    pub equal: u64,
    /// Those that the destination does not have yet.
    pub to_copy: u64,
    /// Those that the source has lost.
    pub missing: u64,
}

/// What a comparison saw, by the source's volumes. The files of blobs never change, so what was equal stays so.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Files that have the same bytes on both sides. Sorted.
    pub(super) equal: BTreeMap<u8, Vec<FileName>>,
    /// Files that the destination did not have yet, or not whole. Sorted.
    pub(super) pending: BTreeMap<u8, Vec<FileName>>,
    /// Blobs whose files the source did not have; mail that came in at that moment may be among them.
    lost: Vec<Expected>,
    /// Files that no row named, or that the source had no more, by the destination's volumes.
    pub(super) extra: BTreeMap<u8, Vec<FileName>>,
    /// How often rows with blobs had been written at the destination when it began.
    writes: u64,
}

impl Seen {
    /// Whether rows were copied between the comparison and the freeze: they may name blobs that it has not seen.
    fn is_stale(&self, freeze: &Freeze) -> bool {
        self.writes < freeze.blob_writes
    }

    /// Whether a blob was found equal, under its own name or that from before revisions.
    fn has(&self, volume: u8, name: BlobName) -> bool {
        let old = FileName { id: name.id, mod_content: None };
        let among = |file: FileName| self.equal.get(&volume).is_some_and(|files| files.binary_search(&file).is_ok());
        among(name.into()) || among(old)
    }
}

/// How often rows that name blobs were written at the destination.
pub(super) fn writes(mv: &Move) -> u64 {
    rows::BLOB_TABLES.iter().map(|(table, _)| mv.dest.writes(&mv.staged.database, table)).sum()
}

/// The files that must be copied, and compared, under a freeze: those of blobs that changed rows name, and all that were not
/// found equal before, whether their rows changed or not.
///
/// Fails with [`Kind::Refused`] when blobs were never compared.
pub(super) fn left(freeze: &Freeze, cancel: &Cancel) -> Result<Vec<(Pair, Vec<FileName>)>> {
    let mv = &freeze.mv;
    let seen = seen(mv).filter(|seen| !seen.is_stale(freeze)).ok_or_else(|| {
        Error::new(
            Kind::Refused,
            format!("blobs of mailbox {}: were not compared since rows were copied", mv.staged.id),
        )
        .hint("call check_blobs(mv) after the last copy of rows, or copy_blobs(frozen) under the freeze")
    })?;
    let mut files = still_named(mv, &seen.pending)?;
    for blob in freeze.named() {
        let volume = locator(&blob.locator).map_err(|why| Error::new(Kind::Data, why))?;
        let name = BlobName { id: blob.id, mod_content: blob.mod_content };
        if !seen.has(volume, name) && seen.lost.binary_search(&Expected { name, volume }).is_err() {
            files.entry(volume).or_default().insert(name.into());
        }
    }
    for volume in seen.lost.iter().map(|blob| blob.volume).collect::<BTreeSet<_>>() {
        let list = pair(mv, volume)?.source.list(cancel)?;
        let found = seen.lost.iter().filter(|blob| blob.volume == volume).filter_map(|blob| list.find(blob.name));
        files.entry(volume).or_default().extend(found.map(|(_, file)| file.name));
    }
    let files = files.into_iter().filter(|(_, files)| !files.is_empty());
    files.map(|(volume, files)| Ok((pair(mv, volume)?, files.into_iter().collect()))).collect()
}

/// Those of the blobs without a file that rows name still. Rows are read before files are listed, and what the user deletes
/// meanwhile, or HSM moves, is in neither; its row goes first.
pub(super) fn still_lost(session: &mut Session, row: &MailboxRow, mut lost: Vec<Expected>) -> Result<Vec<Expected>> {
    let ids: BTreeSet<u32> = lost.iter().map(|blob| blob.name.id).collect();
    let ids: Vec<u32> = ids.into_iter().collect();
    let mut named = BTreeSet::new();
    rows::named_blobs_of(session, &row.group(), row.id, &ids, &mut |name, place| {
        // A place that is no volume of files is another matter, and told where all rows are read.
        named.extend(locator(place).map(|volume| Expected { name, volume }));
        Ok(())
    })?;
    lost.retain(|blob| named.contains(blob));
    Ok(lost)
}

/// Those of the files that rows name now: the user may have deleted mail since they were listed.
fn still_named(mv: &Move, files: &BTreeMap<u8, Vec<FileName>>) -> Result<BTreeMap<u8, BTreeSet<FileName>>> {
    let ids: BTreeSet<u32> = files.values().flatten().map(|file| file.id).collect();
    let ids: Vec<u32> = ids.into_iter().collect();
    let row = mv.survey.source_row()?;
    let mut named: BTreeSet<(u8, BlobName)> = BTreeSet::new();
    rows::named_blobs_of(&mut *mv.source.session()?, &row.group(), row.id, &ids, &mut |name, place| {
        named.insert((locator(place).map_err(|why| Error::new(Kind::Data, why))?, name));
        Ok(())
    })?;
    let is_named = |volume: u8, file: &FileName| match file.mod_content {
        Some(mod_content) => named.contains(&(volume, BlobName { id: file.id, mod_content })),
        None => named.iter().any(|(v, name)| *v == volume && name.id == file.id),
    };
    let kept = |volume: u8, files: &[FileName]| files.iter().copied().filter(|file| is_named(volume, file)).collect();
    Ok(files.iter().map(|(&volume, files)| (volume, kept(volume, files))).collect())
}

pub(super) fn seen(mv: &Move) -> Option<Arc<Seen>> {
    mv.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn pair(mv: &Move, volume: u8) -> Result<Pair> {
    mv.pair(volume, mv.survey.mapping.get(volume).ok_or_else(|| unmapped(volume))?)
}

/// Calls `each` with every blob that the source's rows name.
pub(super) fn expected(mv: &Move, each: &mut dyn FnMut(Expected)) -> Result<()> {
    let row = mv.survey.source_row()?;
    rows::named_blobs(&mut *mv.source.session()?, &row.group(), row.id, &mut |name, place| {
        let volume = locator(place).map_err(|why| Error::new(Kind::Data, why))?;
        each(Expected { name, volume });
        Ok(())
    })
}

impl Operation for Check {
    type Output = Checked;

    fn name(&self) -> &'static str {
        "check_blobs"
    }

    fn describe(&self) -> String {
        format!("blobs of mailbox {} on {} by content", self.mv.staged.id, self.mv.survey.dest)
    }

    fn outcome(&self, checked: &Checked) -> String {
        let Checked { named, equal, to_copy, missing } = checked;
        format!("{equal} of {named} equal, {to_copy} to copy, {missing} missing at the source")
    }

    fn effect(&self) -> Effect {
        Effect::Change
    }

    fn kept(&self) -> Kept {
        // What was found equal is remembered by this process alone.
        Kept::UntilSwitch
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn pretend(&self) -> Result<Checked> {
        Ok(Checked::default())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Checked> {
        if self.mv.goes_back() {
            return super::kept::check_blobs(&self.site, &self.mv, watch);
        }
        let writes = writes(&self.mv);
        let (mut difference, lists) = self.difference(watch.cancel())?;
        let mut equal = BTreeMap::new();
        let mut checked = Checked {
            named: difference.expected,
            equal: 0,
            to_copy: difference.to_copy() as u64,
            missing: difference.lost.len() as u64,
        };
        for pair in self.mv.pairs()? {
            // A blob that is not there yet comes with the frozen difference.
            let pending = difference.copy.get(&pair.source.volume.id).map(Vec::as_slice).unwrap_or_default();
            let volume = pair.source.volume.id;
            let compared = self.equal(&pair, pending, &lists, watch)?;
            checked.equal += compared.equal.len() as u64;
            equal.insert(volume, compared.equal);
            difference.extra.entry(pair.dest.volume.id).or_default().extend(&compared.gone);
            let name = |file: FileName| BlobName { id: file.id, mod_content: file.mod_content.unwrap_or(0) };
            difference.lost.extend(compared.gone.into_iter().map(|file| Expected { name: name(file), volume }));
        }
        difference.lost.sort_unstable();
        let seen = Seen { equal, pending: difference.copy, lost: difference.lost, extra: difference.extra, writes };
        *self.mv.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(seen));
        Ok(checked)
    }
}

/// The files of both sides, by volume.
#[derive(Default)]
struct Lists {
    source: BTreeMap<u8, Listing>,
    dest: BTreeMap<u8, Listing>,
}

impl Check {
    fn difference(&self, cancel: &Cancel) -> Result<(Difference, Lists)> {
        // Rows before files: mail that comes in meanwhile is not in the rows, instead of not among the files.
        let mut named = Vec::new();
        expected(&self.mv, &mut |blob| named.push(Ok(blob)))?;
        let mut lists = Lists::default();
        for pair in self.mv.pairs()? {
            lists.source.insert(pair.source.volume.id, pair.source.list(cancel)?);
            if let std::collections::btree_map::Entry::Vacant(slot) = lists.dest.entry(pair.dest.volume.id) {
                slot.insert(pair.dest.list(cancel)?);
            }
        }
        let mut difference = blobs::difference(named, &lists.source, &lists.dest, &self.mv.survey.mapping)?;
        let lost = std::mem::take(&mut difference.lost);
        difference.lost = still_lost(&mut *self.mv.source.session()?, self.mv.survey.source_row()?, lost)?;
        Ok((difference, lists))
    }

    /// Compares the files of a volume that are on both sides; those with other bytes are copied again once.
    fn equal(&self, pair: &Pair, pending: &[FileName], lists: &Lists, watch: &Watch<'_>) -> Result<Compared> {
        let cancel = watch.cancel();
        let (from, to) = (pair.source.volume.id, pair.dest.volume.id);
        let (here, there) = (&lists.source[&from], &lists.dest[&to]);
        let (both, gone): (Vec<FileName>, Vec<FileName>) = there
            .files()
            .iter()
            .map(|file| file.name)
            .filter(|name| pending.binary_search(name).is_err())
            .partition(|name| here.get(*name).is_some());
        let mut compared = blobs::compare(&pair.source, &pair.dest, &both, cancel)?;
        // The source has not, or not any more, what lies here: it is to be swept.
        let others = self.mv.survey.mapping.pairs().filter(|(other, dest)| *dest == to && *other != from);
        let others: Vec<&Listing> = others.filter_map(|(other, _)| lists.source.get(&other)).collect();
        compared.gone.extend(gone.into_iter().filter(|name| others.iter().all(|list| list.get(*name).is_none())));
        let wrong = std::mem::take(&mut compared.unequal);
        if !wrong.is_empty() {
            watch.warn(format!("{} blobs had other bytes than at the source; they are copied again", wrong.len()));
            self.mv.dest.note_files(&pair.dest.messages().path);
            let mut again = transfer_into_copy(pair.source.messages(), pair.dest.messages())?;
            again.checksum = true;
            match again.run(What::Named(blobs::names(wrong.clone(), pair.source.volume.bits)), cancel, &mut |_| {}) {
                // The user may have deleted some of them; what was not copied otherwise is seen now.
                Err(error) if error.kind() == Kind::NotFound || error.peer_code() == Some("23") => {}
                done => drop(done?),
            }
            let again = blobs::compare(&pair.source, &pair.dest, &wrong, cancel)?;
            if let Some(still) = again.unequal.first() {
                return Err(Error::new(
                    Kind::Unequal,
                    format!(
                        "blob {still} of volume {}: other bytes at the destination, also after it was copied again",
                        pair.source.volume.id
                    ),
                )
                .hint("look at the destination's disk, and at the network between the stores"));
            }
            compared.equal.extend(again.equal);
            compared.equal.sort_unstable();
            compared.gone.extend(again.gone);
        }
        Ok(compared)
    }
}

/// Copies named files of a volume.
fn copy(pair: &Pair, files: Vec<FileName>, cancel: &Cancel) -> Result<Transferred> {
    let transfer = transfer_into_copy(pair.source.messages(), pair.dest.messages())?;
    transfer.run(What::Named(blobs::names(files, pair.source.volume.bits)), cancel, &mut |_| {})
}

/// Copies the blobs that rows injected under a freeze name, and all that were not found equal before it.
pub struct Copy {
    /// The site.
    pub site: Arc<Site>,
    /// The freeze.
    pub freeze: Arc<Freeze>,
}

impl Operation for Copy {
    type Output = Transferred;

    fn name(&self) -> &'static str {
        "copy_blobs"
    }

    fn describe(&self) -> String {
        let mv = &self.freeze.mv;
        format!("blobs of mailbox {} that are left, {} to {}", mv.staged.id, mv.survey.source, mv.survey.dest)
    }

    fn outcome(&self, done: &Transferred) -> String {
        format!("{} files, {} bytes", done.files, done.bytes)
    }

    fn kept(&self) -> Kept {
        Kept::UntilSwitch
    }

    fn pretend(&self) -> Result<Transferred> {
        Ok(Transferred::default())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Transferred> {
        let mv = &self.freeze.mv;
        mv.check_copies()?;
        if seen(mv).is_none_or(|seen| seen.is_stale(&self.freeze)) {
            Check { site: self.site.clone(), mv: mv.clone() }.apply(watch)?;
        }
        let mut done = Transferred::default();
        let left = left(&self.freeze, watch.cancel())?;
        let files = left.iter().map(|(_, files)| files.len() as u64).sum();
        watch.cancel().afford(mv.dest.copying().expected(files), &format!("{files} blobs"))?;
        for (pair, files) in left {
            let one = copy(&pair, files, watch.cancel())?;
            done.files += one.files;
            done.bytes += one.bytes;
            done.seconds += one.seconds;
        }
        Ok(done)
    }
}
