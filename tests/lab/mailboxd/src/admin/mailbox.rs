//! Mailboxes, by the account's id.

use std::fs;

use lab_mail::volume::Bits;
use mysql::prelude::Queryable;

use super::Call;
use super::account::selected;
use crate::directory::By;
use crate::fault::{Fault, Outcome};
use crate::mailbox::mailboxes::Fetch;
use crate::mailbox::tx::table;
use crate::mailbox::{Mailbox, delete, index, state};
use crate::xml::Element;

/// `GetMailboxRequest`: makes the mailbox when its home is here and it does not exist.
pub fn get(call: &Call<'_>) -> Outcome<Element> {
    let id = call.mbox()?;
    call.store.directory.the_account(By::Id, id)?;
    let mailbox = call.store.mailboxes.the_mailbox(call.store, id, Fetch::Autocreate)?;
    let mbox = Element::new("mbox").attr("mbxid", mailbox.id).attr("s", mailbox.size());
    Ok(Element::admin("GetMailboxResponse").child(mbox))
}

/// `GetAllMailboxesRequest`: the rows of this store.
pub fn get_all(call: &Call<'_>) -> Outcome<Element> {
    const NAMES: [&str; 13] = [
        "id",
        "groupId",
        "accountId",
        "indexVolumeId",
        "itemIdCheckPoint",
        "contactCount",
        "sizeCheckPoint",
        "changeCheckPoint",
        "trackingSync",
        "trackingImap",
        "lastbackupat",
        "lastSoapAccess",
        "newMessages",
    ];
    let number = |name: &str, absent: u64| call.body().get(name).and_then(|v| v.parse().ok()).unwrap_or(absent);
    let (limit, offset) = (number("limit", u64::from(u32::MAX)), number("offset", 0));
    let mut conn = call.store.pool.get_conn()?;
    let total: u64 = conn.query_first("SELECT COUNT(*) FROM zimbra.mailbox")?.unwrap_or(0);
    // The text protocol gives every column as text, which is what the answer holds.
    let rows: Vec<mysql::Row> = conn.query(format!(
        "SELECT id, group_id, account_id, index_volume_id, item_id_checkpoint, COALESCE(contact_count, 0), \
         size_checkpoint, change_checkpoint, tracking_sync, tracking_imap, COALESCE(last_backup_at, 0), \
         last_soap_access, new_messages FROM zimbra.mailbox ORDER BY id LIMIT {limit} OFFSET {offset}"
    ))?;
    let more = offset + (rows.len() as u64) < total;
    let mboxes = rows.into_iter().map(|row| {
        let values = row.unwrap().into_iter().map(mysql::from_value::<String>);
        NAMES.iter().zip(values).fold(Element::new("mbox"), |mbox, (name, value)| mbox.attr(name, value))
    });
    let answer = Element::admin("GetAllMailboxesResponse").attr("more", u8::from(more)).attr("searchTotal", total);
    Ok(answer.children(mboxes))
}

/// `DeleteMailboxRequest`. It is passed on to the account's home like many others, so after a move it
/// deletes the mailbox that moved.
pub fn delete(call: &Call<'_>) -> Outcome<Element> {
    let id = call.mbox()?;
    let answer = Element::admin("DeleteMailboxResponse");
    let Some(mailbox) = call.store.mailboxes.fetch(call.store, id, Fetch::IfKnown)? else { return Ok(answer) };
    delete::delete_mailbox(call.store, &mailbox)?;
    Ok(answer.child(Element::new("mbox").attr("id", id).attr("mbxid", mailbox.id)))
}

/// `LockoutMailboxRequest`: never passed on. The account is read again first, so the home is the one of
/// the directory; but it matters only when the mailbox is not in memory.
pub fn lockout(call: &Call<'_>) -> Outcome<Element> {
    let selector = call.child("account")?;
    let account = selected(call, selector)?.ok_or_else(|| Fault::no_such_account(&selector.text))?;
    let account = call.store.directory.reload(account.id())?;
    match call.body().get("op").unwrap_or("start") {
        op if op.eq_ignore_ascii_case("start") => call.store.mailboxes.lock_out(call.store, account.id())?,
        op if op.eq_ignore_ascii_case("end") => call.store.mailboxes.let_in(account.id())?,
        other => return Err(Fault::failure(format!("unknown lockout method {other}"))),
    }
    Ok(Element::admin("LockoutMailboxResponse"))
}

