//! Setting attributes of an account by admin SOAP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::flow::wait;
use super::late::{self, Asked};
use super::undo::to_undo;
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::gate::{AMBIGUOUS, Gate, Operation, Undo, Watch};
use crate::report::Event;
use crate::run::{Closed, Run};
use crate::site::Site;
use crate::zimbra::account::{Account, AccountStatus, FOLLOW_STATUS};
use crate::zimbra::entry::Entry;
use crate::zimbra::ids::ZimbraId;

/// Attribute names and all their values; no value unsets one.
pub type Attributes = BTreeMap<String, Vec<String>>;

/// The attribute that names an account's store, and the one that names its mail's.
pub(super) const HOST: &str = "zimbraMailHost";
const TRANSPORT: &str = "zimbraMailTransport";

/// How long the directory may take to show what a store has written.
const READ_BACK: Duration = Duration::from_secs(20);

/// How long it is looked whether a request was carried out whose answer got lost, before it is sent once more.
const RESEND: Duration = Duration::from_secs(2);

/// Sets attributes, as a script asked for it.
///
/// Fails with [`Kind::Refused`] for zimbraMailHost without `unverified`.
pub fn modify(run: &Run, account: &Account, attributes: Vec<(String, Vec<String>)>, unverified: bool) -> Result<()> {
    let mut attributes: Attributes = attributes.into_iter().map(|(name, values)| (name, meant(values))).collect();
    let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
    if let Some(name) = home_in(&attributes) {
        if !unverified {
            return Err(Error::new(
                Kind::Refused,
                format!("account {}: {name} is set by switch_to, after a proof", account.address),
            )
            .hint("#{ unverified: true } sets it all the same, as a switch; the user then finds whatever is there"));
        }
        let text = format!("account {}: {name} is set although nobody proved the copy there", account.address);
        run.gate.emit(&Event::Warned { text });
    }
    let status = attributes.iter().find(|(name, _)| is(name, "zimbraAccountStatus")).map(|(_, v)| v.concat());
    if let Some(status) = &status {
        // Closed takes the account out of all distribution lists, and nothing brings it back.
        let status: AccountStatus = status.parse()?;
        if status == AccountStatus::Closed && account.status != AccountStatus::Closed {
            return Err(Error::new(
                Kind::Refused,
                format!("account {}: closing it would take it off every distribution list", account.address),
            ));
        }
        // Zimbra sets zimbraMailStatus along with the status unless the same request says what it is.
        let has_mail_status = attributes.keys().any(|name| is(name, "zimbraMailStatus"));
        if let (Some(mail_status), false) = (&account.mail_status, has_mail_status) {
            attributes.insert("zimbraMailStatus".to_owned(), vec![mail_status.clone()]);
        }
    }
    let operation = SoapModify { site: run.site.clone(), account: Arc::new(account.clone()), attributes };
    let frozen = status.as_deref() == Some(AccountStatus::Maintenance.word());
    if frozen && !run.gate.is_dry() {
        run.set_frozen(true);
    }
    if let (Some(_), false) = (&status, run.gate.is_dry()) {
        run.note_status(account.id.as_str(), frozen.then(|| closed(account)));
    }
    let at = run.gate.pass(&operation)?.map_or_else(Instant::now, since);
    match status {
        Some(_) if frozen => run.was_frozen_at(at),
        Some(_) => drop(run.set_frozen_at(false, at)),
        None => {}
    }
    Ok(())
}

/// Milliseconds since 1970.
fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

/// When a time in milliseconds since 1970 was, by the clock that durations are counted by.
fn since(millis: u64) -> Instant {
    let then = UNIX_EPOCH + Duration::from_millis(millis);
    let ago = SystemTime::now().duration_since(then).unwrap_or_default();
    Instant::now().checked_sub(ago).unwrap_or_else(Instant::now)
}

/// An account that is put into maintenance, as it was read.
fn closed(account: &Account) -> Closed {
    let (account_id, email) = (account.id.to_string(), account.address.to_string());
    Closed { account_id, email, status: account.status.to_string() }
}

/// An empty text unsets an attribute.
fn meant(values: Vec<String>) -> Vec<String> {
    values.into_iter().filter(|value| !value.is_empty()).collect()
}

/// Sets attributes of an account, and reads them back from the directory's master.
pub struct SoapModify {
    /// The site.
    pub site: Arc<Site>,
    /// The account.
    pub account: Arc<Account>,
    /// What to set.
    pub attributes: Attributes,
}

/// What sets attributes back.
#[derive(Serialize, Deserialize)]
pub(super) struct Restore {
    pub(super) account_id: ZimbraId,
    pub(super) attributes: Attributes,
}

impl Restore {
    /// It as undo data.
    pub(super) fn to_undo(&self, address: &str) -> Result<Undo> {
        let changes: Vec<_> =
            self.attributes.iter().map(|(name, values)| format!("{name} {}", shown(values))).collect();
        to_undo("restore_attributes", self, format!("account {address}: {}", changes.join(", ")))
    }
}

