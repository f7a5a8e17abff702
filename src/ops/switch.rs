//! The new home: the row gets its account, the directory its store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::freeze::{Unlock, unlock};
use super::index;
use super::kept::Recount;
use super::soap_modify::{self, Attributes};
use super::stage::{Move, Pair};
use super::undo::to_undo;
use super::verify::{Still, Verified, still, still_there};
use crate::cancel::Cancel;
use crate::error::{Error, Kind, Result};
use crate::gate::{AMBIGUOUS, Kept, Operation, Undo, Watch};
use crate::parallel;
use crate::run::{Run, own};
use crate::site::{Site, Store};
use crate::store::{self, Claims, Staged};
use crate::zimbra::account::{Account, is_transport_of};
use crate::zimbra::ids::{Host, ZimbraId};

/// Gives the account its new home. Fails with [`Kind::Refused`] when the proof is for another store.
pub fn switch(run: &Run, dest: &Arc<Store>, proof: &Arc<Verified>) -> Result<()> {
    let mv = &proof.freeze.mv;
    if dest.name() != mv.survey.dest.as_str() {
        let message = format!("switch to {}: the proof is for a copy on {}", dest.name(), mv.survey.dest);
        return Err(Error::new(Kind::Refused, message));
    }
    if proof.freeze.switched.load(Ordering::SeqCst) {
        let message =
            format!("account {}: is on {} already: the proof was used", mv.survey.account.address, dest.name());
        return Err(Error::new(Kind::Refused, message));
    }
    match mv.goes_back() {
        true => run.gate.pass(&Recount { mv: mv.clone() })?,
        false => run.gate.pass(&Publish { mv: mv.clone() })?,
    }
    run.gate.pass(&Settle { proof: proof.clone(), patience: run.site.config().patience() })?;
    run.gate.pass(&Still { site: run.site.clone(), freeze: proof.freeze.clone() })?;
    run.gate.pass(&Switch { site: run.site.clone(), proof: proof.clone() })?;
    proof.freeze.switched.store(true, Ordering::SeqCst);
    Ok(())
}

/// Puts the real account id into the row, which only then can be opened.
struct Publish {
    mv: Arc<Move>,
}

/// What takes the account id out again.
#[derive(Serialize, Deserialize)]
pub(super) struct Unpublish {
    pub(super) store: Host,
    pub(super) staged: Staged,
    pub(super) account_id: ZimbraId,
}

impl Unpublish {
    /// It as undo data.
    pub(super) fn to_undo(&self) -> Result<Undo> {
        let what = format!("mailbox {} on {}: back under its placeholder", self.staged.id, self.store);
        to_undo("unpublish", self, what)
    }
}

impl Operation for Publish {
    type Output = ();

    fn name(&self) -> &'static str {
        "switch_to"
    }

    fn describe(&self) -> String {
        format!("mailbox {} on {} is the account's", self.mv.staged.id, self.mv.survey.dest)
    }

    fn details(&self) -> Result<Vec<String>> {
        Ok(vec![format!(
            "UPDATE zimbra.mailbox SET account_id = '{}' WHERE id = {}",
            self.mv.survey.account.id, self.mv.staged.id
        )])
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn undo(&self) -> Result<Option<Undo>> {
        let unpublish = Unpublish {
            store: self.mv.survey.dest.clone(),
            staged: self.mv.staged.clone(),
            account_id: self.mv.survey.account.id.clone(),
        };
        unpublish.to_undo().map(Some)
    }

    fn apply(&self, _: &Watch<'_>) -> Result<()> {
        let mut session = self.mv.dest.session()?;
        store::publish(&mut session, &self.mv.staged, self.mv.survey.account.id.as_str())
    }
}

/// Takes the account id out of a row again, if it is in it.
pub(super) fn unpublish(site: &Site, claims: &Claims, unpublish: &Unpublish) -> Result<()> {
    let store = own(claims, site.store(unpublish.store.as_str())?);
    store::unpublish(&mut *store.session()?, &unpublish.staged, unpublish.account_id.as_str())
}

/// Makes the destination keep what it was told: a Zimbra MariaDB forgets commits of the last second when it is
/// killed, and files wait in memory.
///
/// `settle` before the freeze has written whole file systems; here it is exactly what was copied since: the blobs by
/// their names, the index, and whole volumes only where more was copied. All of it at once, and meanwhile the index,
/// which a store may still write for a moment after the lock, is made equal once more, and the source is seen to have
/// stood still since it was frozen.
struct Settle {
    proof: Arc<Verified>,
    /// How long an index that is still written to is waited for.
    patience: Duration,
}

