//! One run of one script: its gate, the site it works on, what it is about.

use std::collections::BTreeMap;
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
    nested: OnceLock<Arc<dyn Nested>>,
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
            nested: OnceLock::new(),
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
        self.gate.set_hurried(frozen);
        let mut now = lock(&self.frozen);
        match (frozen, now.since) {
            (true, None) => {
                now.since = Some(Instant::now());
                self.gate.cancel().start_budget();
                0.0
            }
            (false, Some(since)) => {
                let seconds = since.elapsed().as_secs_f64();
                now.seconds += seconds;
                now.since = None;
                seconds
            }
            _ => 0.0,
        }
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
        match self.nested.get() {
            Some(nested) => nested.run_script(self, path, options, log),
            None => Err(Error::new(Kind::Usage, format!("{path}: this host runs no other scripts"))),
        }
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
