//! One JSON line for each request, so that a test can see what was called, and when. Passwords and
//! tokens never come here, because only names, accounts and outcomes do.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;

/// An open log.
pub struct RequestLog(Mutex<File>);

/// One request.
#[derive(Debug, Default, Serialize)]
pub struct Line {
    /// Seconds since 1970.
    pub time: f64,
    /// Such as `ModifyAccountRequest`.
    pub name: String,
    /// The account it is about, by id or name as the client gave it.
    pub account: Option<String>,
    /// `op` of a lockout, and the names (never the values) of modified attributes.
    pub detail: Option<String>,
    /// The server it was pinned to.
    pub target: Option<String>,
    /// How often it was passed on before it came here.
    pub hops: u32,
    /// The server it was passed on to.
    pub proxied_to: Option<String>,
    /// `ok`, the code of a fault, or what a script did to it.
    pub outcome: String,
    /// Milliseconds.
    pub ms: u64,
}

impl RequestLog {
    /// Appends to a file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().append(true).create(true).mode(0o640).open(path).map(|f| Self(Mutex::new(f)))
    }

    /// Writes one line, in one write.
    pub fn write(&self, line: &Line) {
        let mut text = serde_json::to_string(line).unwrap_or_default();
        text.push('\n');
        // A log that cannot be written must not fail the request.
        let _ = self.0.lock().write_all(text.as_bytes());
    }
}

/// Seconds since 1970, now.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