/// `ReIndexRequest`.
pub fn reindex(call: &Call<'_>) -> Outcome<Element> {
    let id = call.mbox()?;
    let mailbox = call.store.mailboxes.fetch(call.store, id, Fetch::IfKnown)?;
    let mailbox = mailbox.ok_or_else(|| Fault::failure(format!("mailbox not found for account {id}")))?;
    let running = is_reindexing(call, &mailbox)?;
    let status = match call.body().get("action") {
        Some("start" | "status") if running => "running",
        Some("start") => {
            index::restart(call.store, &mailbox)?;
            call.store.reindexing.lock().insert(id.to_lowercase(), false);
            "started"
        }
        Some("cancel") if running => {
            call.store.reindexing.lock().remove(&id.to_lowercase());
            "cancelled"
        }
        Some("status" | "cancel") => "idle",
        other => return Err(Fault::invalid_request(format!("unknown action: {other:?}"))),
    };
    Ok(Element::admin("ReIndexResponse").attr("status", status))
}

/// Whether a mailbox is being indexed anew: since it was asked for until nothing waits any more, or while a test says so.
fn is_reindexing(call: &Call<'_>, mailbox: &Mailbox) -> Outcome<bool> {
    let account = mailbox.account.to_lowercase();
    let Some(held) = call.store.reindexing.lock().get(&account).copied() else { return Ok(false) };
    if held || index::waiting(call.store, mailbox)? > 0 {
        return Ok(true);
    }
    call.store.reindexing.lock().remove(&account);
    Ok(false)
}

/// `RecalculateMailboxCountsRequest`: what is counted in memory is counted again in the rows.
pub fn recalculate(call: &Call<'_>) -> Outcome<Element> {
    let id = call.mbox()?;
    let mailbox = call.store.mailboxes.the_mailbox(call.store, id, Fetch::IfKnown)?;
    let used = mailbox.write(call.store, |tx| {
        let (mailbox, group) = (tx.mailbox.id, tx.mailbox.group);
        let items = table(group, "mail_item");
        tx.state.tree = state::read_tree_from_database(&mut tx.sql, mailbox, group)?;
        let counted: Vec<(u32, i64, i64)> = tx.sql.exec(
            format!(
                "SELECT folder_id, COUNT(*), CAST(COALESCE(SUM(unread), 0) AS SIGNED) FROM {items} \
                 WHERE mailbox_id = ? AND type NOT IN (1, 2, 3, 4, 13) GROUP BY folder_id"
            ),
            (mailbox,),
        )?;
        let folders: Vec<(u32, i64, i64)> =
            tx.state.tree.folders.iter().map(|(id, f)| (*id, f.count, f.unread)).collect();
        for (id, count, unread) in folders {
            let (_, real, really_unread) = counted.iter().find(|(f, ..)| *f == id).copied().unwrap_or((id, 0, 0));
            tx.adjust_folder(id, real - count, really_unread - unread, 0);
        }
        let size = format!("SELECT CAST(COALESCE(SUM(size), 0) AS SIGNED) FROM {items} WHERE mailbox_id = ? AND type NOT IN (1, 2, 3, 4, 13)");
        let size: i64 = tx.sql.exec_first(size, (mailbox,))?.unwrap_or(0);
        tx.adjust_size(size - tx.state.size);
        Ok(size)
    })?;
    Ok(Element::admin("RecalculateMailboxCountsResponse")
        .child(Element::new("mbox").attr("id", id).attr("quotaUsed", used)))
}

/// `PurgeAccountCalendarCacheRequest`: only where the account's home is.
pub fn purge_calendar_cache(call: &Call<'_>) -> Outcome<Element> {
    let id = call.body().get("id").ok_or_else(|| Fault::invalid_request("missing id"))?;
    let account = call.store.directory.the_account(By::Id, id)?;
    if !call.store.directory.is_local(&account) {
        return Err(Fault::wrong_host(account.get("zimbraMailHost").unwrap_or_default()));
    }
    let mailbox = call.store.mailboxes.the_mailbox(call.store, id, Fetch::IfKnown)?;
    let Bits { mailbox: bits, .. } = Bits::default();
    let group = (mailbox.id >> bits) & 255;
    let dir = call.store.home.join(format!("data/tmp/calcache/{group}/{}", mailbox.id));
    // No cache is as good as a purged one.
    let _ = fs::remove_dir_all(dir);
    Ok(Element::admin("PurgeAccountCalendarCacheResponse"))
}
