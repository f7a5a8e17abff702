//! Two who want one account: operators at once, a run that stands still while another takes its account over, and a run
//! whose journal is lost. The oracle judges each.

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab_mail::oracle::Before;
use mysql::prelude::Queryable;
use rustix::process::{Pid, Signal, kill_process};

use crate::layout::STORES;
use crate::{Ended, Lab, Operator, SOURCE, Seat, THIRD, operations, poll};

/// Nothing here takes longer.
const LIMIT: Duration = Duration::from_secs(60);

/// An account with a small mailbox on store1 that is contended for.
pub struct Contest<'a> {
    lab: &'a Lab,
    zlm: &'a Operator<'a>,
    local: String,
    email: String,
    id: String,
    before: Before,
}

/// How a run ends whose journal was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It goes on.
    Resume,
    /// It is undone.
    Rollback,
}

impl<'a> Contest<'a> {
    /// Makes the account `LOCAL@lab.test` with the mailbox `number`.
    pub fn new(lab: &'a Lab, zlm: &'a Operator<'a>, local: &str, number: u32) -> Result<Self> {
        let id = lab.add_mailbox(local, "store1", number, &[], |spec| spec.items = 30)?;
        let before = lab.before_move(local)?;
        Ok(Self { lab, zlm, local: local.to_owned(), email: format!("{local}@lab.test"), id, before })
    }

    /// Moves it undisturbed; gives the number of operations that took.
    pub fn operations(&self) -> Result<usize> {
        let ended = self.run(SOURCE, &self.words(&["run", "move"]), 0)?;
        let run = ended.field("run")?;
        let shown = self.run(SOURCE, &["show", &run], 0)?;
        let count = operations(&shown.stdout).len();
        ensure!(count > 20, "an undisturbed move: {}", shown.told());
        Ok(count)
    }

    /// Two operators move it at once, the second `delay` after the first: one moves it, the other is told who does.
    pub fn race(&self, first: Seat, second: Seat, delay: Duration) -> Result<()> {
        let words = self.words(&["run", "move"]);
        let one = self.zlm.start(first, &words)?;
        sleep(delay);
        let other = self.zlm.start(second, &words)?;
        let (one, other) = (Ended::of(one.wait_with_output()?), Ended::of(other.wait_with_output()?));
        let (winner, loser, seat) = match (one.code, other.code) {
            (Some(0), Some(5)) => (one, other, first),
            (Some(5), Some(0)) => (other, one, second),
            _ => bail!("one must move it, and the other be told so: {}\n{}", one.told(), other.told()),
        };
        let told = loser.field("message")?;
        for part in [winner.field("run")?, format!("{}.lab.test", seat.host), " since 20".to_owned()] {
            ensure!(told.contains(&part), "the loser is not told {part:?}: {}", loser.told());
        }
        self.is_moved()
    }

    /// A move stands still at `failpoint` and its connections to the claims break. A second operator, who has not its
    /// journal, ends it and moves the account. Then the first one wakes: it must change nothing.
    pub fn zombie(&self, failpoint: &str) -> Result<()> {
        let (child, pid) = self.stop_at(failpoint)?;
        let had_claimed = self.break_claims()?;
        let second = self.take_over(had_claimed);
        // Whatever became of the second one, the first must not stay.
        // nsenter stops with the child that it waits for.
        let nsenter = Pid::from_raw(child.id().cast_signed()).context("nsenter has a pid")?;
        for pid in [nsenter, pid] {
            kill_process(pid, Signal::CONT).context("SIGCONT")?;
        }
        let woken = Ended::of(child.wait_with_output()?);
        second?;
        // One that had not claimed the account yet is refused by what it looks at next, or by what it then finds changed.
        let wanted: &[i32] = if had_claimed { &[5] } else { &[1, 3, 5] };
        ensure!(woken.code.is_some_and(|code| wanted.contains(&code)), "woken: {}", woken.told());
        if had_claimed {
            let again = self.run(SOURCE, &["resume", &woken.field("run")?], 2)?;
            ensure!(again.stderr.contains("has ended: taken_over"), "{}", again.told());
        }
        self.is_moved()
    }

    fn take_over(&self, had_claimed: bool) -> Result<()> {
        let reconciled = self.reconcile(THIRD)?;
        ensure!(reconciled.is_empty() != had_claimed, "what to do next: {reconciled:?}");
        if let Some(next) = reconciled.first() {
            self.next(THIRD, next)?;
            if next.starts_with("zlm finish") {
                return Ok(());
            }
        }
        self.run(THIRD, &self.words(&["run", "move"]), 0).map(drop)
    }

