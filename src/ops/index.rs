//! The search index, which may be written to for a moment after its mailbox was locked.

use std::sync::Arc;
use std::time::Duration;

use super::freeze::Freeze;
use super::rsync::{Place, copy_tree};
use super::stage::Move;
use crate::blobs::{IndexList, index_lists};
use crate::cancel::Cancel;
use crate::clients::rsync::{Progress, Transfer, Transferred, What};
use crate::clients::ssh::Input;
use crate::error::{Error, Kind, Result};
use crate::gate::{Operation, Watch};

/// A store lets a batch that is being indexed when the lock comes end its work, without saying when it has. The
/// index is therefore not compared sooner than this after the lock, and once more right before the switch.
const QUIET: Duration = Duration::from_millis(300);

/// How often an index is copied that goes on changing.
const TRIES: u32 = 10;

/// Makes the destination's index equal to the source's, once the source's has come to rest, and brings it to disk.
pub(super) fn settle(freeze: &Freeze, cancel: &Cancel) -> Result<()> {
    let mv = &freeze.mv;
    let pair = mv.index_pair()?;
    let dir = pair.dest.volume.index_dir(pair.dest.mailbox);
    super::flow::wait(cancel, QUIET.saturating_sub(freeze.locked.elapsed()).as_secs_f64())?;
    for copied in 0..=TRIES {
        let (here, there) = index_lists(&pair.source, &pair.dest, cancel)?;
        if here == there {
            freeze.keep_index(here);
            return match mv.dest.is_unsynced(&dir) {
                true => mv.dest.synced(&dir, || pair.dest.sync_index(cancel)),
                false => Ok(()),
            };
        }
        mv.dest.note_files(&dir);
        let (mut transfer, from, to) = transfer(mv)?;
        if copied == 0 || !there.beyond(&here).iter().all(|path| here.has(path)) {
            transfer.delete = true;
            copy_tree(&transfer, &from, &to, cancel, &mut |_| {})?;
        } else {
            // rsync takes files of one size and one second for equal.
            transfer.checksum = true;
            let names: Vec<u8> = here.beyond(&there).iter().flat_map(|path| path.bytes().chain([0])).collect();
            transfer.run(What::Named(Input::Bytes(names)), cancel, &mut |_| {})?;
        }
    }
    Err(Error::new(
        Kind::Unequal,
        format!(
            "index of mailbox {} on {}: does not come to rest although it is locked",
            mv.source_id(),
            mv.survey.source
        ),
    )
    .hint("does another mailboxd, or a script, write to it?"))
}

/// Sends only what changed in large files. The index knows no mailbox id, so it is copied as it is.
fn transfer(mv: &Move) -> Result<(Transfer, Place, Place)> {
    let (_, from, to) = mv.index()?;
    let transfer = Transfer { make: false, whole: false, ..super::rsync::transfer(&from, &to)? };
    Ok((transfer, from, to))
}

/// Makes the destination's index equal to what the source's is now.
pub struct CopyIndex {
    /// The freeze.
    pub freeze: Arc<Freeze>,
}

impl Operation for CopyIndex {
    type Output = Transferred;

    fn name(&self) -> &'static str {
        "copy_index"
    }

    fn describe(&self) -> String {
        let mv = &self.freeze.mv;
        format!("index of mailbox {}, {} to {}", mv.staged.id, mv.survey.source, mv.survey.dest)
    }

    fn outcome(&self, done: &Transferred) -> String {
        format!("{} files, {} bytes", done.files, done.bytes)
    }

    fn pretend(&self) -> Result<Transferred> {
        Ok(Transferred::default())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Transferred> {
        let mv = &self.freeze.mv;
        mv.check_copies()?;
        let pair = mv.index_pair()?;
        // Two lists are read in less time than rsync takes to start on both sides.
        let (here, there) = index_lists(&pair.source, &pair.dest, watch.cancel())?;
        if here == there {
            return Ok(Transferred::default());
        }
        mv.dest.note_files(&pair.dest.volume.index_dir(pair.dest.mailbox));
        let (mut transfer, from, to) = transfer(mv)?;
        transfer.delete = true;
        let told = &mut |p: Progress| watch.progress("bytes", p.bytes, None);
        copy_tree(&transfer, &from, &to, watch.cancel(), told)
    }
}

/// Fails with [`Kind::Unequal`] when the source's index changed since it was copied.
pub(super) fn still(freeze: &Freeze, cancel: &Cancel) -> Result<()> {
    // Where nothing was copied, the index of the other copy lies beside it.
    let Some(copied) = freeze.index() else { return Ok(()) };
    let pair = freeze.mv.index_pair()?;
    if IndexList::read(&pair.source, cancel)? == copied {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unequal,
        format!(
            "index of mailbox {} on {}: changed although it is locked",
            freeze.mv.source_id(),
            freeze.mv.survey.source
        ),
    ))
}
