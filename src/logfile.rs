//! A reporter that also writes its events to a file: one log an account.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::error::{Context, Kind, Result};
use crate::report::{Event, Origin, Reporter, SharedReporter};

struct Tee {
    next: SharedReporter,
    file: Mutex<File>,
}

/// Sends events to `next` and, one JSON line each, to the file `path`, which only its owner can read.
pub(crate) fn tee(next: SharedReporter, path: &str) -> Result<SharedReporter> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .context(Kind::Io, || format!("{path}: opening the log"))
        .map_err(|error| error.hint("start it in a directory that you may write to"))?;
    Ok(Arc::new(Tee { next, file: Mutex::new(file) }))
}

impl Reporter for Tee {
    fn event(&self, from: Origin<'_>, event: &Event) {
        self.next.event(from, event);
        if matches!(event, Event::Progress { .. }) {
            return;
        }
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let line = serde_json::json!({ "time": seconds, "run": from.run, "account": from.account, "event": event });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk under the log must not stop a move that is under way.
        let _ = writeln!(file, "{line}");
    }
}
