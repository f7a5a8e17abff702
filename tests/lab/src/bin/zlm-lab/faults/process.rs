//! A `zlm` that was started: whether it stands still, and how it ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use zlm_lab::poll;

/// Nothing here takes longer, whatever it waits for.
const LIMIT: Duration = Duration::from_secs(240);

/// A `zlm` at work.
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How one ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; none when it was killed.
    pub code: Option<i32>,
    /// The line that it printed.
    pub outcome: Option<Outcome>,
    /// What it said.
    pub said: String,
}

/// The line that `--json` prints, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    pub run: String,
    pub ok: bool,
    pub code: i32,
    pub switched: bool,
    pub message: Option<String>,
    pub state: Option<String>,
    pub next: Option<String>,
    pub not_undone: Vec<String>,
}

impl Process {
    /// Starts one; what it says goes to files in `dir`, since children of one that was killed would hold a pipe open.
    pub fn start(mut command: Command, dir: &Path) -> Result<Self> {
        let (stdout, stderr) = (dir.join("zlm.out"), dir.join("zlm.err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .context("nsenter: cannot be started")?;
        Ok(Self { child, stdout, stderr })
    }

    /// Waits until it stands still; false when it ended instead.
    pub fn stands_still(&mut self) -> Result<bool> {
        let child = &mut self.child;
        let seen = poll(LIMIT, || {
            if child.try_wait()?.is_some() {
                return Ok(Some(false));
            }
            // nsenter stops with the child that it waits for.
            let stopped = |pid| state(pid) == Some('T');
            Ok((stopped(child.id()) && child_of(child.id()).is_some_and(stopped)).then_some(true))
        })?;
        seen.context("zlm neither ends nor comes to where it is to stand still")
    }

    /// Lets it go on.
    pub fn go_on(&self) -> Result<()> {
        let pids = [Some(self.child.id()), child_of(self.child.id())];
        for pid in pids.into_iter().flatten().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, Signal::CONT)?;
        }
        Ok(())
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> Result<bool> {
        Ok(child_of(self.child.id()).is_none())
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match child_of(self.child.id()).and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            Some(pid) => Ok(kill_process(pid, signal)?),
            None => Ok(()),
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<Ended> {
        let child = &mut self.child;
        let Some(status) = poll(LIMIT, || Ok(child.try_wait()?))? else {
            if let Some(zlm) = child_of(self.child.id()).and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                kill_process(zlm, Signal::KILL)?;
            }
            bail!("zlm does not end; it said: {}", fs::read_to_string(&self.stderr)?);
        };
        let (stdout, said) = (fs::read_to_string(&self.stdout)?, fs::read_to_string(&self.stderr)?);
        let outcome: serde_json::Result<Option<Outcome>> = stdout.lines().last().map(serde_json::from_str).transpose();
        let outcome = outcome.with_context(|| format!("zlm printed {stdout:?}"))?;
        // 137 is what nsenter makes of a child that was killed, where it does not kill itself.
        Ok(Ended { code: status.code().filter(|code| *code != 137), outcome, said })
    }
}

/// `zlm` is a child of the `nsenter` that was started.
fn child_of(parent: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}