    /// A move is killed at `failpoint` and its journal is lost; it is made anew, and the run ended.
    pub fn lost_journal(&self, failpoint: &str, end: End) -> Result<()> {
        let died = Ended::of(self.start(&format!("{failpoint}=kill"))?.wait_with_output()?);
        ensure!(!died.stdout.contains("\"ok\""), "it was not killed: {}", died.told());
        let journal = self.lab.host(SOURCE.host)?.zimbra_path("zlm/journal");
        std::fs::remove_dir_all(&journal).with_context(|| journal.display().to_string())?;
        self.forget_run_dirs()?;
        self.wait_unheld()?;
        let next = self.reconcile(SOURCE)?;
        let word = if end == End::Resume { "zlm resume" } else { "zlm rollback" };
        let Some(next) = next.iter().find(|next| next.starts_with(word)).or(next.first()) else {
            return self.is_undone();
        };
        self.next(SOURCE, next)?;
        match next.starts_with("zlm rollback") {
            true => self.is_undone(),
            false => self.is_moved(),
        }
    }

    /// The commands that `zlm reconcile` names.
    fn reconcile(&self, seat: Seat) -> Result<Vec<String>> {
        let ended = self.run(seat, &["reconcile", &self.email, "--json"], 0)?;
        let next = ended.json()?["next"].as_array().context("next")?.clone();
        Ok(next.iter().filter_map(|next| next.as_str().map(str::to_owned)).collect())
    }

    fn next(&self, seat: Seat, command: &str) -> Result<Ended> {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        self.run(seat, &words, 0)
    }

    fn words<'b>(&'b self, words: &[&'b str]) -> Vec<&'b str> {
        words.iter().copied().chain(["--email", &self.email, "--dest", "store2.lab.test", "--json"]).collect()
    }

    fn run(&self, seat: Seat, words: &[&str], code: i32) -> Result<Ended> {
        let ended = self.zlm.run(seat, words)?;
        ensure!(ended.code == Some(code), "zlm {} on {}: {}", words.join(" "), seat.host, ended.told());
        Ok(ended)
    }

    fn start(&self, failpoint: &str) -> Result<Child> {
        let mut command = self.zlm.command(SOURCE, &self.words(&["run", "move"]))?;
        command.env("ZLM_FAILPOINT", failpoint).stdin(Stdio::null());
        command.spawn().context("nsenter: cannot be started")
    }

    /// Starts a move and waits until it stands still.
    fn stop_at(&self, failpoint: &str) -> Result<(Child, Pid)> {
        let failpoint = format!("{failpoint}=pause");
        let child = self.start(&failpoint)?;
        match poll(LIMIT, || Ok(stopped(&failpoint)))? {
            Some(pid) => Ok((child, pid)),
            None => bail!("it did not stand still at {failpoint}; was zlm built with its failpoints?"),
        }
    }

    /// Breaks the connections that claim the account; says whether there were any.
    fn break_claims(&self) -> Result<bool> {
        let mut broken = false;
        for store in STORES {
            if let Some(connection) = self.holder(store)? {
                self.lab.host(store)?.mysql()?.query_drop(format!("KILL {connection}"))?;
                broken = true;
            }
        }
        self.wait_unheld()?;
        Ok(broken)
    }

    fn holder(&self, store: &str) -> Result<Option<u64>> {
        let sql = format!("SELECT IS_USED_LOCK('zlm.{}')", self.id);
        Ok(self.lab.host(store)?.mysql()?.query_first::<Option<u64>, _>(sql)?.flatten())
    }

    fn wait_unheld(&self) -> Result<()> {
        for store in STORES {
            let free = poll(LIMIT, || Ok(self.holder(store)?.is_none().then_some(())))?;
            ensure!(free.is_some(), "{store}: still claimed");
        }
        Ok(())
    }

    fn is_moved(&self) -> Result<()> {
        let report = self.lab.check_moved(&self.before, "store1", "store2", None, false)?;
        ensure!(report.is_clean(), "{}: {report}", self.local);
        Ok(())
    }

    fn is_undone(&self) -> Result<()> {
        let report = self.lab.check_rolled_back(&self.before, "store1", "store2", None, false)?;
        ensure!(report.is_clean(), "{}: {report}", self.local);
        Ok(())
    }

    /// Removes the directories of sockets that a killed run could not.
    fn forget_run_dirs(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.lab.host(SOURCE.host)?.dir.join("tmp"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("zlm-") && entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Ended {
    fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout).with_context(|| self.told())
    }

    fn field(&self, name: &str) -> Result<String> {
        let value = self.json()?;
        value[name].as_str().map(str::to_owned).with_context(|| format!("no {name}: {}", self.told()))
    }
}

/// The process with this failpoint that stands still.
fn stopped(failpoint: &str) -> Option<Pid> {
    let wanted = format!("ZLM_FAILPOINT={failpoint}");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().into_string().ok()?.parse().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        environment.split(|b| *b == 0).find(|variable| *variable == wanted.as_bytes())?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
        if state == 'T' { Pid::from_raw(pid) } else { None }
    })
}
