//! Files that a move brought, and that nobody needs: the user deleted their items while the move was under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::blobs::{Seen, expected, seen};
use super::kept::Kept;
use super::stage::{Move, Pair};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::gate::{Operation, Watch};
use crate::rows;
use crate::store::{self, Steps};
use crate::zimbra::blob::{BlobName, FileName};

/// Deletes the blobs that were copied before their items were deleted at the source.
pub struct Sweep {
    /// The move.
    pub mv: Arc<Move>,
}

impl Operation for Sweep {
    type Output = u64;

    fn name(&self) -> &'static str {
        "sweep_blobs"
    }

    fn describe(&self) -> String {
        format!("blobs of mailbox {} on {} that no row names", self.mv.staged.id, self.mv.survey.dest)
    }

    fn outcome(&self, deleted: &u64) -> String {
        format!("{deleted} deleted")
    }

    fn pretend(&self) -> Result<u64> {
        Ok(0)
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<u64> {
        let (mv, cancel) = (&self.mv, watch.cancel());
        let pairs = mv.pairs()?;
        let unnamed = match seen(mv) {
            Some(seen) => copied(mv, &pairs, &seen)?,
            // Taken up again: what was seen went with its process.
            None => left_behind(mv, &pairs, cancel)?,
        };
        let mut deleted = 0;
        for (volume, mut files) in unnamed {
            let onto: Vec<&Pair> = pairs.iter().filter(|pair| pair.dest.volume.id == volume).collect();
            for pair in &onto {
                if files.is_empty() {
                    break;
                }
                // What the source has without a row is no business of a move.
                let here = pair.source.list(cancel)?;
                files.retain(|file| here.get(*file).is_none());
            }
            let files: Vec<FileName> = files.into_iter().collect();
            if let Some(pair) = onto.first() {
                pair.dest.remove_files(&files, cancel)?;
                deleted += files.len() as u64;
            }
        }
        Ok(deleted)
    }
}

/// Files by the destination's volumes.
type Files = BTreeMap<u8, BTreeSet<FileName>>;

/// Those of the files that this process saw while it compared, which no row of the source as it was frozen names where they
/// are: new mail has other ids at its new home, so none of them is in use there.
fn copied(mv: &Move, pairs: &[Pair], seen: &Seen) -> Result<Files> {
    let mut named: BTreeSet<(u8, BlobName)> = BTreeSet::new();
    expected(mv, &mut |blob| {
        named.extend(mv.survey.mapping.get(blob.volume).map(|to| (to, blob.name)));
    })?;
    let ids: BTreeSet<(u8, u32)> = named.iter().map(|(volume, name)| (*volume, name.id)).collect();
    let is_named = |volume: u8, file: FileName| match file.mod_content {
        Some(mod_content) => named.contains(&(volume, BlobName { id: file.id, mod_content })),
        None => ids.contains(&(volume, file.id)),
    };
    let mut unnamed = Files::new();
    for pair in pairs {
        let (from, to) = (pair.source.volume.id, pair.dest.volume.id);
        // Those of which the source's vanished while they were compared are among the pending ones.
        let all = [seen.equal.get(&from), seen.pending.get(&from), seen.extra.get(&to)];
        let all = all.into_iter().flatten().flatten().copied();
        unnamed.entry(to).or_default().extend(all.filter(|file| !is_named(to, *file)));
    }
    Ok(unnamed)
}

/// Files at the destination that no row names, here or there, on whatever volume, and whose numbers were given out before
/// the source was frozen. The new home gives out higher ones, so what came since is left alone; so is what it moves from
/// volume to volume, for its rows name it all the while. Nothing where the source's copy is not what it was.
fn left_behind(mv: &Move, pairs: &[Pair], cancel: &Cancel) -> Result<Files> {
    let then = mv.survey.source_row()?;
    let now = store::mailbox_by_account(&mut *mv.source.session()?, mv.survey.account.id.as_str())?;
    let Some(row) = now.filter(|row| row.id == then.id) else { return Ok(Files::new()) };
    let place = Kept { row: row.clone(), groups: 0 }.place();
    let last = store::checkpoints(&mut *mv.source.session()?, &place, &row, Steps::default(), &|_| None)?;
    let mut named: BTreeSet<BlobName> = BTreeSet::new();
    expected(mv, &mut |blob| named.extend([blob.name]))?;
    let staged = &mv.staged;
    rows::named_blobs(&mut *mv.dest.session()?, &staged.database, staged.id, &mut |name, _| {
        named.insert(name);
        Ok(())
    })?;
    let ids: BTreeSet<u32> = named.iter().map(|name| name.id).collect();
    let is_left = |file: &FileName| {
        let is_named = match file.mod_content {
            Some(mod_content) => named.contains(&BlobName { id: file.id, mod_content }),
            None => ids.contains(&file.id),
        };
        !is_named && u64::from(file.id) <= last.item && u64::from(file.mod_content.unwrap_or(0)) <= last.change
    };
    let mut left = Files::new();
    for pair in pairs {
        if let std::collections::btree_map::Entry::Vacant(slot) = left.entry(pair.dest.volume.id) {
            let there = pair.dest.list(cancel)?;
            slot.insert(there.files().iter().map(|file| file.name).filter(is_left).collect());
        }
    }
    Ok(left)
}
