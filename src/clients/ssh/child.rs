//! One child process, to its end: fed, drained, bounded, stoppable.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::{Context, Error, Kind, Result};

/// What is kept of a child's error output: its end, where the reason stands.
const STDERR: usize = 16 * 1024;

/// Characters of it that go into a message.
const MESSAGE: usize = 2000;

/// How often a waiting call looks whether it was asked to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What a command reads.
#[derive(Default)]
pub enum Input {
    /// Nothing.
    #[default]
    None,
    /// These bytes.
    Bytes(Vec<u8>),
    /// Whatever this gives until its end; its error fails the command.
    From(Box<dyn Read + Send>),
}

/// What a command may take.
#[derive(Clone, Debug)]
pub struct Limit {
    /// From start to end.
    pub total: Option<Duration>,
    /// Between two pieces of output.
    pub idle: Option<Duration>,
    /// Bytes of output.
    pub bytes: u64,
}

impl Default for Limit {
    /// A short command: a minute and a mebibyte.
    fn default() -> Self {
        Self { total: Some(Duration::from_secs(60)), idle: None, bytes: 1 << 20 }
    }
}

impl Limit {
    /// A long command that must say something every `idle`; its output is streamed, so its size is free.
    pub fn idle(idle: Duration) -> Self {
        Self { total: None, idle: Some(idle), bytes: u64::MAX }
    }
}

/// How a command ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 and the signal's number when a signal ended it.
    pub status: i32,
    /// What it printed; empty when that was streamed.
    pub stdout: Vec<u8>,
    /// The end of its error output, one printable line.
    pub stderr: String,
}

/// A command about to run; `name` stands for it in errors.
pub(crate) struct Task<'a> {
    pub name: &'a str,
    pub input: Input,
    pub limit: Limit,
    pub cancel: &'a Cancel,
}

enum Event {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    InputFailed(std::io::Error, Box<dyn Send>),
    End,
}

/// A child that does not outlive the call that started it.
struct Leash(Child);

impl Drop for Leash {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command; gives every piece of its output to `on_stdout`, whose error ends it.
pub(crate) fn drive(
    command: &mut Command,
    task: Task<'_>,
    on_stdout: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Output> {
    let name = task.name;
    task.cancel.check()?;
    command.stdin(if matches!(task.input, Input::None) { Stdio::null() } else { Stdio::piped() });
    // A list cut short must not look complete: the child dies before its input is closed.
    let mut broken_input = None;
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Leash(child.context(Kind::Io, || format!("{name}: starting {:?}", command.get_program()))?);

    let (events, inbox) = mpsc::sync_channel(16);
    let mut open = 0;
    if let Some(stdout) = child.0.stdout.take() {
        open += 1;
        pump(stdout, events.clone(), Event::Stdout);
    }
    if let Some(stderr) = child.0.stderr.take() {
        open += 1;
        pump(stderr, events.clone(), Event::Stderr);
    }
    if let Some(stdin) = child.0.stdin.take() {
        open += 1;
        feed(stdin, task.input, events);
    }
    let stderr = attend(&inbox, open, name, &task.limit, task.cancel, on_stdout, &mut broken_input)?;
    let status = reap(&mut child.0, name, task.cancel)?;
    Ok(Output { status: number(status), stdout: Vec::new(), stderr: printable(&stderr) })
}

fn pump(mut from: impl Read + Send + 'static, to: SyncSender<Event>, wrap: fn(Vec<u8>) -> Event) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        // A broken pipe of a child is its end.
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if to.send(wrap(buffer[..n].to_vec())).is_err() {
                return;
            }
        }
        let _ = to.send(Event::End);
    });
}

fn feed(mut stdin: impl Write + Send + 'static, input: Input, to: SyncSender<Event>) {
    thread::spawn(move || {
        let failed = match input {
            Input::None => None,
            Input::Bytes(bytes) => {
                // A child that stops reading says why by its status.
                let _ = stdin.write_all(&bytes);
                None
            }
            Input::From(mut reader) => copy(&mut *reader, &mut stdin).err(),
        };
        let _ = match failed {
            Some(e) => to.send(Event::InputFailed(e, Box::new(stdin))),
            None => {
                drop(stdin);
                to.send(Event::End)
            }
        };
    });
}

