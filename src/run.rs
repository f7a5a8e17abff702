//! One run of one script: its gate, the site it works on, what it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::gate::Gate;
use crate::site::{Site, Store};
use crate::store::Claims;

/// The account that a run moves, as it was found.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Subject {
    /// zimbraId.
    pub account_id: String,
    /// Primary address.
    pub email: String,
    /// The store it is moved from.
    pub source: String,
    /// The store it is moved to.
    pub dest: String,
    /// zimbraAccountStatus before the run.
    pub status: String,
    /// zimbraMailStatus before the run.
    #[serde(default)]
    pub mail_status: Option<String>,
}

/// Runs another script inside a run; the host is the only one who can.
pub trait Nested: Send + Sync {
    /// Runs the script at `path` with `options`, and gives back how it ended; `log` names a file for this one's log.
    fn run_script(
        &self,
        parent: &Run,
        path: &str,
        options: &BTreeMap<String, String>,
        log: Option<&str>,
    ) -> Result<serde_json::Value>;

    /// What is wrong with each of these maps of options for the script at `path`, before anything is run.
    fn check_options(&self, parent: &Run, path: &str, options: &[BTreeMap<String, String>]) -> Result<Vec<Vec<Error>>>;
}

/// How one of several runs ended, or stands, that a run starts for the entries of a list.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Entered {
    /// The account, as the list has it; `outcome` has it too.
    #[serde(skip)]
    pub email: String,
    /// `done`, `failed`, `refused`, `held`, `unfinished`, `partial`, `stopped` or `not begun`.
    #[serde(rename = "outcome")]
    pub word: &'static str,
    /// What its run says of itself.
    #[serde(flatten)]
    pub outcome: serde_json::Value,
}

impl Entered {
    /// How many there are of each kind; none where there are none at all.
    pub fn counted(entries: &[Self]) -> Option<serde_json::Value> {
        let count = |word: &str| entries.iter().filter(|entry| entry.word == word).count();
        let (done, not_begun) = (count("done"), count("not begun"));
        let failed = entries.len() - done - not_begun;
        let counted =
            || serde_json::json!({ "accounts": entries.len(), "done": done, "failed": failed, "not_begun": not_begun });
        (!entries.is_empty()).then(counted)
    }

    /// How it ended, on one line.
    pub fn words(&self) -> String {
        let text = |name: &str| self.outcome.get(name).and_then(serde_json::Value::as_str);
        let seconds = |name: &str| self.outcome.get(name).and_then(serde_json::Value::as_f64).unwrap_or_default();
        match (self.word, text("message")) {
            ("done", _) if seconds("frozen_s") > 0.0 => {
                format!("done in {:.2} s, frozen {:.3} s", seconds("seconds"), seconds("frozen_s"))
            }
            ("done", _) => format!("done in {:.2} s", seconds("seconds")),
            ("not begun", _) | (_, None) => self.word.to_owned(),
            (word, Some(message)) => format!("{word}: {message}"),
        }
    }
}

/// What all operations of one run share.
pub struct Run {
    /// The door to the world.
    pub gate: Gate,
    /// The directory, the stores and their services.
    pub site: Arc<Site>,
    /// Named in claims and placeholders, so that leftovers tell whose they are.
    pub id: String,
    /// The accounts that the run holds, until it ends.
    pub claims: Arc<Claims>,
    subject: Mutex<Option<Subject>>,
    frozen: Mutex<Frozen>,
    doors: Mutex<Doors>,
    nested: OnceLock<Arc<dyn Nested>>,
    /// What became of the entries of its lists.
    entered: Mutex<Vec<Entered>>,
    /// Servers that are not told: they do not answer.
    without: Vec<String>,
    asker: Option<Asker>,
}

/// Asks the operator a question: yes, no, or nobody there to ask.
pub type Asker = Arc<dyn Fn(&str) -> Option<bool> + Send + Sync>;

/// How long the account was in maintenance.
#[derive(Default)]
struct Frozen {
    since: Option<Instant>,
    seconds: f64,
}

