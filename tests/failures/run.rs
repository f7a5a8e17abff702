//! A `zlm` that was started: what it says, signals to it, how it ended.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use zlm_lab::poll;

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// A running `zlm`.
pub struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

/// How a `zlm` ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard error.
    pub err: String,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("nsenter starts");
        let said = Arc::new(Mutex::new(String::new()));
        let reader = read(child.stderr.take().unwrap(), said.clone());
        Running { child, said, reader }
    }

    /// Waits until it has said a text on standard error.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let said = self.said.clone();
        let child = &mut self.child;
        let seen = poll(LIMIT, || {
            let ended = child.try_wait()?.is_some();
            if said.lock().unwrap().contains(text) {
                return Ok(Some(true));
            }
            Ok(ended.then_some(false))
        });
        assert_eq!(seen.unwrap(), Some(true), "no {text:?} in: {}", self.said.lock().unwrap());
    }

    /// Sends `zlm` a signal.
    pub fn signal(&self, signal: Signal) {
        let zlm = self.zlm().expect("zlm runs");
        kill_process(zlm, signal).expect("zlm takes a signal");
    }

    /// The same, unless it has ended.
    pub fn signal_if_running(&self, signal: Signal) {
        if let Some(zlm) = self.zlm() {
            let _ = kill_process(zlm, signal);
        }
    }

    /// Sends a signal to `zlm` and all that it has started, as a terminal does.
    pub fn signal_all(&self, signal: Signal) {
        let mut all = vec![self.zlm().expect("zlm runs")];
        let mut at = 0;
        while let Some(pid) = all.get(at) {
            all.extend(children(pid.as_raw_nonzero().get().unsigned_abs()));
            at += 1;
        }
        for pid in all {
            // A child may end at any time.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it stands still at a failpoint.
    #[cfg(feature = "failpoints")]
    #[track_caller]
    pub fn wait_until_still(&mut self) {
        let stands = poll(LIMIT, || {
            let ended = self.child.try_wait()?.is_some();
            let still = self.zlm().is_some_and(is_still);
            Ok((still || ended).then_some(still))
        });
        assert_eq!(stands.unwrap(), Some(true), "it does not stand still: {}", self.said.lock().unwrap());
    }

    /// Lets it go on.
    #[cfg(feature = "failpoints")]
    pub fn wake(&self) {
        // nsenter stops with the child that it waits for, and tells it nothing when it goes on.
        let nsenter = Pid::from_raw(self.child.id().cast_signed()).expect("nsenter has a pid");
        kill_process(nsenter, Signal::CONT).expect("nsenter takes a signal");
        self.signal(Signal::CONT);
    }

    /// The pid of `zlm` here: it is a child of the `nsenter` that was started.
    fn zlm(&self) -> Option<Pid> {
        children(self.child.id()).first().copied()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let child = &mut self.child;
        let status = poll(LIMIT, || Ok(child.try_wait()?)).unwrap();
        if status.is_none() {
            if let Some(zlm) = self.zlm() {
                let _ = kill_process(zlm, Signal::KILL);
            }
            let _ = self.child.kill();
            panic!("zlm does not end; it said: {}", self.said.lock().unwrap());
        }
        let err = Arc::clone(&self.said);
        self.reader.join().unwrap();
        let code = status.and_then(|status| status.code());
        let err = err.lock().unwrap().clone();
        Ended { code, err }
    }
}

#[cfg(feature = "failpoints")]
fn is_still(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

fn children(parent: u32) -> Vec<Pid> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    all
}

fn read(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().unwrap().push_str(&format!("{line}\n"));
        }
    })
}

impl Ended {
    /// It ended with this status, and said each of these.
    #[track_caller]
    pub fn assert(&self, code: i32, texts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.err);
        for text in texts {
            assert!(self.err.contains(text), "no {text:?} in: {}", self.err);
        }
        self
    }

    /// The words of the command that it says to run next.
    #[track_caller]
    pub fn next(&self) -> Vec<&str> {
        let line = self.err.lines().find_map(|line| line.strip_prefix("next: zlm ")).expect("a next command");
        line.split_whitespace().collect()
    }
}
