//! How busy a server is, asked on a connection of its own: those that copy rows are in the middle of that.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pool::is_full;
use super::session::Session;
use super::target::Target;
use crate::error::{Error, Kind, Result};

/// An answer is good for so long: whoever copies asks after every batch.
const FRESH: Duration = Duration::from_millis(250);

/// How busy a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Threads that are at work for somebody.
    pub threads_running: u64,
    /// Seconds that it is behind its master, where it is a replica that knows.
    pub lag: Option<u64>,
    /// Whether it has no connection left, so that the rest is not known.
    pub is_full: bool,
}

/// Asks one server.
#[derive(Debug)]
pub struct Gauge {
    target: Target,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Session>,
    known: Option<(Instant, Load)>,
    /// Whether our user may not ask for the state of replication.
    lag_is_denied: bool,
}

impl Gauge {
    /// A gauge of the server; it connects when it is first asked.
    pub fn new(target: Target) -> Self {
        Self { target, state: Mutex::default() }
    }

    /// How busy the server is, or was a moment ago. One that has no connection left says so by that.
    ///
    /// # Errors
    /// As a connection's; the next call connects again.
    pub fn read(&self) -> Result<Load> {
        // A broken session is replaced, so the state is good whatever panicked.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, load)) = state.known
            && at.elapsed() < FRESH
        {
            return Ok(load);
        }
        let load = match state.ask(&self.target) {
            Err(error) if is_full(&error) => Load { is_full: true, ..Load::default() },
            Err(error) => {
                state.session = None;
                return Err(error);
            }
            Ok(load) => load,
        };
        state.known = Some((Instant::now(), load));
        Ok(load)
    }
}

impl State {
    fn ask(&mut self, target: &Target) -> Result<Load> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(Session::connect(target)?),
        };
        let sql = "SHOW GLOBAL STATUS LIKE 'Threads_running'";
        let (_, threads): (String, String) = session.one(sql, ())?;
        let threads_running = threads.parse().map_err(|_| {
            Error::new(Kind::Peer, format!("{}: Threads_running is {threads:?}, not a number", session.store()))
        })?;
        let lag = match self.lag_is_denied {
            true => None,
            false => match session.behind_master() {
                Err(error) if error.kind() == Kind::Denied => {
                    log::debug!("{error}; its lag is not looked at");
                    self.lag_is_denied = true;
                    None
                }
                answer => answer?,
            },
        };
        Ok(Load { threads_running, lag, is_full: false })
    }
}