/// What a run did about the way in to mailboxes, for the look at its end.
#[derive(Default)]
struct Doors {
    /// The accounts that it put into maintenance and gave no other status since, by their ids.
    closed: BTreeMap<String, Closed>,
    /// The memcacheds that forgot the account behind the switch.
    routes: BTreeSet<String>,
    /// The mailboxds that did, since its status was set last.
    stores: BTreeSet<String>,
    /// Whether the new home was seen to open the mailbox.
    opened: bool,
}

/// An account that a run put into maintenance.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Its zimbraId.
    pub account_id: String,
    /// Its address.
    pub email: String,
    /// The status that it had.
    pub status: String,
}

impl Run {
    /// A run on `site` through `gate`.
    pub fn new(gate: Gate, site: &Site, asker: Option<Asker>) -> Self {
        let id = gate.run().to_owned();
        let claims = Arc::new(Claims::default());
        let held = Arc::clone(&claims);
        // What it waits for on the site ends as it does, and goes before others while its user waits.
        let site = Arc::new(site.of_run(gate.cancel().clone()));
        Self {
            gate: gate.guarded(move || held.check()),
            site,
            id,
            claims,
            subject: Mutex::default(),
            frozen: Mutex::default(),
            doors: Mutex::default(),
            nested: OnceLock::new(),
            entered: Mutex::default(),
            without: Vec::new(),
            asker,
        }
    }

    /// Leaves servers out that do not answer: they are told nothing, on the way back neither.
    pub fn leaving_out(mut self, without: Vec<String>) -> Self {
        self.without = without;
        self
    }

    /// The servers that are left out.
    pub fn without(&self) -> &[String] {
        &self.without
    }

    /// Whether a server is left out, its mailboxd or its memcached. A mailboxd of the mailbox's own two stores never is.
    pub fn leaves_out(&self, host: &str, is_store: bool) -> bool {
        let is_end =
            || self.subject().is_some_and(|subject| [subject.source, subject.dest].iter().any(|end| end == host));
        self.without.iter().any(|other| other.eq_ignore_ascii_case(host)) && !(is_store && is_end())
    }

    /// Says what the run is about, for events and for what is told when it fails.
    pub fn set_subject(&self, subject: Subject) {
        self.gate.set_subject(&subject.email);
        if let Some(journal) = self.gate.journal() {
            let about = serde_json::to_value(&subject).unwrap_or_default();
            if let Err(error) = journal.about(&subject.email, &about) {
                log::warn!("{error}");
            }
        }
        *lock(&self.subject) = Some(subject);
    }

    /// A store as this run may write to it: what it writes there is fenced by the claims that it has there.
    pub fn own(&self, store: Arc<Store>) -> Arc<Store> {
        own(&self.claims, store)
    }

    /// What the run is about, once that is known.
    pub fn subject(&self) -> Option<Subject> {
        lock(&self.subject).clone()
    }

    /// Starts or ends the account of frozen time; gives the seconds that end with this call.
    pub fn set_frozen(&self, frozen: bool) -> f64 {
        self.set_frozen_at(frozen, Instant::now())
    }

    /// The same at a time that may have been before this process was.
    pub fn set_frozen_at(&self, frozen: bool, at: Instant) -> f64 {
        self.gate.set_hurried(frozen);
        let mut now = lock(&self.frozen);
        match (frozen, now.since) {
            (true, None) => {
                now.since = Some(at);
                self.gate.cancel().start_budget();
                0.0
            }
            (false, Some(since)) => {
                let seconds = at.saturating_duration_since(since).as_secs_f64();
                now.seconds += seconds;
                now.since = None;
                seconds
            }
            _ => 0.0,
        }
    }

    /// Notes since when the user waits: since before now, where an earlier process of the run closed the account.
    pub fn was_frozen_at(&self, at: Instant) {
        let mut now = lock(&self.frozen);
        now.since = now.since.map(|since| since.min(at));
    }

    /// Whether the user waits now.
    pub fn is_frozen(&self) -> bool {
        lock(&self.frozen).since.is_some()
    }

