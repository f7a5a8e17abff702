//! Files: trees by rsync, and the blobs that rows name.

use rhai::Map;
use rhai::plugin::*;

use super::handles::{Freeze, Move, Place};
use super::options::{Rsync, decode};
use super::{Scripted, attempt, encode};
use crate::ops;

#[export_module]
pub mod files {
    /// Copies a directory's content from one store to another, store to store: never through a third host.
    /// Owners become zimbra; links and devices are not followed and not copied.
    ///
    /// Arguments: the place it comes from; the place it goes to. Returns a map of `files`, `bytes`, `seconds`.
    /// A directory of a mailbox that is not there is empty: Zimbra makes it with the first file in it. Any other must be there.
    /// Fails with `not_found` where it is not, `io` and rsync's exit status as `code` (23 some files could not be read, 11 disk full),
    /// `unreachable` for a broken connection, `denied` for a host key. What a failed run copied for a
    /// mailbox is deleted with the mailbox's row. While the user works it is tried again before it fails where a connection
    /// broke, for as long as `[retry]` of zlm.toml says.
    ///
    /// In a plan: the command, the files and bytes at the source.
    ///
    /// Example: `rsync(volume.source, volume.dest);`
    #[rhai_fn(volatile, return_raw, name = "rsync")]
    pub fn rsync(ctx: NativeCallContext, from: Place, to: Place) -> RhaiResult {
        rsync_options(ctx, from, to, Map::new())
    }

    /// The same with options: `bwlimit` KiB a second, `delete` what is gone at the source, `vanishing` files are
    /// normal, `checksum` compares contents rather than sizes and times, `gentle` leaves processor and disk to others.
    /// What is not given is as `[rsync]` of zlm.toml says while files may vanish, for then users work; under a freeze
    /// neither `bwlimit` nor `gentle` counts.
    ///
    /// Example: `rsync(volume.source, volume.dest, #{ bwlimit: 20000, vanishing: true });`
    #[rhai_fn(volatile, return_raw, name = "rsync")]
    pub fn rsync_options(ctx: NativeCallContext, from: Place, to: Place, options: Map) -> RhaiResult {
        let transferred = attempt(&ctx, |run| {
            let options: Rsync = decode("rsync", &options)?;
            let Rsync { bwlimit, delete, vanishing, checksum, gentle } = options;
            let ops::rsync::Room { bwlimit, gentle } = ops::rsync::room(run, bwlimit, gentle, vanishing);
            let operation = ops::rsync::Rsync {
                site: run.site.clone(),
                from: from.0,
                to: to.0,
                bwlimit,
                delete,
                vanishing,
                checksum,
                gentle,
            };
            run.gate.pass(&operation)
        })?;
        encode(&ctx, &transferred)
    }

    /// Compares the blobs of a move by name and content: every blob that a row names is at the source, and what
    /// the destination has of them has the same bytes. Blobs never change under one name, so what was found equal
    /// while the user works stays so.
    ///
    /// Returns a map of `named`, `equal`, `to_copy`, `missing`. Fails with `unequal` for a blob whose bytes differ
    /// after it was copied again, and `refused` for blobs that the source has lost.
    ///
    /// In a plan: it reads what the rows name at the source.
    ///
    /// Example: `check_blobs(mv);`
    #[rhai_fn(volatile, return_raw)]
    pub fn check_blobs(ctx: NativeCallContext, mv: Move) -> RhaiResult {
        let checked = attempt(&ctx, |run| run.gate.pass(&ops::blobs::Check { site: run.site.clone(), mv: mv.0 }))?;
        encode(&ctx, &checked)
    }

    /// Makes the destination's search index equal to the source's, which nobody writes to under a freeze but for the
    /// last moment of an indexer; `switch_to` looks for that once more.
    ///
    /// Returns a map of `files`, `bytes`, `seconds`. Fails as `rsync` does.
    ///
    /// In a plan: one line.
    ///
    /// Example: `copy_index(frozen);`
    #[rhai_fn(volatile, return_raw)]
    pub fn copy_index(ctx: NativeCallContext, freeze: Freeze) -> RhaiResult {
        let transferred = attempt(&ctx, |run| run.gate.pass(&ops::index::CopyIndex { freeze: freeze.0 }))?;
        encode(&ctx, &transferred)
    }

    /// Writes what was copied so far to the destination's disks, while the user works: `switch_to` then only has to
    /// write what was copied since.
    ///
    /// In a plan: an entry.
    ///
    /// Example: `settle(mv);`
    #[rhai_fn(volatile, return_raw)]
    pub fn settle(ctx: NativeCallContext, mv: Move) -> Scripted<()> {
        attempt(&ctx, |run| run.gate.pass(&ops::switch::Sync { mv: mv.0 }))
    }

    /// Copies exactly the blobs that are left under a freeze, without walking the tree: those that the rows injected under it
    /// name, and those that `check_blobs` had not found equal. Where it was not called, everything is compared now.
    ///
    /// Returns a map of `files`, `bytes`, `seconds`. Fails as `rsync` does.
    ///
    /// In a plan: one line a volume.
    ///
    /// Example: `copy_blobs(frozen);`
    #[rhai_fn(volatile, return_raw)]
    pub fn copy_blobs(ctx: NativeCallContext, freeze: Freeze) -> RhaiResult {
        let transferred =
            attempt(&ctx, |run| run.gate.pass(&ops::blobs::Copy { site: run.site.clone(), freeze: freeze.0 }))?;
        encode(&ctx, &transferred)
    }

    /// Deletes blobs at the destination whose items were deleted at the source after they had been copied. For after the
    /// switch: the source still says which items there were, and its names are not used again.
    ///
    /// Returns how many. Fails as `check_blobs` does.
    ///
    /// In a plan: an entry.
    ///
    /// Example: `sweep_blobs(mv);`
    #[rhai_fn(volatile, return_raw)]
    pub fn sweep_blobs(ctx: NativeCallContext, mv: Move) -> Scripted<i64> {
        attempt(&ctx, |run| Ok(run.gate.pass(&ops::sweep::Sweep { mv: mv.0 })? as i64))
    }
}
