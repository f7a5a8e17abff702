//! Commands run to their end, and bounded waits.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The search path of everything the lab starts.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A command of the real system with an environment of nothing but `PATH`.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).stdin(Stdio::null());
    command
}

/// Runs to the end and gives standard output; a failure carries standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let told = line(command);
    let out = command.output().with_context(|| format!("{told}: cannot be started"))?;
    if !out.status.success() {
        let error = String::from_utf8_lossy(&out.stderr);
        bail!("{told}: {}: {}", out.status, error.trim());
    }
    String::from_utf8(out.stdout).with_context(|| format!("{told}: its output is not UTF-8"))
}

/// As [`output`], with `input` on standard input.
pub fn output_of_input(command: &mut Command, input: &str) -> Result<String> {
    let told = line(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{told}: cannot be started"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("{told}: does not read"))?;
    }
    let out = child.wait_with_output().with_context(|| format!("{told}: cannot be awaited"))?;
    if !out.status.success() {
        let error = String::from_utf8_lossy(&out.stderr);
        bail!("{told}: {}: {}", out.status, error.trim());
    }
    String::from_utf8(out.stdout).with_context(|| format!("{told}: its output is not UTF-8"))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Asks `condition` again and again until it gives something, for at most `limit`.
///
/// `None` when the time is over. An error of the condition ends the wait.
pub fn poll<T>(limit: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition()? {
            return Ok(Some(value));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The last 20 lines of a log, or that it cannot be read.
pub fn tail(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(20)..];
            format!("the end of {}:\n{}", log.display(), last.join("\n"))
        }
        Err(error) => format!("{}: {error}", log.display()),
    }
}
