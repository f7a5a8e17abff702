//! Stores and the mailboxes on them.

use std::sync::Arc;

use rhai::Array;
use rhai::plugin::*;

use super::handles::{Account, Mailbox, Place, Store};
use super::{Scripted, attempt};
use crate::ops;

#[export_module]
pub mod stores {
    /// A mail store by its name, connected by ssh where it is not this host.
    ///
    /// Returns a `Store`. Fails with `not_found` when the directory knows no such mail store, `denied` for a host
    /// key that is not the known one, `unreachable`.
    ///
    /// In a plan: it connects and reads.
    ///
    /// Example: `let source = store(who.host);`
    #[rhai_fn(volatile, return_raw)]
    pub fn store(ctx: NativeCallContext, name: &str) -> Scripted<Store> {
        attempt(&ctx, |run| {
            run.gate.pass(&ops::stores::Connect { site: run.site.clone(), name: name.to_owned() })?;
            Ok(Store(run.site.store(name)?))
        })
    }

    /// The mailbox that a store holds for an account; `()` where it holds none.
    ///
    /// In a plan: it reads.
    ///
    /// Example: `let box = mailbox_of(store(who.host), who); print(box.id);`
    #[rhai_fn(volatile, return_raw)]
    pub fn mailbox_of(ctx: NativeCallContext, store: Store, account: Account) -> RhaiResult {
        attempt(&ctx, |run| {
            let operation = ops::stores::MailboxOf { store: store.0, account_id: account.0.id.to_string() };
            let found = run.gate.pass(&operation)?;
            Ok(found.map_or(Dynamic::UNIT, |found| Dynamic::from(Mailbox(Arc::new(found)))))
        })
    }

    /// Every mailbox on a store.
    ///
    /// Returns an array of `Mailbox`, in the order of their numbers. In a plan: it reads.
    ///
    /// Example: `for box in mailboxes(store(args.store)) { print(box.comment); }`
    #[rhai_fn(volatile, return_raw)]
    pub fn mailboxes(ctx: NativeCallContext, store: Store) -> Scripted<Array> {
        attempt(&ctx, |run| {
            let found = run.gate.pass(&ops::stores::Mailboxes { store: store.0 })?;
            Ok(found.into_iter().map(|found| Dynamic::from(Mailbox(Arc::new(found)))).collect())
        })
    }

    /// A directory on a store, for `rsync`.
    ///
    /// Arguments: the store; an absolute path. Fails with `usage` for a path that is not absolute or holds `..`.
    ///
    /// Example: `rsync(place(source, "/opt/zimbra/conf/notes/"), place(dest, "/opt/zimbra/conf/notes/"));`
    #[rhai_fn(volatile, return_raw)]
    pub fn place(ctx: NativeCallContext, store: Store, path: &str) -> Scripted<Place> {
        attempt(&ctx, |_| Ok(Place(ops::rsync::Place::new(&store.0, path)?)))
    }
}