impl Operation for SoapModify {
    /// When it was done, in milliseconds since 1970, and when it was begun where it closes the account: a run that is taken up
    /// again knows since when its user waits. Journals of before have none.
    type Output = Option<u64>;

    fn name(&self) -> &'static str {
        "soap_modify"
    }

    fn describe(&self) -> String {
        let changes: Vec<_> =
            self.attributes.iter().map(|(name, values)| format!("{name}={}", values.join(","))).collect();
        format!("account {}: {}", self.account.address, changes.join(" "))
    }

    fn details(&self) -> Result<Vec<String>> {
        let now = self.site.account(&self.account.id)?;
        let line = |(name, values): (&String, &Vec<String>)| {
            format!("{name}: {} -> {}", shown(now.entry.all(name)), shown(values))
        };
        Ok(self.attributes.iter().map(line).collect())
    }

    fn pretend(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn undo(&self) -> Result<Option<Undo>> {
        if self.is_pivot() {
            return Ok(None);
        }
        let now = self.site.account(&self.account.id)?;
        let attributes: Attributes =
            self.attributes.keys().map(|name| (name.clone(), now.entry.all(name).to_vec())).collect();
        let attributes = with_following(attributes, &now.entry);
        let restore = Restore { account_id: self.account.id.clone(), attributes };
        restore.to_undo(self.account.address.as_str()).map(Some)
    }

    /// Whoever names another store, by whatever name, switches.
    fn is_pivot(&self) -> bool {
        names_home(&self.attributes)
    }

    fn observe(&self) -> Result<Option<Option<u64>>> {
        Ok((self.is_pivot() && shows(&self.site.account(&self.account.id)?, &self.attributes)).then_some(None))
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<Option<u64>> {
        // As the account was when it was read: who becomes active again is as locked out or suspended as before.
        let attributes = with_following(self.attributes.clone(), &self.account.entry);
        let cancel = if self.is_pivot() { watch.cancel().patient() } else { watch.cancel().clone() };
        let began = millis();
        set(&self.site, watch.gate(), &self.account.id, &attributes, &cancel)?;
        // The user waits from when the status is asked for until another one is there.
        let is_closed = status_in(&self.attributes) == Some(AccountStatus::Maintenance);
        Ok(Some(if is_closed { began } else { millis() }))
    }
}

/// Sets attributes back to what they were, and lets every store know. The account is restored once the directory has it: a
/// store that cannot be told is told of, since it forgets by itself what it knew.
pub(super) fn restore(run: &Run, site: &Site, restore: &Restore) -> Result<()> {
    match set(site, &run.gate, &restore.account_id, &restore.attributes, site.cancel()) {
        Err(error) if error.kind() == Kind::Unreachable => {
            log::warn!("{error}; setting the attributes in the directory itself");
            set_in_directory(site, &restore.account_id, &restore.attributes)?;
        }
        done => done?,
    }
    for text in super::flush_caches::accounts(site, &restore.account_id, run.without())? {
        run.gate.emit(&Event::Warned { text });
    }
    Ok(())
}

/// Sets attributes in the directory's master, past mailboxd: the way back for an account whose store is down. Only
/// what still has another value is touched, and only if it has not changed in between.
fn set_in_directory(site: &Site, id: &ZimbraId, attributes: &Attributes) -> Result<()> {
    let directory = site.directory()?;
    let account = site.account(id)?;
    for (name, values) in attributes {
        let now = account.entry.all(name);
        let single = |values: &[String]| match values {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            _ => Err(Error::new(Kind::Data, format!("account {}: {name} has several values", account.address))),
        };
        let (old, new) = (single(now)?, single(values)?);
        if old != new {
            directory.compare_and_set(account.entry.dn(), name, old.as_deref(), new.as_deref())?;
        }
    }
    Ok(())
}

/// Sets attributes through the account's home, then waits until the directory's master shows them. What Zimbra makes
/// otherwise along with the status is set once more by itself.
pub(super) fn set(site: &Site, gate: &Gate, id: &ZimbraId, attributes: &Attributes, cancel: &Cancel) -> Result<()> {
    let Some(status) = status_in(attributes) else { return ask(site, gate, id, attributes, cancel) };
    let (following, own): (Attributes, Attributes) =
        attributes.clone().into_iter().partition(|(name, _)| follows_status(name));
    let account = site.account(id)?;
    if !shows(&account, &own) {
        // The mail status goes along, so that Zimbra does not set one of its own.
        let mail = following.iter().filter(|(name, _)| name.eq_ignore_ascii_case("zimbraMailStatus"));
        let mut first = own.clone();
        first.extend(mail.map(|(name, values)| {
            let forced = status.forced_mail_status().map(|forced| vec![forced.to_owned()]);
            (name.clone(), forced.unwrap_or_else(|| values.clone()))
        }));
        ask(site, gate, id, &first, cancel)?;
    }
    let now = site.account(id)?;
    let mut left: Attributes = following.clone();
    left.retain(|name, values| !shows_values(&now, name, values));
    if left.is_empty() {
        return Ok(());
    }
    if status == AccountStatus::Active {
        // Without a status no reason is taken; the one that is in force changes nothing else.
        left.extend(attributes.clone().into_iter().filter(|(name, _)| is_status(name)));
    }
    ask(site, gate, id, &left, cancel)
}

/// Whether attributes name a store: the account's, or that of its mail.
pub(super) fn names_home(attributes: &Attributes) -> bool {
    home_in(attributes).is_some()
}

fn home_in(attributes: &Attributes) -> Option<&str> {
    let is_home = |name: &&String| [HOST, TRANSPORT].iter().any(|home| name.eq_ignore_ascii_case(home));
    attributes.keys().find(is_home).map(String::as_str)
}

fn is_status(name: &str) -> bool {
    ["zimbraAccountStatus", "zimbraMailStatus"].iter().any(|status| name.eq_ignore_ascii_case(status))
}

fn follows_status(name: &str) -> bool {
    FOLLOW_STATUS.iter().any(|following| name.eq_ignore_ascii_case(following))
}

/// The status among attributes, if there is one.
fn status_in(attributes: &Attributes) -> Option<AccountStatus> {
    let (_, values) = attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case("zimbraAccountStatus"))?;
    values.concat().parse().ok()
}

