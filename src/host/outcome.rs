//! How a run ended: what it gave back or why it failed, what was undone, and where the mailbox is now.

use std::sync::Arc;
use std::time::Instant;

use rhai::{Dynamic, EvalAltResult, Map, Position};
use serde::Serialize;

use super::diagnostic::without_position;
use super::script;
use crate::api::{Fault, Location};
use crate::cancel::Cancel;
use crate::error::{Context, Error, Kind, Result};
use crate::gate::Rollback;
use crate::journal::{self, Record, Switched};
use crate::ops;
use crate::ops::finish::Finished;
use crate::report::PlanEntry;
use crate::run::{Run, Subject};

pub use crate::run::Entered;
use crate::site::Site;

pub use crate::ops::state::State;

/// Why a run failed, and what became of the mailbox.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub error: Arc<Error>,
    /// Where in the script.
    pub at: Option<Location>,
    /// What was undone, in that order.
    pub undone: Vec<String>,
    /// What could not be undone, and why.
    pub not_undone: Vec<(String, Error)>,
    /// Where the mailbox is now; none when the run was about none, or nobody can tell.
    pub state: Option<State>,
    /// Whether the script would come to the same end if it were taken up again.
    pub for_good: bool,
}

impl Failure {
    /// A failure of which no more is known than its error.
    fn new(error: impl Into<Arc<Error>>) -> Self {
        Self { error: error.into(), at: None, undone: Vec::new(), not_undone: Vec::new(), state: None, for_good: false }
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// The run's name, as in placeholders and logs.
    pub run: String,
    /// What it was about.
    pub subject: Option<Subject>,
    /// Whether the mailbox has its new home.
    pub switched: bool,
    /// What the script gave back.
    pub value: serde_json::Value,
    /// What a dry run would have done.
    pub plan: Vec<PlanEntry>,
    /// How each entry of its list ended, where it ran a script for each.
    pub entries: Vec<Entered>,
    /// Seconds that the account was frozen.
    pub frozen_seconds: f64,
    /// Seconds in all.
    pub seconds: f64,
    /// Whether the run is in a journal, so that it can be taken up again.
    pub journaled: bool,
    /// Whether it was undone because somebody asked for that.
    pub rolled_back: bool,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// An outcome as plain data, for scripts and for JSON.
#[derive(Debug, Serialize)]
pub struct Summary {
    run: String,
    ok: bool,
    code: u8,
    email: Option<String>,
    switched: bool,
    frozen_s: f64,
    seconds: f64,
    kind: Option<&'static str>,
    message: Option<String>,
    hint: Option<String>,
    at: Option<Location>,
    state: Option<String>,
    next: Option<String>,
    undone: Vec<String>,
    not_undone: Vec<String>,
    value: serde_json::Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entries: Vec<Entered>,
    plan: Vec<PlanEntry>,
}

impl Outcome {
    /// The process's exit status:
    ///
    /// | status | meaning |
    /// |---|---|
    /// | 0 | done |
    /// | 1 | failed; everything was undone |
    /// | 2 | a wrong option, script or configuration; nothing was begun |
    /// | 3 | refused by preflight; nothing was changed |
    /// | 4 | an operator must finish: the message says what and how |
    /// | 5 | held by another run |
    /// | 6 | some accounts of a batch failed, or an audit found problems |
    /// | 130 | stopped on request; everything was undone, but for accounts that a batch says are done |
    pub fn exit_code(&self) -> u8 {
        let Some(failure) = &self.failure else { return 0 };
        if failure.error.is_lost() {
            return 5;
        }
        if self.switched || !failure.not_undone.is_empty() {
            return 4;
        }
        if self.rolled_back {
            return 0;
        }
        // A refusal that comes late is a failure like any other: something had been begun.
        let begun = !failure.undone.is_empty();
        match failure.error.kind() {
            Kind::Usage | Kind::Config | Kind::Refused if begun => 1,
            kind => kind.exit_code(),
        }
    }

    /// The one command to run next, where there is one.
    pub fn next_command(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        if failure.error.is_lost() {
            return None;
        }
        let run = &self.run;
        if self.switched && self.journaled {
            let word = if failure.for_good { "finish" } else { "resume" };
            return Some(format!("zlm {word} {run}"));
        }
        let Subject { email, status, dest, .. } = self.subject.as_ref()?;
        match (self.switched, failure.not_undone.is_empty(), self.journaled) {
            (true, ..) => Some(format!("zlm reconcile {email}")),
            (false, false, true) => Some(format!("zlm rollback {run}")),
            (false, false, false) => {
                Some(format!("zlm run scripts/undo.rhai --email {email} --dest {dest} --status {status}"))
            }
            (false, true, _) => None,
        }
    }

    /// The outcome as plain data.
    pub fn summary(&self) -> Summary {
        let failure = self.failure.as_ref();
        Summary {
            run: self.run.clone(),
            ok: self.exit_code() == 0,
            code: self.exit_code(),
            email: self.subject.as_ref().map(|s| s.email.clone()),
            switched: self.switched,
            frozen_s: self.frozen_seconds,
            seconds: self.seconds,
            kind: failure.map(|f| f.error.kind().word()),
            message: failure.map(|f| f.error.to_string()),
            hint: failure.and_then(|f| f.error.advice().map(str::to_owned)),
            at: failure.and_then(|f| f.at.clone()),
            state: failure.and_then(|f| f.state.as_ref().map(ToString::to_string)),
            next: self.next_command(),
            undone: failure.map(|f| f.undone.clone()).unwrap_or_default(),
            not_undone: failure
                .map(|f| f.not_undone.iter().map(|(what, why)| format!("{what}: {why}")).collect())
                .unwrap_or_default(),
            value: self.value.clone(),
            entries: self.entries.clone(),
            plan: self.plan.clone(),
        }
    }
}

/// What becomes of a run that is taken up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on.
    Resume,
    /// It is undone.
    Undo,
    /// It is ended without its script.
    Finish,
}

/// Undoes a run that is not at work any more. A request to stop by `cancel` ends the wait for what may still switch.
///
/// Fails with [`Kind::Refused`] when the mailbox has its new home, as the journal or the directory says.
pub(super) fn roll_back(run: &Arc<Run>, record: &Record, cancel: &Cancel) -> Result<Outcome> {
    let started = Instant::now();
    if let Some(subject) = subject_of(record)? {
        refuse_to_go_back(run, &subject, record.switched)?;
    }
    match take_up(run, record, Next::Undo, cancel) {
        Ok(true) => {}
        Ok(false) => {
            return had_ended(run, record, started).map(|outcome| Outcome { rolled_back: true, ..outcome });
        }
        Err(error) if run.gate.switched() == Switched::Maybe => return not_taken_up(run, record, started, error),
        Err(error) => return Err(error),
    }
    if let Some(subject) = run.subject() {
        refuse_to_go_back(run, &subject, run.gate.switched())?;
    }
    let error = Error::new(Kind::Cancelled, format!("run {}: rolled back", run.id));
    let mut failure = Failure::new(error);
    undo(run, &run.site, &mut failure);
    failure.state = run.subject().and_then(|subject| ops::state::look(&run.site, &subject).ok());
    let ended = ending(run, &failure);
    end(run, ended, None);
    Ok(Outcome { rolled_back: true, ..outcome(run, started, serde_json::Value::Null, Some(failure)) })
}

fn refuse_to_go_back(run: &Run, subject: &Subject, switched: Switched) -> Result<()> {
    let now = ops::state::look(&run.site, subject)?;
    if switched != Switched::Yes && now.store.as_deref() != Some(&subject.dest) {
        return Ok(());
    }
    let message = format!("run {}: {now}: the move has switched and only goes forward", run.id);
    Err(Error::new(Kind::Refused, message).hint(format!("zlm resume {}", run.id)))
}

/// The servers that a run leaves out which is taken up again: those that it left out before, and `more`.
///
/// Fails with [`Kind::Refused`] when one of these answers.
pub(super) fn left_out(site: &Site, record: &Record, more: &[String]) -> Result<Vec<String>> {
    let mut without = script::left_out(&record.pinned.options);
    let more: Vec<String> = more.iter().filter(|host| !without.contains(host)).cloned().collect();
    if let (Some(subject), false) = (subject_of(record)?, more.is_empty()) {
        ops::peers::refuse_to_leave_out(site, &subject, &more)?;
    }
    without.extend(more);
    Ok(without)
}

pub(super) fn subject_of(record: &Record) -> Result<Option<Subject>> {
    let subject = record.subject.clone().map(serde_json::from_value).transpose();
    subject.context(Kind::Data, || format!("run {}: what it is about", record.run))
}

/// Takes up a run that is not at work any more: first of all the claims that it had. Gives whether it is still to be
/// ended.
///
/// Whether it may have switched is found out as soon as nobody else can ask for that any more. One that goes on need not
/// know: it asks once more. One that is undone waits until it is known, and so does one that begins anew.
///
/// # Errors
/// One that [`Error::is_lost`] when another run claims its account; its record then says so. [`Kind::Cancelled`] for a request
/// to stop by `cancel` while it waits.
pub(super) fn take_up(run: &Arc<Run>, record: &Record, next: Next, cancel: &Cancel) -> Result<bool> {
    let is_undone = next != Next::Resume;
    if let Some(subject) = subject_of(record)? {
        run.set_subject(subject);
    }
    let journal = run.gate.journal();
    let is_rebuilt = journal.map_or(Ok(false), |journal| journal.is_rebuilt())?;
    let had_claimed = is_rebuilt || journal.map_or(Ok(false), |journal| journal.has_done(ops::claim::CLAIM))?;
    let is_open = ops::claim::take_up(run, had_claimed, is_undone).inspect_err(|error| {
        if error.is_lost() {
            end(run, journal::State::TakenOver, Some(&error.to_string()));
        }
    })?;
    if is_open {
        ops::late::settle(run, &run.site, (is_rebuilt || is_undone).then_some(cancel))?;
    }
    if is_open && is_rebuilt && !is_undone && !run.gate.has_switched() {
        begin_anew(run)?;
    }
    // What it did is not done again, but the user waits since then.
    run.gate.set_hurried(run.gate.has_to_undo(ops::undo::is_of_account));
    Ok(is_open)
}

/// A run that had ended without being able to note it, or was ended from another host: notes it, as the directory has
/// the mailbox.
///
/// # Errors
/// One that [`Error::is_lost`] when it had not: somebody else removed its claims.
pub(super) fn had_ended(run: &Arc<Run>, record: &Record, started: Instant) -> Result<Outcome> {
    let subject = run.subject();
    let now = subject.as_ref().map(|subject| ops::state::look(&run.site, subject)).transpose()?;
    if let Some((subject, now)) = subject.as_ref().zip(now.as_ref())
        && ops::state::is_half_done(&run.site, &run.id, subject, now)?
    {
        return Err(Error::lost(format!("run {}: its claims are gone, and it has not ended: {now}", run.id)));
    }
    let is_moved = now.as_ref().zip(subject).is_some_and(|(now, subject)| now.store == Some(subject.dest));
    let switched = is_moved || record.switched == Switched::Yes;
    let (state, failure) = if switched {
        (journal::State::Done, None)
    } else {
        let error = Error::new(Kind::Refused, format!("run {}: had ended, and holds the account no more", run.id));
        (journal::State::RolledBack, Some(Failure { state: now, ..Failure::new(error) }))
    };
    end(run, state, None);
    Ok(Outcome { switched, ..outcome(run, started, serde_json::Value::Null, failure) })
}

/// How a run stands that could not be taken up again: as before. Fails with the error of a claim that somebody else has.
pub(super) fn not_taken_up(run: &Arc<Run>, record: &Record, started: Instant, error: Error) -> Result<Outcome> {
    if error.kind() == Kind::Held {
        return Err(error);
    }
    let subject = run.subject();
    let state = subject.as_ref().and_then(|subject| ops::state::look(&run.site, subject).ok());
    let is_moved =
        || state.as_ref().zip(subject.as_ref()).is_none_or(|(now, then)| now.store.as_ref() == Some(&then.dest));
    let switched = match record.switched {
        Switched::No => false,
        Switched::Yes => true,
        Switched::Maybe => is_moved(),
    };
    let waits = Error::new(Kind::Unreachable, "it waits to be taken up again");
    let not_undone = if switched { Vec::new() } else { vec![(format!("what run {} did", run.id), waits)] };
    let failure = Failure { not_undone, state, ..Failure::new(error) };
    Ok(Outcome { switched, ..outcome(run, started, serde_json::Value::Null, Some(failure)) })
}

/// A script whose journal was lost reads the account again, and must find it as it was: unlocked and with its status.
/// Its copy stays, and is taken up where it is staged.
fn begin_anew(run: &Run) -> Result<()> {
    let rollback = run.gate.roll_back_only(ops::undo::is_of_account, |undo| ops::undo::perform(run, &run.site, undo));
    rollback.failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// Undoes what a run did, and lets go of what it held once nothing is left to undo.
fn undo(run: &Run, site: &Site, failure: &mut Failure) {
    // A signal that ended zlm's children too has ended the tunnels of its claims.
    run.claims.reach(|store| Ok(site.store(store)?.db().target().clone()));
    let Rollback { undone, failed, .. } = run.gate.roll_back(|undo| ops::undo::perform(run, site, undo));
    failure.undone = undone;
    failure.not_undone = failed;
    if failure.not_undone.is_empty() {
        let came = ops::late::came_after_all(run, site).map(|error| ("zimbraMailHost".to_owned(), error));
        failure.not_undone.extend(came.or_else(|| left_to_come(run, site)));
    }
    if let Some(at) = failure.not_undone.iter().position(|(_, error)| error.is_lost()) {
        // What is left is another run's to undo.
        failure.error = Arc::new(failure.not_undone.swap_remove(at).1);
        failure.not_undone.clear();
    } else if failure.not_undone.is_empty() {
        failure.not_undone = run.claims.release_own(&run.id);
    }
}

/// Sees out what the run asked for and may still come, so that an account stays as it is told to be. Gives what is left of that.
fn left_to_come(run: &Run, site: &Site) -> Option<(String, Error)> {
    let what = || format!("what run {} asked for, and may still come", run.id);
    ops::late::see_out(run, site, site.cancel()).err().map(|error| (what(), error))
}

/// How a run that failed stands.
fn ending(run: &Run, failure: &Failure) -> journal::State {
    match failure.error.is_lost() {
        true => journal::State::TakenOver,
        false if run.gate.has_switched() || !failure.not_undone.is_empty() => journal::State::Unfinished,
        false => journal::State::RolledBack,
    }
}

/// Ends a run: undoes what it did when it failed before its switch, and looks where the mailbox is now.
///
/// One that is taken up `again`, and fails while nobody knows whether it has switched, waits until that is known.
pub(super) fn settle(
    run: &Arc<Run>,
    started: Instant,
    result: Result<Dynamic, Box<EvalAltResult>>,
    again: bool,
) -> Outcome {
    let (value, failure) = match result {
        Ok(value) => match left(run) {
            Some(failure) => (serde_json::Value::Null, Some(failed(run, failure, again))),
            None => (serde_json::to_value(&value).unwrap_or_default(), let_go(run)),
        },
        Err(error) => (serde_json::Value::Null, Some(failed(run, thrown_by(&error), again))),
    };
    ended(run, started, value, failure)
}

/// Ends a run that was finished without its script.
pub(super) fn finished(run: &Arc<Run>, started: Instant, finished: Result<Finished>) -> Outcome {
    let (value, failure) = match finished {
        Ok(finished) => (serde_json::to_value(&finished).unwrap_or_default(), let_go(run)),
        Err(error) => {
            (serde_json::Value::Null, Some(failed(run, Failure { for_good: true, ..Failure::new(error) }, false)))
        }
    };
    ended(run, started, value, failure)
}

fn ended(run: &Arc<Run>, started: Instant, value: serde_json::Value, failure: Option<Failure>) -> Outcome {
    let state = match &failure {
        None => journal::State::Done,
        Some(failure) => ending(run, failure),
    };
    if let (journal::State::Unfinished, Some(failure)) = (state, &failure) {
        log::warn!("run {} remains to be ended: {}", run.id, failure.error);
    }
    end(run, state, failure.as_ref().map(|f| f.error.to_string()).as_deref());
    outcome(run, started, value, failure)
}

/// Keeps how the run ended. A journal that cannot be written any more changes nothing about that.
fn end(run: &Run, state: journal::State, error: Option<&str>) {
    if let Some(journal) = run.gate.journal()
        && let Err(failed) = journal.end(state, error)
    {
        log::error!("{failed}");
    }
    if state == journal::State::Unfinished {
        run.claims.set_down();
    }
}

fn outcome(run: &Run, started: Instant, value: serde_json::Value, failure: Option<Failure>) -> Outcome {
    Outcome {
        run: run.id.clone(),
        subject: run.subject(),
        switched: run.gate.has_switched(),
        value,
        plan: run.gate.planned(),
        entries: run.entered(),
        frozen_seconds: run.frozen_seconds(),
        seconds: started.elapsed().as_secs_f64(),
        journaled: run.gate.journal().is_some(),
        rolled_back: false,
        failure,
    }
}

/// Lets go of what a run held that ended well. What is left of that is a failure: it keeps others away.
fn let_go(run: &Run) -> Option<Failure> {
    if !run.gate.is_dry()
        && let Some(left) = left_to_come(run, &run.site)
    {
        let error = Error::new(left.1.kind(), format!("run {}: is done, but for {}: {}", run.id, left.0, left.1));
        let state = run.subject().and_then(|subject| ops::state::look(&run.site, &subject).ok());
        return Some(Failure { not_undone: vec![left], state, ..Failure::new(error) });
    }
    let mut not_undone = run.claims.release(|hold| run.gate.insist(|| hold.release()));
    let state = || run.subject().and_then(|subject| ops::state::look(&run.site, &subject).ok());
    if let Some(at) = not_undone.iter().position(|(_, error)| error.is_lost()) {
        // Whoever took it over has ended it, and nothing that this run held is left.
        return Some(Failure { state: state(), ..Failure::new(not_undone.swap_remove(at).1) });
    }
    let (what, error) = not_undone.first()?;
    let error = Error::new(error.kind(), format!("run {}: is done, but for its {what}: {error}", run.id));
    let state = state();
    Some(Failure { not_undone, state, ..Failure::new(error) })
}

/// What a script has left that ended well: a failure, unless every account that it touched is open.
fn left(run: &Run) -> Option<Failure> {
    if run.gate.is_dry() {
        return None;
    }
    match ops::left::left(run) {
        Ok(None) => None,
        Ok(Some(missing)) => Some(Failure { for_good: true, ..Failure::new(Error::new(Kind::Script, missing)) }),
        Err(error) => Some(Failure::new(error)),
    }
}

/// What a script failed with. A fault of its own it would come to again, however often it were taken up.
fn thrown_by(error: &EvalAltResult) -> Failure {
    let (error, at) = cause(error);
    let for_good = matches!(error.kind(), Kind::Script | Kind::Usage | Kind::Config | Kind::Partial | Kind::Refused);
    Failure { at, for_good, ..Failure::new(error) }
}

/// A run that failed: undoes what it did, unless it has switched.
fn failed(run: &Arc<Run>, mut failure: Failure, again: bool) -> Failure {
    if run.gate.is_dry() {
        return failure;
    }
    // New connections, since the old ones may be broken; and the request to stop must not stop the way back.
    let site = Site::new(run.site.config().clone(), run.site.cancel().patient()).map(Arc::new);
    if let (Ok(site), false) = (&site, failure.error.is_lost()) {
        let wait = (again && failure.error.kind() != Kind::Cancelled).then(|| run.site.cancel());
        if let Err(error) = ops::late::settle(run, site, wait) {
            log::warn!("run {}: whether it has switched: {error}", run.id);
        }
    }
    if let (Ok(site), false, false) = (&site, run.gate.has_switched(), failure.error.is_lost()) {
        undo(run, site, &mut failure);
    }
    if failure.not_undone.is_empty() && !run.gate.has_switched() {
        run.set_frozen(false);
    }
    if let (Ok(site), Some(subject)) = (&site, run.subject()) {
        failure.state = ops::state::look(site, &subject).ok();
    }
    failure.for_good = run.gate.is_past_switch() && (failure.for_good || has_come_again(run, &failure.error));
    failure
}

/// Whether a run that was taken up failed as it did before, with what no time mends.
fn has_come_again(run: &Run, error: &Error) -> bool {
    let before = run.gate.journal().and_then(|journal| journal.error().ok().flatten());
    // Whoever asked it to stop may let it go on.
    let is_same = error.kind() != Kind::Cancelled && before.is_some_and(|before| before == error.to_string());
    is_same && !crate::gate::may_mend(error)
}

/// The error behind what Rhai reports, and the innermost place in a script.
fn cause(error: &EvalAltResult) -> (Arc<Error>, Option<Location>) {
    let mut source = None;
    let mut inner = error;
    loop {
        match inner {
            EvalAltResult::ErrorInFunctionCall(_, name, e, _) => {
                if !name.is_empty() {
                    source = Some(name.clone());
                }
                inner = e;
            }
            EvalAltResult::ErrorInModule(name, e, _) => {
                source = Some(name.clone());
                inner = e;
            }
            _ => break,
        }
    }
    let place = |at: Position| {
        at.line().map(|line| Location {
            source: source.clone().unwrap_or_else(|| "script".to_owned()),
            line,
            column: at.position().unwrap_or(1),
        })
    };
    let at = place(inner.position());
    match inner {
        EvalAltResult::ErrorRuntime(value, _) | EvalAltResult::ErrorTerminated(value, _) => {
            if let Some(fault) = value.clone().try_cast::<Fault>() {
                let at = fault.location().or(at);
                return (fault.error(), at);
            }
            (Arc::new(thrown(value)), at)
        }
        other => (Arc::new(Error::new(Kind::Script, without_position(other))), at),
    }
}

/// An error that a script threw: a text, or a map with `kind`, `message` and `hint`.
fn thrown(value: &Dynamic) -> Error {
    let Some(map) = value.read_lock::<Map>() else {
        return Error::new(Kind::Script, value.to_string());
    };
    // A script may put an error that it caught where its text belongs.
    let fault = |value: &Dynamic| value.clone().try_cast::<Fault>().map(|fault| fault.error().to_string());
    let text = |key: &str| map.get(key).map(|value| fault(value).unwrap_or_else(|| value.to_string()));
    let kind = text("kind").map_or(Kind::Script, |word| Kind::from_word(&word));
    let error = Error::new(kind, text("message").unwrap_or_else(|| "thrown without a message".to_owned()));
    match text("hint") {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
