//! The purge of old mail, which goes on in the background of every mailbox in memory. It leaves accounts
//! in maintenance alone, going by the cached status; it does not ask whether the home is still here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use mysql::prelude::Queryable;

use super::Mailbox;
use super::item::folder;
use crate::directory::By;
use crate::entry::duration;
use crate::fault::Outcome;
use crate::store::Store;

const PAUSE: Duration = Duration::from_secs(2);
/// How long mail stays in the trash where `zimbraMailTrashLifetime` says nothing; zero there is for ever.
const TRASH_LIFETIME: Duration = Duration::from_secs(30 * 86400);

/// Purges for as long as the process lives.
pub fn run(store: &Arc<Store>) {
    loop {
        thread::sleep(PAUSE);
        if store.resting.load(Ordering::SeqCst) {
            continue;
        }
        for mailbox in store.mailboxes.all_open() {
            // A mailbox locked out in between, or a database that is away, is met again in the next round.
            let _ = purge(store, &mailbox);
        }
    }
}

fn purge(store: &Store, mailbox: &Mailbox) -> Outcome<()> {
    let account = store.directory.the_account(By::Id, &mailbox.account)?;
    if store.directory.status(&account)? == "maintenance" {
        return Ok(());
    }
    let lifetime = account.get("zimbraMailTrashLifetime").and_then(duration).unwrap_or(TRASH_LIFETIME);
    mailbox.write(store, |tx| {
        let (id, now) = (mailbox.id, tx.now);
        tx.sql.exec_drop("UPDATE zimbra.mailbox SET last_purge_at = ? WHERE id = ?", (now, id))?;
        if lifetime.is_zero() {
            return Ok(());
        }
        let before = u64::from(now).saturating_sub(lifetime.as_secs());
        let condition = format!("type = 5 AND folder_id = {} AND change_date < {before}", folder::TRASH);
        match tx.pick(&mut fastrand::Rng::with_seed(now.into()), &condition)? {
            Some(item) => tx.delete(&item),
            None => Ok(()),
        }
    })
}