/// Adds to attributes with a status what Zimbra changes along with it, as `entry` has it and where it has any.
fn with_following(mut attributes: Attributes, entry: &Entry) -> Attributes {
    if status_in(&attributes).is_none() {
        return attributes;
    }
    for name in FOLLOW_STATUS {
        let values = entry.all(name);
        if !values.is_empty() && !attributes.keys().any(|known| known.eq_ignore_ascii_case(name)) {
            attributes.insert((*name).to_owned(), values.to_vec());
        }
    }
    attributes
}

/// Asks the account's home to set attributes, and waits until the directory's master shows them.
///
/// What the directory shows settles an answer that was lost; what it does not show may still come. So whatever fails from
/// then on is as unknown as that: the refusal of a second request says nothing of the first, and a stop nothing of either.
fn ask(site: &Site, gate: &Gate, id: &ZimbraId, attributes: &Attributes, cancel: &Cancel) -> Result<()> {
    let account = site.account(id)?;
    late::note_carried_out(gate, &account);
    if shows(&account, attributes) {
        return Ok(());
    }
    let home = account
        .mail_host
        .clone()
        .ok_or_else(|| Error::new(Kind::NotFound, format!("account {}: has no zimbraMailHost", account.address)))?;
    let list: Vec<(&str, Vec<String>)> = attributes.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
    let asked = Asked::Modify { account: id.clone(), attributes: attributes.clone() };
    let admin = site.admin()?;
    let request = || late::send(gate, &home, &asked, || admin.modify_account(&home, id, &list));
    let is_shown = |limit| shown_within(site, id, attributes, limit, cancel).map_err(|error| error.code(AMBIGUOUS));
    let lost = |sent: &Result<i64>| sent.as_ref().is_err_and(|e| e.peer_code() == Some(AMBIGUOUS));
    let mut sent = request();
    if lost(&sent) {
        if is_shown(RESEND)? {
            late::note_carried_out(gate, &site.account(id)?);
            return Ok(());
        }
        // It sets the same values, so that a first request that is only late does no harm by itself.
        sent = request().map_err(|error| error.code(AMBIGUOUS));
    }
    // A refusal is final; only an answer that got lost may hide a success.
    if sent.is_err() && !lost(&sent) {
        return sent.map(drop);
    }
    if is_shown(READ_BACK)? {
        sent.into_iter().for_each(|number| gate.is_known(number));
        return Ok(());
    }
    Err(sent.err().unwrap_or_else(|| {
        Error::new(
            Kind::Unequal,
            format!("account {}: the directory does not show what {home} has set", account.address),
        )
        .hint("is the directory's master reachable from that store, and is its ldap_master_url right?")
        .retryable()
        .code(AMBIGUOUS)
    }))
}

/// Whether the directory's master shows the attributes before the time is over.
fn shown_within(site: &Site, id: &ZimbraId, attributes: &Attributes, limit: Duration, cancel: &Cancel) -> Result<bool> {
    let until = Instant::now() + limit;
    loop {
        if shows(&site.account(id)?, attributes) {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        wait(cancel, 0.05)?;
    }
}

pub(super) fn shows(account: &Account, attributes: &Attributes) -> bool {
    attributes.iter().all(|(name, values)| shows_values(account, name, values))
}

fn shows_values(account: &Account, name: &str, values: &[String]) -> bool {
    let mut now = account.entry.all(name).to_vec();
    let mut wanted = values.to_vec();
    now.sort();
    wanted.sort();
    now == wanted
}

fn shown(values: &[String]) -> String {
    if values.is_empty() { "(not set)".to_owned() } else { values.join(", ") }
}