fn copy(from: &mut dyn Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            n => {
                if to.write_all(&buffer[..n]).is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// Takes in what a child says until all its pipes are closed; gives the end of its error output.
fn attend(
    inbox: &Receiver<Event>,
    mut open: u32,
    name: &str,
    limit: &Limit,
    cancel: &Cancel,
    on_stdout: &mut dyn FnMut(&[u8]) -> Result<()>,
    broken_input: &mut Option<Box<dyn Send>>,
) -> Result<Vec<u8>> {
    let start = Instant::now();
    let (mut last, mut bytes, mut stderr) = (start, 0, Vec::new());
    while open > 0 {
        cancel.check()?;
        for (limit, since, what) in [(limit.total, start, "no end"), (limit.idle, last, "no word")] {
            if let Some(limit) = limit.filter(|limit| since.elapsed() > *limit) {
                return Err(Error::new(Kind::Unreachable, format!("{name}: {what} within {limit:?}")).retryable());
            }
        }
        match inbox.recv_timeout(LOOK) {
            Ok(Event::Stdout(chunk)) => {
                last = Instant::now();
                bytes += chunk.len() as u64;
                if bytes > limit.bytes {
                    return Err(Error::new(Kind::Peer, format!("{name}: said more than {} bytes", limit.bytes)));
                }
                on_stdout(&chunk)?;
            }
            Ok(Event::Stderr(chunk)) => keep_end(&mut stderr, &chunk),
            Ok(Event::InputFailed(e, stdin)) => {
                *broken_input = Some(stdin);
                return Err(e).context(Kind::Io, || format!("{name}: reading its input"));
            }
            Ok(Event::End) => open -= 1,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(stderr)
}

pub(super) fn keep_end(kept: &mut Vec<u8>, chunk: &[u8]) {
    kept.extend_from_slice(chunk);
    if kept.len() > STDERR {
        kept.drain(..kept.len() - STDERR);
    }
}

/// Waits for a child that closed its pipes; it normally ended with that.
fn reap(child: &mut Child, name: &str, cancel: &Cancel) -> Result<ExitStatus> {
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().context(Kind::Io, || format!("{name}: waiting for its end"))? {
            return Ok(status);
        }
        cancel.check()?;
        thread::sleep(pause);
        pause = (pause * 2).min(LOOK);
    }
}

/// The status as a shell gives it.
pub(super) fn number(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Error output of a peer for a message: lines joined, control characters gone, its end where it is long.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let text = lines.join("; ");
    let long = text.char_indices().rev().nth(MESSAGE).map_or(0, |(at, _)| at);
    text[long..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: Input, limit: Limit, cancel: &Cancel) -> Result<(Output, Vec<u8>)> {
        let mut out = Vec::new();
        let task = Task { name: "sh", input, limit, cancel };
        let ended = drive(Command::new("sh").arg("-c").arg(script), task, &mut |chunk| {
            out.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok((ended, out))
    }

    #[test]
    fn both_outputs_are_drained_and_the_end_of_the_error_is_kept() {
        let script = "head -c 3000000 /dev/zero >&2; head -c 500000 /dev/zero; echo the reason >&2; exit 3";
        let (ended, out) = sh(script, Input::None, Limit::default(), &Cancel::default()).unwrap();
        assert_eq!((ended.status, out.len()), (3, 500_000));
        assert_eq!(ended.stderr, "the reason");
    }

    #[test]
    fn input_larger_than_a_pipe_flows_through() {
        let bytes = vec![7; 900_000];
        let (ended, out) = sh("cat", Input::Bytes(bytes.clone()), Limit::default(), &Cancel::default()).unwrap();
        assert_eq!((ended.status, out), (0, bytes));
    }

    #[test]
    fn a_child_need_not_read_its_input() {
        let (ended, _) = sh("exit 0", Input::Bytes(vec![0; 900_000]), Limit::default(), &Cancel::default()).unwrap();
        assert_eq!(ended.status, 0);
    }

    #[test]
    fn a_failing_input_fails_the_command_and_never_looks_complete() {
        struct Broken(u32);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0 += 1;
                buffer[0] = b'x';
                if self.0 > 3 { Err(std::io::Error::other("rows ended early")) } else { Ok(1) }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("complete");
        let script = format!("cat >/dev/null; touch {}", mark.display());
        let input = Input::From(Box::new(Broken(0)));
        let error = sh(&script, input, Limit::default(), &Cancel::default()).unwrap_err();
        assert!(error.to_string().contains("rows ended early"), "{error}");
        assert!(!mark.exists());
    }

    #[test]
    fn limits_and_a_stop_end_it() {
        let short = Limit { total: Some(Duration::from_millis(200)), ..Limit::default() };
        let started = Instant::now();
        let error = sh("sleep 30", Input::None, short, &Cancel::default()).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (Kind::Unreachable, true));
        let small = Limit { bytes: 1000, ..Limit::default() };
        assert_eq!(sh("yes", Input::None, small, &Cancel::default()).unwrap_err().kind(), Kind::Peer);
        let silent = Limit::idle(Duration::from_millis(300));
        assert_eq!(
            sh("echo a; sleep 30", Input::None, silent, &Cancel::default()).unwrap_err().kind(),
            Kind::Unreachable
        );
        let cancel = Cancel::default();
        let asked = cancel.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            asked.request();
        });
        assert_eq!(sh("sleep 30", Input::None, Limit::default(), &cancel).unwrap_err().kind(), Kind::Cancelled);
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn peers_cannot_write_to_the_terminal_through_an_error() {
        assert_eq!(printable("é".repeat(5000).as_bytes()).chars().count(), MESSAGE + 1);
        assert_eq!(printable(b"\x1b[31mred\r\n\n  two\x07\xff"), "[31mred; two\u{fffd}");
    }
}
