//! What runs did, kept on this host so that a run that died can go on or be undone.
//!
//! A run's record pins the text of its script and modules, its options and zlm's version. Each operation has a
//! record: that it was begun, with its undo, and what came of it. An operation that must be known to have been
//! begun (it has an undo, or is the switch) is on disk before it starts; the others wait in memory for the next
//! of these, since doing them again does no harm.

mod part;
mod rebuild;
mod run;
mod schema;
mod sent;
#[cfg(test)]
mod tests;
mod undo;

pub use part::PART;
pub use rebuild::Rebuilt;
pub use run::{Arrival, RunJournal};
pub use sent::Sent;
pub use undo::Undo;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};

/// What to do where a journal cannot be kept in its directory.
const ELSEWHERE: &str = "`dir` of [journal] in zlm.toml names another, on a local disk and nobody else's";

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// At work, or died at it.
    Running,
    /// Ended well.
    Done,
    /// Failed; everything was undone.
    RolledBack,
    /// Failed; something remains to be done.
    Unfinished,
    /// Ended, or goes on, in another host's journal.
    TakenOver,
}

impl State {
    /// Whether nothing of it is left to do here.
    pub fn is_over(self) -> bool {
        matches!(self, State::Done | State::RolledBack | State::TakenOver)
    }

    /// The word in the journal.
    pub fn word(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Done => "done",
            State::RolledBack => "rolled_back",
            State::Unfinished => "unfinished",
            State::TakenOver => "taken_over",
        }
    }

    fn from_word(word: &str) -> Result<Self> {
        [State::Running, State::Done, State::RolledBack, State::Unfinished, State::TakenOver]
            .into_iter()
            .find(|state| state.word() == word)
            .ok_or_else(|| Error::new(Kind::Data, format!("journal: state {word:?} is none that this zlm knows")))
    }
}

/// Whether the mailbox of a run has its new home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switched {
    /// It has not.
    No,
    /// It has.
    Yes,
    /// The switch was begun, and nobody knows what came of it.
    Maybe,
}

/// The name of what stands for a request among operations; no script does it.
const SENT: &str = "request";

/// The number of [`Switched::Maybe`] in journals of before requests were written down.
const MAYBE_OF_OLD: i64 = 2;

impl Switched {
    fn number(self) -> i64 {
        match self {
            Switched::No => 0,
            Switched::Yes => 1,
            Switched::Maybe => 3,
        }
    }

    fn from_number(number: i64) -> Self {
        match number {
            0 => Switched::No,
            1 => Switched::Yes,
            // What nobody understands is not undone without a look.
            _ => Switched::Maybe,
        }
    }
}

/// What a run is made of, pinned when it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pinned {
    /// The script's name, as it was given.
    pub script: String,
    /// Its text.
    pub text: String,
    /// The text of every module it imports, by name, with the place it came from.
    pub modules: BTreeMap<String, (String, String)>,
    /// Its options, as typed.
    pub options: BTreeMap<String, String>,
}

impl Pinned {
    /// That of a run of which nobody knows any more what it is made of.
    pub fn nothing() -> Self {
        let script = "unknown".to_owned();
        Self { script, text: String::new(), modules: BTreeMap::new(), options: BTreeMap::new() }
    }
}

/// A run as the journal has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// Its name.
    pub run: String,
    /// How it stands.
    pub state: State,
    /// The account it is about, once that was known.
    pub email: Option<String>,
    /// When it began, in seconds since 1970.
    pub began: i64,
    /// When it ended.
    pub ended: Option<i64>,
    /// The version of zlm that began it.
    pub version: String,
    /// What it is made of.
    pub pinned: Pinned,
    /// What it is about, as JSON.
    pub subject: Option<serde_json::Value>,
    /// Whether the mailbox has its new home.
    pub switched: Switched,
    /// Why it failed.
    pub error: Option<String>,
    /// The run that took it back, if one did.
    pub reversed_by: Option<String>,
}

/// One operation of a run, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Its place in the order.
    pub number: i64,
    /// The operation's name.
    pub operation: String,
    /// What it did to what.
    pub what: String,
    /// Whether it is known to have ended.
    pub done: bool,
    /// Whether it was undone.
    pub undone: bool,
    /// Why it failed, where the script went on.
    pub error: Option<String>,
}

