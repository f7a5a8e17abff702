//! Requests about accounts and their mailboxes.

use std::time::Duration;

use super::servers::BlobReport;
use super::{Admin, Request, odd};
use crate::error::{Context, Kind, Result};
use crate::xml::Element;
use crate::zimbra::entry::Entry;
use crate::zimbra::ids::{Host, MailboxId, ZimbraId};

/// A check of every blob reads the whole mailbox.
const LONG: Duration = Duration::from_secs(3600);

/// The attributes that a move looks at.
pub fn account_attributes() -> &'static [&'static str] {
    &[
        "zimbraId",
        "zimbraMailDeliveryAddress",
        "zimbraMailAlias",
        "zimbraMailHost",
        "zimbraMailTransport",
        "zimbraAccountStatus",
        "zimbraMailStatus",
        "zimbraCOSId",
    ]
}

/// What a store says when it is asked for a mailbox that it should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailboxProbe {
    /// It sends the account elsewhere: nothing of an earlier stay is left in its memory.
    Clean,
    /// It still maps the account to a mailbox that is gone, and would bounce mail for it.
    StaleMap(Option<MailboxId>),
    /// It has the mailbox in memory and keeps it locked, as a move leaves it.
    Locked(Option<MailboxId>),
    /// It has the mailbox in memory, and would write to it.
    InMemory(MailboxId),
}

impl Admin {
    /// An account by id, as `store` sees it. With `target`, that server's id, the answer is what that server
    /// has cached; without it the request goes on to the account's home.
    pub fn get_account(
        &self,
        store: &Host,
        id: &ZimbraId,
        attributes: &[&str],
        target: Option<&ZimbraId>,
    ) -> Result<Entry> {
        let mut request =
            Request::new("GetAccountRequest").repeatable().attr("applyCos", "0").child(by_id("account", id));
        if !attributes.is_empty() {
            request = request.attr("attrs", attributes.join(","));
        }
        if let Some(target) = target {
            request = request.target(target);
        }
        let answer = self.call(store, &request)?;
        Ok(entry(odd(answer.first("account"), "GetAccountRequest")?))
    }

    /// Proves that a store, `target` being its own id, does within `limit` what it is asked about an account.
    pub fn probe(&self, store: &Host, target: &ZimbraId, id: &ZimbraId, limit: Duration) -> Result<()> {
        let request = Request::new("GetAccountRequest").repeatable().attr("applyCos", "0").child(by_id("account", id));
        self.call(store, &request.attr("attrs", "zimbraId").target(target).timeout(limit)).map(drop)
    }

    /// Sets attributes of an account, each to exactly these values; none unsets it. Sent through `store`, which
    /// hands it to the account's home. Setting `zimbraMailHost` sets `zimbraMailTransport` too, and Zimbra
    /// refuses both in one request.
    pub fn modify_account(&self, store: &Host, id: &ZimbraId, attributes: &[(&str, Vec<String>)]) -> Result<()> {
        let mut request = Request::new("ModifyAccountRequest").child(Element::new("id").text(id.as_str()));
        for (name, values) in attributes {
            let a = |value: &str| Element::new("a").attr("n", *name).text(value);
            if values.is_empty() {
                request = request.child(a(""));
            }
            for value in values {
                request = request.child(a(value));
            }
        }
        self.call(store, &request).map(drop)
    }

    /// Drops an account from the cache of one store, and of the IMAP servers that hang on it. `target` is that
    /// store's own id. The request's own way of reaching all servers only logs what fails, so that callers ask
    /// every store.
    pub fn flush_account(&self, store: &Host, target: &ZimbraId, id: &ZimbraId) -> Result<()> {
        let entry = Element::new("entry").attr("by", "id").text(id.as_str());
        let cache =
            Element::new("cache").attr("type", "account").attr("allServers", "0").attr("imapServers", "1").child(entry);
        self.call(store, &Request::new("FlushCacheRequest").repeatable().target(target).child(cache)).map(drop)
    }

    /// Locks the mailbox on the store that has it: sessions end, and every access fails with
    /// `mail.MAINTENANCE`. A restart of mailboxd forgets it. The store waits up to a minute for the mailbox.
    pub fn lockout_start(&self, store: &Host, id: &ZimbraId) -> Result<()> {
        self.lockout(store, id, "start")
    }

