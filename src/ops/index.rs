//! The search index, which may be written to for a moment after its mailbox was locked.

use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// How long an index that is still written to is left alone before it is looked at again: the first time, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// Makes the destination's index equal to the source's, once the source's has come to rest, and brings it to disk. A merge
/// of Lucene's goes on under the lock, and takes minutes in a large index: it is waited for, for `patience`.
pub(super) fn settle(freeze: &Freeze, patience: Duration, watch: &Watch<'_>) -> Result<()> {
    let (mv, cancel) = (&freeze.mv, watch.cancel());
    let pair = mv.index_pair()?;
    let dir = pair.dest.volume.index_dir(pair.dest.mailbox);
    super::flow::wait(cancel, QUIET.saturating_sub(freeze.locked.elapsed()).as_secs_f64())?;
    let (began, [mut pause, longest]) = (Instant::now(), PAUSES);
    for copies in 0.. {
        let (mut here, there) = index_lists(&pair.source, &pair.dest, cancel)?;
        if copies == 1 && here != there {
            let (mailbox, source) = (mv.source_id(), &mv.survey.source);
            watch.warn(format!(
                "index of mailbox {mailbox} on {source}: is written to under the lock; waiting for its end"
            ));
        }
        // What is copied now may be of no use in a moment.
        while copies > 0 && here != there && began.elapsed() < patience {
            cancel.afford(pause, "waiting for the index")?;
            super::flow::wait(cancel, pause.as_secs_f64())?;
            let before = std::mem::replace(&mut here, IndexList::read(&pair.source, cancel)?);
            if here == before {
                break;
            }
            pause = (pause * 2).min(longest);
        }
        if here == there {
            freeze.keep_index(here);
            return match mv.dest.is_unsynced(&dir) {
                true => mv.dest.synced(&dir, || pair.dest.sync_index(cancel)),
                false => Ok(()),
            };
        }
        if copies > 0 && began.elapsed() >= patience {
            break;
        }
        mv.dest.note_files(&dir);
        copy(mv, copies == 0, &here, &there, cancel)?;
    }
    Err(restless(freeze, "does not come to rest although it is locked"))
}

/// Copies what differs; `whole` for the first time.
fn copy(mv: &Move, whole: bool, here: &IndexList, there: &IndexList, cancel: &Cancel) -> Result<()> {
    let (mut transfer, from, to) = transfer(mv)?;
    if whole || !there.beyond(here).iter().all(|path| here.has(path)) {
        transfer.delete = true;
        return copy_tree(&transfer, &from, &to, cancel, &mut |_| {}).map(drop);
    }
    // rsync takes files of one size and one second for equal.
    transfer.checksum = true;
    let names: Vec<u8> = here.beyond(there).iter().flat_map(|path| path.bytes().chain([0])).collect();
    match transfer.run(What::Named(Input::Bytes(names)), cancel, &mut |_| {}) {
        // One of them may have gone by now; the next look tells.
        Err(error) if error.kind() == Kind::NotFound || error.peer_code() == Some("23") => Ok(()),
        done => done.map(drop),
    }
}

fn restless(freeze: &Freeze, what: &str) -> Error {
    let (mailbox, source) = (freeze.mv.source_id(), &freeze.mv.survey.source);
    Error::new(Kind::Unequal, format!("index of mailbox {mailbox} on {source}: {what}")).hint(
        "Lucene merges for longer than [retry] says, or another mailboxd or a script writes to it: try again later",
    )
}

/// Sends only what changed in large files. The index knows no mailbox id, so it is copied as it is.
fn transfer(mv: &Move) -> Result<(Transfer, Place, Place)> {
    let (_, from, to) = mv.index()?;
    // Segments go when others have taken their place.
    let transfer =
        Transfer { make: false, whole: false, vanished_is_normal: true, ..super::rsync::transfer(&from, &to)? };
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

/// Sees that the source's index is as it was copied last, and copies it once more where it is not.
///
/// Fails with [`Kind::Unequal`] when it goes on changing for `patience`.
pub(super) fn still(freeze: &Freeze, patience: Duration, watch: &Watch<'_>) -> Result<()> {
    let began = Instant::now();
    // Where nothing was copied, the index of the other copy lies beside it.
    while let Some(copied) = freeze.index() {
        if IndexList::read(&freeze.mv.index_pair()?.source, watch.cancel())? == copied {
            return Ok(());
        }
        if began.elapsed() >= patience {
            return Err(restless(freeze, "changed although it is locked"));
        }
        settle(freeze, patience, watch)?;
    }
    Ok(())
}