impl Operation for Settle {
    type Output = ();

    fn name(&self) -> &'static str {
        "switch_to"
    }

    fn describe(&self) -> String {
        let mv = &self.proof.freeze.mv;
        let (source, dest) = (&mv.survey.source, &mv.survey.dest);
        format!("{dest} writes rows and blobs to disk, mailbox {} on {source} is as it was", mv.source_id())
    }

    fn kept(&self) -> Kept {
        // The destination's mailboxd may have deleted what was put down.
        Kept::UntilSwitch
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<()> {
        let freeze = &self.proof.freeze;
        let mv = &freeze.mv;
        let cancel = watch.cancel();
        let mut work: Vec<Box<dyn FnOnce() -> Result<()> + Send + '_>> = Vec::new();
        work.push(Box::new(|| self.keep_rows()));
        work.push(Box::new(|| still(&self.proof)));
        work.push(Box::new(|| still_there(&self.proof)));
        for pair in mv.pairs()?.into_iter().filter(|pair| is_unsynced(mv, pair)) {
            work.push(Box::new(move || sync(mv, &pair, cancel)));
        }
        if !mv.goes_back() {
            for (pair, files) in super::blobs::left(freeze, watch.cancel())? {
                work.push(Box::new(move || pair.dest.sync_files(&files, cancel)));
            }
            work.push(Box::new(|| index::settle(freeze, self.patience, watch)));
        }
        parallel::all(work.len(), work, |work| work()).into_iter().collect()
    }
}

impl Settle {
    /// Puts down what was set aside, makes the rows survive from here on, and sees that they are those that were proved:
    /// a server that was killed since, and is there again, has forgotten the last of them.
    fn keep_rows(&self) -> Result<()> {
        let mv = &self.proof.freeze.mv;
        let mut session = mv.dest.session()?;
        if let Some(aside) = mv.aside() {
            aside.put(&mut session, &mv.staged)?;
        }
        store::barrier(&mut session)?;
        if self.proof.server.lives_on(&session.identity()?) {
            return Ok(());
        }
        let message = format!("MariaDB of {}: was started again since the copies were compared", mv.survey.dest);
        Err(Error::new(Kind::Unequal, message).hint("it may have lost rows: start the move again"))
    }
}

fn is_unsynced(mv: &Move, pair: &Pair) -> bool {
    mv.dest.is_unsynced(&pair.dest.volume.message_dir(pair.dest.mailbox))
}

fn sync(mv: &Move, pair: &Pair, cancel: &Cancel) -> Result<()> {
    let dir = pair.dest.volume.message_dir(pair.dest.mailbox);
    mv.dest.synced(&dir, || pair.dest.sync(cancel))
}

/// Writes what was copied so far to the destination's disks, while the user works.
pub struct Sync {
    /// The move.
    pub mv: Arc<Move>,
}

impl Operation for Sync {
    type Output = ();

    fn name(&self) -> &'static str {
        "settle"
    }

    fn describe(&self) -> String {
        format!("{} writes what was copied to disk", self.mv.survey.dest)
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<()> {
        for pair in self.mv.pairs()? {
            sync(&self.mv, &pair, watch.cancel())?;
        }
        let index = self.mv.index_pair()?.dest;
        let dir = index.volume.index_dir(index.mailbox);
        self.mv.dest.synced(&dir, || index.sync_index(watch.cancel()))
    }
}

/// Changes zimbraMailHost; Zimbra changes zimbraMailTransport along with it.
struct Switch {
    site: Arc<Site>,
    proof: Arc<Verified>,
}

impl Operation for Switch {
    type Output = ();