/// The journal of this host.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    db: Mutex<Connection>,
}

impl Journal {
    /// Opens the journal in `dir`, making it where it is not there. Only its owner can read it.
    ///
    /// Fails with [`Kind::Config`] for a directory that others can enter or a newer format, [`Kind::Data`] for a
    /// journal that is damaged, [`Kind::Io`].
    pub fn open(dir: &Path) -> Result<Self> {
        let name = dir.display();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .context(Kind::Config, || format!("journal {name}: making the directory"))
            .map_err(|error| error.hint(ELSEWHERE))?;
        let mode = std::fs::metadata(dir).context(Kind::Io, || format!("journal {name}"))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Error::new(Kind::Config, format!("journal {name}: others can enter the directory"))
                .hint(format!("chmod 700 {name}; {ELSEWHERE}")));
        }
        let path = dir.join("journal.db");
        // SQLite gives its other files the mode of this one.
        let opening = || format!("journal {name}: opening");
        let file = File::options().create(true).append(true).mode(0o600).open(&path);
        file.context(Kind::Io, opening).map_err(|error| error.hint(ELSEWHERE))?;
        let db = Connection::open(path).context(Kind::Io, opening)?;
        schema::prepare(&db, &name.to_string())?;
        Ok(Self(Arc::new(Inner { dir: dir.to_owned(), db: Mutex::new(db) })))
    }

    /// Begins a run. Fails with [`Kind::Io`]: without a journal there are no effects.
    pub fn begin(&self, run: &str, pinned: &Pinned) -> Result<RunJournal> {
        let lock = self.lock_file(run)?;
        let pinned = serde_json::to_string(pinned).context(Kind::Io, || format!("run {run}: pinning its script"))?;
        self.db()
            .execute(
                "INSERT INTO run (run, state, began, version, pinned) VALUES (?, ?, ?, ?, ?)",
                params![run, State::Running.word(), now(), env!("CARGO_PKG_VERSION"), pinned],
            )
            .context(Kind::Io, || format!("run {run}: writing the journal"))?;
        RunJournal::load(self.clone(), run, lock)
    }

    /// Takes a run up again. Fails with [`Kind::Held`] while it is at work, and [`Kind::NotFound`].
    pub fn take_up(&self, run: &str) -> Result<RunJournal> {
        self.record(run)?;
        let lock = self.lock_file(run)?;
        RunJournal::load(self.clone(), run, lock)
    }

    /// A run's record. Fails with [`Kind::NotFound`].
    pub fn record(&self, run: &str) -> Result<Record> {
        let found = self.records("run = ?", run)?.pop();
        found.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("run {run}: is not in this host's journal"))
                .hint("zlm ps -a lists them; where the journal was lost, `zlm reconcile EMAIL`")
        })
    }

    /// The runs about an account, oldest first.
    pub fn history(&self, email: &str) -> Result<Vec<Record>> {
        self.records("email = ? COLLATE NOCASE", email)
    }

    /// The runs that are at work or remain to be ended; or all.
    pub fn runs(&self, all: bool) -> Result<Vec<Record>> {
        match all {
            true => self.records("? = ''", ""),
            false => self.records("state IN ('running', 'unfinished') AND ? = ''", ""),
        }
    }

    fn records(&self, condition: &str, value: &str) -> Result<Vec<Record>> {
        let sql = format!(
            "SELECT run, state, email, began, ended, version, pinned, subject, switched, error FROM run WHERE {condition} ORDER BY began, run"
        );
        let db = self.db();
        let reading = || "journal: reading runs".to_owned();
        let mut reversals = reversals(&db).context(Kind::Io, reading)?;
        let mut query = db.prepare(&sql).context(Kind::Io, reading)?;
        let rows = query
            .query_map([value], |row| {
                let texts: [String; 4] = [row.get(0)?, row.get(1)?, row.get(5)?, row.get(6)?];
                let maybe: [Option<String>; 3] = [row.get(2)?, row.get(7)?, row.get(9)?];
                Ok((texts, maybe, row.get(3)?, row.get(4)?, row.get(8)?))
            })
            .context(Kind::Io, reading)?;
        rows.map(|row| {
            let ([run, state, version, pinned], [email, subject, error], began, ended, switched) =
                row.context(Kind::Io, reading)?;
            let damaged = || format!("run {run}: its record is damaged");
            Ok(Record {
                state: State::from_word(&state)?,
                email,
                began,
                ended,
                version,
                pinned: serde_json::from_str(&pinned).context(Kind::Data, damaged)?,
                subject: subject.map(|text| serde_json::from_str(&text)).transpose().context(Kind::Data, damaged)?,
                switched: Switched::from_number(switched),
                error,
                reversed_by: reversals.remove(&run),
                run,
            })
        })
        .collect()
    }

    /// The operations of a run, in their order.
    pub fn steps(&self, run: &str) -> Result<Vec<Step>> {
        let db = self.db();
        let reading = || format!("run {run}: reading its operations");
        let mut query = db
            .prepare(
                "SELECT number, name, what, done, undone, error FROM operation WHERE run = ? AND name <> ? ORDER BY number",
            )
            .context(Kind::Io, reading)?;
        let rows = query
            .query_map([run, SENT], |row| {
                Ok(Step {
                    number: row.get(0)?,
                    operation: row.get(1)?,
                    what: row.get(2)?,
                    done: row.get(3)?,
                    undone: row.get(4)?,
                    error: row.get(5)?,
                })
            })
            .context(Kind::Io, reading)?;
        rows.collect::<std::result::Result<_, _>>().context(Kind::Io, reading)
    }

    /// What came of each operation of this name that a run did, in their order; nothing of those that give nothing.
    pub fn results(&self, run: &str, operation: &str) -> Result<Vec<serde_json::Value>> {
        let db = self.db();
        let reading = || format!("run {run}: reading what came of {operation}");
        let sql = "SELECT result FROM operation WHERE run = ? AND name = ? AND done AND error IS NULL \
                   AND result <> 'null' ORDER BY number";
        let mut query = db.prepare(sql).context(Kind::Io, reading)?;
        let texts = query.query_map([run, operation], |row| row.get::<_, String>(0)).context(Kind::Io, reading)?;
        texts.map(|text| serde_json::from_str(&text.context(Kind::Io, reading)?).context(Kind::Data, reading)).collect()
    }

    /// Whether the run is at work in some process of this host.
    pub fn is_at_work(&self, run: &str) -> bool {
        matches!(self.lock_file(run), Err(error) if error.kind() == Kind::Held)
    }

    /// Keeps everybody else off a run for as long as the file lives.
    fn lock_file(&self, run: &str) -> Result<File> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if run.is_empty() || !run.chars().all(plain) {
            return Err(Error::new(Kind::Usage, format!("run {run:?}: is no name of a run")));
        }
        let path = self.0.dir.join(format!("{run}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .context(Kind::Io, || format!("{}: opening", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Error::new(Kind::Held, format!("run {run}: is at work in another process")))
            }
            Err(std::fs::TryLockError::Error(e)) => {
                Err(Error::new(Kind::Io, format!("{}: locking", path.display())).because(e))
            }
        }
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A connection is whole whatever panicked: SQLite's transactions see to that.
        self.0.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The undo of everything that was begun and not undone, oldest first.
    fn undo_stack(&self, run: &str) -> Result<Vec<Undo>> {
        let db = self.db();
        let reading = || format!("run {run}: reading how to undo it");
        let switched: Option<i64> = db
            .query_row("SELECT switched FROM run WHERE run = ?", [run], |row| row.get(0))
            .optional()
            .context(Kind::Io, reading)?;
        if switched == Some(Switched::Yes.number()) {
            return Ok(Vec::new());
        }
        let mut query = db
            .prepare("SELECT undo FROM operation WHERE run = ? AND undo IS NOT NULL AND NOT undone ORDER BY number")
            .context(Kind::Io, reading)?;
        let texts = query.query_map([run], |row| row.get::<_, String>(0)).context(Kind::Io, reading)?;
        texts
            .map(|text| {
                let text = text.context(Kind::Io, reading)?;
                serde_json::from_str(&text).context(Kind::Data, reading)
            })
            .collect()
    }
}

/// Which runs were taken back, each with the run that did it: that one names it in its options, and has switched.
fn reversals(db: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let sql = "SELECT json_extract(pinned, '$.options.reverses'), run FROM run \
               WHERE switched = 1 AND json_extract(pinned, '$.options.reverses') IS NOT NULL";
    db.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().try_into().unwrap_or(i64::MAX))
}