    /// Unlocks it; fails with [`Kind::NotFound`] and `service.NOT_FOUND` when it is not locked.
    pub fn lockout_end(&self, store: &Host, id: &ZimbraId) -> Result<()> {
        self.lockout(store, id, "end")
    }

    fn lockout(&self, store: &Host, id: &ZimbraId, op: &str) -> Result<()> {
        let request = Request::new("LockoutMailboxRequest").attr("op", op).child(by_id("account", id));
        self.call(store, &request).map(drop)
    }

    /// The id of an account's mailbox. Where the account has none, its home creates it. With `target`, `store`'s
    /// own id, it is answered there.
    pub fn get_mailbox(&self, store: &Host, id: &ZimbraId, target: Option<&ZimbraId>) -> Result<MailboxId> {
        let mailbox = Element::new("mbox").attr("id", id.as_str());
        let mut request = Request::new("GetMailboxRequest").repeatable().child(mailbox);
        if let Some(target) = target {
            request = request.target(target);
        }
        let answer = self.call(store, &request)?;
        let number = odd(answer.first("mbox").and_then(|mailbox| mailbox.get("mbxid")), "GetMailboxRequest")?;
        number.parse().context(Kind::Peer, || format!("GetMailboxRequest to {store}"))
    }

    /// Asks a store that is not the account's home, `target` being its own id, what it remembers of the
    /// account's mailbox.
    pub fn probe_mailbox(&self, store: &Host, target: &ZimbraId, id: &ZimbraId) -> Result<MailboxProbe> {
        match self.get_mailbox(store, id, Some(target)) {
            Ok(mailbox) => Ok(MailboxProbe::InMemory(mailbox)),
            Err(e) => match e.peer_code() {
                Some("service.WRONG_HOST") => Ok(MailboxProbe::Clean),
                Some(code @ ("mail.NO_SUCH_MBOX" | "mail.MAINTENANCE")) => {
                    let stale = mailbox_named(e.message());
                    let is_locked = code == "mail.MAINTENANCE";
                    Ok(if is_locked { MailboxProbe::Locked(stale) } else { MailboxProbe::StaleMap(stale) })
                }
                _ => Err(e),
            },
        }
    }

    /// Drops what a store has cached on disk of an account's calendars; it fails with `service.WRONG_HOST`
    /// anywhere but at the account's home.
    pub fn purge_calendar_cache(&self, store: &Host, id: &ZimbraId) -> Result<()> {
        let request = Request::new("PurgeAccountCalendarCacheRequest").repeatable().attr("id", id.as_str());
        self.call(store, &request).map(drop)
    }

    /// Whether a store is building the index of an account's mailbox anew.
    pub fn is_reindexing(&self, store: &Host, id: &ZimbraId) -> Result<bool> {
        let mailbox = Element::new("mbox").attr("id", id.as_str());
        let request = Request::new("ReIndexRequest").repeatable().attr("action", "status").child(mailbox);
        Ok(self.call(store, &request)?.get("status") == Some("running"))
    }

    /// Has a store compare a mailbox's rows with its blobs. It may take an hour.
    pub fn check_blobs(&self, store: &Host, target: &ZimbraId, mailbox: MailboxId) -> Result<BlobReport> {
        let mailbox = Element::new("mbox").attr("id", mailbox.to_string());
        let request = Request::new("CheckBlobConsistencyRequest").repeatable().attr("checkSize", "1").child(mailbox);
        BlobReport::read(&self.call(store, &request.target(target).timeout(LONG))?)
    }
}

/// The mailbox that a fault is about, if it says so: its argument `mboxId`, as `envelope` puts it into a message.
fn mailbox_named(message: &str) -> Option<MailboxId> {
    let (_, rest) = message.rsplit_once("mboxId=")?;
    rest.split(',').next()?.parse().ok()
}

fn by_id(element: &str, id: &ZimbraId) -> Element {
    Element::new(element).attr("by", "id").text(id.as_str())
}

/// An answer's `id`, `name` and `<a n="...">` as an entry.
pub(super) fn entry(element: &Element) -> Entry {
    let mut entry = Entry::new(element.get("name").or_else(|| element.get("id")).unwrap_or_default());
    for a in element.iter().filter(|a| a.name() == "a") {
        if let Some(name) = a.get("n") {
            entry.add(name, a.content());
        }
    }
    if let (None, Some(id)) = (entry.get("zimbraId"), element.get("id")) {
        entry.add("zimbraId", id);
    }
    entry
}
