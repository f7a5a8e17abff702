//! What a script has left when it ends: an account that is not open, a mailbox that is locked, a copy that is nobody's. The
//! directory is asked; what it cannot know, locks and copies, the undo that is left tells.

use std::sync::Arc;

use super::flush_caches::{Cache, memcacheds};
use super::stage::Move;
use super::state::{self, State};
use super::switch::Open;
use crate::error::Result;
use crate::run::{Run, Subject};
use crate::zimbra::account::AccountStatus;

/// Lets the new home open the mailbox, and remembers that it did.
pub fn open(run: &Run, mv: Arc<Move>) -> Result<()> {
    run.gate.pass(&Open { site: run.site.clone(), mv })?;
    run.note_opened();
    Ok(())
}

/// What keeps a run whose script has ended from being done, and the step that is missing; nothing where every account that
/// it touched is open, and has one mailbox.
///
/// Fails when the directory cannot be asked, and where another run has the account by now.
pub fn left(run: &Run) -> Result<Option<String>> {
    let missing = match run.gate.has_switched() {
        true => run.gate.insist(|| behind_switch(run))?,
        false => before_switch(run)?,
    };
    match run.gate.check_guard() {
        // What is missing is another run's to see to.
        Err(error) if missing.is_some() && error.is_lost() => Err(error),
        _ => Ok(missing),
    }
}

fn before_switch(run: &Run) -> Result<Option<String>> {
    let undo = run.gate.to_undo();
    let has = |names: &[&str]| undo.iter().any(|undo| names.contains(&undo.operation.as_str()));
    let about = run.subject().map(|subject| format!("account {}: ", subject.email)).unwrap_or_default();
    if has(&["unpublish", "count_back"]) {
        return Ok(Some(format!("{about}the script went on after its `switch_to` failed, and ended")));
    }
    if has(&["unlock"]) {
        return Ok(Some(format!("{about}the script ended while the mailbox was locked: `switch_to` is missing")));
    }
    if let Some(frozen) = frozen(run)? {
        return Ok(Some(frozen));
    }
    if has(&["unstage"]) {
        let missing = "`switch_to` is missing";
        return Ok(Some(format!("{about}the script ended with a copy that is not the account's: {missing}")));
    }
    Ok(None)
}

/// The first account that the run put into maintenance and that the directory still has there.
fn frozen(run: &Run) -> Result<Option<String>> {
    for closed in run.closed() {
        if closed.status == AccountStatus::Maintenance.word() {
            continue;
        }
        if run.site.account(&closed.account_id.parse()?)?.status == AccountStatus::Maintenance {
            let missing = "`account::reopen(who)` is missing, or `switch_to` and what comes after it";
            let text = format!("account {}: the script ended while it was in maintenance: {missing}", closed.email);
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn behind_switch(run: &Run) -> Result<Option<String>> {
    let Some(subject) = run.subject() else { return frozen(run) };
    let now = state::look(&run.site, &subject)?;
    if !run.gate.is_past_switch() {
        let text =
            format!("account {}: the script went on although nobody knew whether it had switched", subject.email);
        return Ok(Some(text));
    }
    let missing = missing(run, &subject, &now)?;
    if missing.is_empty() {
        return frozen(run);
    }
    Ok(Some(format!(
        "account {}: the script ended after its switch, before the mailbox was open at its new home: {} is missing",
        subject.email,
        missing.join(", ")
    )))
}

/// The steps behind the switch that did not come.
fn missing(run: &Run, subject: &Subject, now: &State) -> Result<Vec<String>> {
    let servers = run.site.servers()?;
    let stores = servers.iter().filter(|server| server.is_store()).map(|server| Cache::Mailboxd.of(&server.host));
    let named: Vec<String> =
        servers.iter().filter(|server| server.runs("memcached")).map(|server| server.host.to_string()).collect();
    let caches = memcacheds(&run.site, &named)?.into_iter().map(|(host, port)| Cache::Memcached(port).of(&host));
    let mut untold: Vec<String> = stores.chain(caches).filter(|cache| !run.has_told(cache)).collect();
    untold.dedup();
    let mut missing = Vec::new();
    if !untold.is_empty() {
        missing.push(format!("`flush_caches` of {}", untold.join(", ")));
    }
    if !run.has_opened() {
        missing.push("`open_mailbox`".to_owned());
    }
    if now.status == AccountStatus::Maintenance && subject.status != now.status.word() {
        missing.push("`account::reopen`".to_owned());
    }
    Ok(missing)
}