    /// Seconds that the account was frozen so far, to the millisecond.
    pub fn frozen_seconds(&self) -> f64 {
        let now = lock(&self.frozen);
        let seconds = now.seconds + now.since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        (seconds * 1000.0).round() / 1000.0
    }

    /// Notes that an account got a status: `closed` where that is maintenance, and what it was before.
    pub fn note_status(&self, account_id: &str, closed: Option<Closed>) {
        let mut doors = lock(&self.doors);
        // Who forgot the account before knows an older status by now.
        doors.stores.clear();
        match closed {
            Some(closed) => {
                doors.closed.entry(account_id.to_owned()).or_insert(closed);
            }
            None => {
                doors.closed.remove(account_id);
            }
        }
    }

    /// Notes that a cache forgot the account, of routes or of a mailboxd.
    pub fn note_told(&self, cache: String, is_mailboxd: bool) {
        if self.gate.has_switched() {
            let mut doors = lock(&self.doors);
            let caches = if is_mailboxd { &mut doors.stores } else { &mut doors.routes };
            caches.insert(cache);
        }
    }

    /// Notes that the new home was seen to open the mailbox.
    pub fn note_opened(&self) {
        lock(&self.doors).opened = self.gate.has_switched();
    }

    /// The accounts that this run put into maintenance and gave no other status since.
    pub fn closed(&self) -> Vec<Closed> {
        lock(&self.doors).closed.values().cloned().collect()
    }

    /// Whether a cache forgot the account behind the switch; that of a mailboxd since the status was set last.
    pub fn has_told(&self, cache: &str) -> bool {
        let doors = lock(&self.doors);
        doors.stores.contains(cache) || doors.routes.contains(cache)
    }

    /// Whether the new home was seen to open the mailbox.
    pub fn has_opened(&self) -> bool {
        lock(&self.doors).opened
    }

    /// Who asks the operator, if anybody can.
    pub fn asker(&self) -> Option<Asker> {
        self.asker.clone()
    }

    /// Lets the run start other scripts; set once, by the host.
    pub(crate) fn set_nested(&self, nested: Arc<dyn Nested>) {
        // A second value cannot come: only the host that made the run calls this.
        let _ = self.nested.set(nested);
    }

    /// Runs another script inside this run.
    pub fn run_script(
        &self,
        path: &str,
        options: &BTreeMap<String, String>,
        log: Option<&str>,
    ) -> Result<serde_json::Value> {
        self.nested(path)?.run_script(self, path, options, log)
    }

    /// What is wrong with each of these maps of options for another script.
    ///
    /// Fails where the script is wrong itself.
    pub fn check_options(&self, path: &str, options: &[BTreeMap<String, String>]) -> Result<Vec<Vec<Error>>> {
        self.nested(path)?.check_options(self, path, options)
    }

    fn nested(&self, path: &str) -> Result<&Arc<dyn Nested>> {
        self.nested.get().ok_or_else(|| Error::new(Kind::Usage, format!("{path}: this host runs no other scripts")))
    }

    /// Notes entries of a list that will have a run each; gives the number of the first one.
    pub fn enter(&self, entries: impl Iterator<Item = Entered>) -> usize {
        let mut entered = lock(&self.entered);
        let first = entered.len();
        entered.extend(entries);
        first
    }

    /// Notes how one of them ended.
    pub fn note_ended(&self, at: usize, how: Entered) {
        if let Some(entry) = lock(&self.entered).get_mut(at) {
            *entry = how;
        }
    }

    /// How the entries of its lists ended, or stand.
    pub fn entered(&self) -> Vec<Entered> {
        lock(&self.entered).clone()
    }
}

/// A store as whoever has `claims` may write to it.
pub fn own(claims: &Claims, store: Arc<Store>) -> Arc<Store> {
    let fences = claims.fences(store.name());
    if fences.is_empty() { store } else { Arc::new(store.fenced(fences)) }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The guarded values are plain data, valid whatever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