    fn name(&self) -> &'static str {
        "switch_to"
    }

    fn describe(&self) -> String {
        let survey = &self.proof.freeze.mv.survey;
        format!("account {}: zimbraMailHost {} -> {}", survey.account.address, survey.source, survey.dest)
    }

    fn details(&self) -> Result<Vec<String>> {
        let survey = &self.proof.freeze.mv.survey;
        Ok(vec![format!("ModifyAccountRequest id={} zimbraMailHost={}", survey.account.id, survey.dest)])
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn is_pivot(&self) -> bool {
        true
    }

    fn observe(&self) -> Result<Option<()>> {
        let survey = &self.proof.freeze.mv.survey;
        let now = self.site.account(&survey.account.id)?;
        match (&now.mail_host, &now.transport) {
            (Some(host), Some(transport)) if *host == survey.dest && is_transport_of(transport, host) => Ok(Some(())),
            (Some(host), _) if *host == survey.dest => Err(self.half_done(&now)),
            _ => Ok(None),
        }
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<()> {
        let survey = &self.proof.freeze.mv.survey;
        let now = self.site.account(&survey.account.id)?;
        if now.mail_host.as_ref() != Some(&survey.source) {
            let host = now.mail_host.map(|h| h.to_string()).unwrap_or_default();
            return Err(Error::new(
                Kind::Refused,
                format!("account {}: is on {host} now, not on {} any more", survey.account.address, survey.source),
            ));
        }
        watch.check_guard()?;
        let attributes = Attributes::from([(soap_modify::HOST.to_owned(), vec![survey.dest.to_string()])]);
        // Whoever asks to stop in between would leave it open whether this has happened.
        let patient = watch.cancel().patient();
        soap_modify::set(&self.site, watch.gate(), &survey.account.id, &attributes, &patient)
            .map_err(|error| unknown(self, error))?;
        let now = self.site.account(&survey.account.id).map_err(|error| error.code(AMBIGUOUS))?;
        match &now.transport {
            Some(transport) if is_transport_of(transport, &survey.dest) => Ok(()),
            _ => Err(self.half_done(&now)),
        }
    }
}

impl Switch {
    /// The account has its new home, and its mail goes elsewhere.
    fn half_done(&self, now: &Account) -> Error {
        let transport = &now.transport;
        let message = format!("account {}: zimbraMailTransport is {transport:?} after the switch", now.address);
        Error::new(Kind::Unequal, message)
            .hint("set it to lmtp:STORE:7025 of the new store before the account is opened")
            .code(AMBIGUOUS)
    }
}

/// An error of the switch, marked as one after which nobody knows, unless it is a refusal and the directory still has the
/// old host.
fn unknown(switch: &Switch, error: Error) -> Error {
    let survey = &switch.proof.freeze.mv.survey;
    if error.peer_code() == Some(AMBIGUOUS) {
        return error.hint(format!(
            "nobody knows whether {} has done it, or will: `zlm resume` asks again; nothing is undone before mailboxd is \
             started again there, or so much time has passed that it cannot any more",
            survey.source
        ));
    }
    match switch.site.account(&survey.account.id) {
        Ok(now) if now.mail_host.as_ref() == Some(&survey.source) => error,
        _ => error.code(AMBIGUOUS),
    }
}

/// Lets the new home open the mailbox.
pub struct Open {
    /// The site.
    pub site: Arc<Site>,
    /// The move.
    pub mv: Arc<Move>,
}

impl Operation for Open {
    type Output = ();

    fn name(&self) -> &'static str {
        "open_mailbox"
    }

    fn describe(&self) -> String {
        format!("{} opens mailbox {}", self.mv.survey.dest, self.mv.staged.id)
    }

    fn details(&self) -> Result<Vec<String>> {
        let mut details = vec![format!("GetMailboxRequest id={}", self.mv.survey.account.id)];
        if self.mv.goes_back() {
            details.insert(0, format!("LockoutMailboxRequest op=end account={}", self.mv.survey.account.id));
        }
        Ok(details)
    }

    fn pretend(&self) -> Result<()> {
        Ok(())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<()> {
        let survey = &self.mv.survey;
        let server = self.site.server(&survey.dest)?;
        if self.mv.goes_back() {
            // As the move left it. Not sooner: a mailbox in memory is used whatever the account's home is, and its
            // sessions of before the move are still there. Not later: what is locked cannot be opened.
            unlock(&self.site, &Unlock { store: survey.dest.clone(), account_id: survey.account.id.clone() })?;
        }
        let opened = self.site.admin()?.get_mailbox(&survey.dest, &survey.account.id, Some(&server.id))?;
        if opened.get() != self.mv.staged.id {
            return Err(Error::new(
                Kind::Unequal,
                format!(
                    "{}: opened mailbox {opened} for {}, not {}",
                    survey.dest, survey.account.address, self.mv.staged.id
                ),
            )
            .hint("mailboxd remembers an earlier stay of the account: restart mailboxd there, then finish"));
        }
        self.put_shares()
    }
}

impl Open {
    /// Puts shares down once more that the new home may have deleted before it was one, and those of a run that did not
    /// set them aside.
    fn put_shares(&self) -> Result<()> {
        let shares = match self.mv.aside() {
            Some(aside) => aside.shares.clone(),
            None => store::shares(&mut *self.mv.source.session()?, self.mv.source_id())?,
        };
        store::put_shares(&mut *self.mv.dest.session()?, self.mv.staged.id, &shares)
    }
}
