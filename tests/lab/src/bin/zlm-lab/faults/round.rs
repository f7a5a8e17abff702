//! One account that is moved while a plan is carried out, until its run has ended for good.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use zlm_lab::lab_mail::oracle::Before;
use zlm_lab::lab_mail::seed::Spec;
use zlm_lab::{Deliveries, Lab, Seat, operations};

use super::plan::{Ending, Plan, Points};
use super::process::{Ended, Process};
use super::trouble::{Disk, Trouble, shell};
use super::verdict::{Judge, Verdict};
use super::{DEST, SOURCE};

/// How long a claim of a run that was killed may be held by a connection that nobody has missed yet.
const HELD: Duration = Duration::from_secs(90);
/// Processes that a run takes at most to come to its end.
const PROCESSES: u32 = 5;
/// What stays away until the run has ended is not waited for as long as usual.
const SETTINGS: &str = "[retry]\npatience = 6\n[limits]\nrequest_life = 20\n";
/// Messages a second.
const RATE: f64 = 4.0;

/// An account with a mailbox that is to move, and everything as it was before.
pub struct Round<'a> {
    pub lab: &'a Lab,
    zlm: String,
    seat: Seat,
    pub local: String,
    pub id: String,
    /// The status of the account.
    pub status: String,
    pub before: Before,
}

/// A run as `zlm ps --json` has it.
#[derive(Deserialize)]
struct Record {
    run: String,
    email: Option<String>,
}

impl<'a> Round<'a> {
    /// Adds the account with the number `serial`.
    pub fn new(lab: &'a Lab, zlm: &Path, serial: u32) -> Result<Self> {
        Self::shaped(lab, zlm, serial, &[], |_| {})
    }

    /// The same with attributes, and with the mailbox that `shape` makes of a small one.
    pub fn shaped(
        lab: &'a Lab,
        zlm: &Path,
        serial: u32,
        attributes: &[(&str, &str)],
        shape: impl FnOnce(&mut Spec),
    ) -> Result<Self> {
        let local = format!("f{serial}");
        let source = lab.host(SOURCE)?;
        let zlm = source.install(zlm)?;
        fs::write(source.dir.join("tmp/faults.toml"), SETTINGS)?;
        let small = |spec: &mut Spec| {
            spec.items = 60;
            spec.blob_bytes = Some(2 << 10);
            shape(spec);
        };
        // Group 5 of the destination takes no texts of others.
        let group = [1, 2, 3, 4, 6, 7, 8, 9, 10][serial as usize % 9];
        let id = lab.add_mailbox(&local, SOURCE, serial * 100 + group, attributes, small)?;
        let status = lab.account_value(&local, "zimbraAccountStatus")?.unwrap_or_default();
        let before = lab.before_move(&local)?;
        Ok(Self { lab, zlm, seat: zlm_lab::SOURCE, local, id, status, before })
    }

    /// The same with somebody who runs `zlm` elsewhere than as root at the source.
    pub fn from(mut self, seat: Seat, zlm: &Path) -> Result<Self> {
        self.zlm = self.lab.host(seat.host)?.install(zlm)?;
        self.seat = seat;
        Ok(self)
    }

    /// Other settings than those of all.
    pub fn settings(&self, text: &str) -> Result<()> {
        Ok(fs::write(self.lab.host(SOURCE)?.dir.join("tmp/faults.toml"), text)?)
    }

    /// Mail that comes in meanwhile.
    pub fn deliveries(&self) -> Result<Deliveries> {
        self.lab.start_deliveries(&[&self.local], RATE)
    }

    pub fn email(&self) -> String {
        format!("{}@lab.test", self.local)
    }

    /// `zlm` with arguments, which dies or stands still at failpoints.
    pub fn start(&self, words: &[&str], failpoint: &str) -> Result<Process> {
        let mut command = self.command(words)?;
        command.env("ZLM_FAILPOINT", failpoint).env("ZLM_CONFIG", "/var/tmp/faults.toml");
        Process::start(command, self.lab.dir())
    }

    /// `zlm` with arguments, and nothing configured.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let words: Vec<&str> = [self.zlm.as_str()].iter().chain(words).copied().collect();
        let mut command = self.lab.host(self.seat.host)?.command(self.seat.user, &words);
        command.env("TMPDIR", "/var/tmp");
        Ok(command)
    }

    pub fn run(&self, words: &[&str]) -> Result<Ended> {
        self.start(words, "")?.end()
    }

    pub fn start_move(&self, failpoint: &str) -> Result<Process> {
        let dest = &self.lab.host(DEST)?.fqdn;
        self.start(&["run", "move", "--email", &self.email(), "--dest", dest, "--json"], failpoint)
    }

    /// Moves undisturbed; gives what was done, in order.
    pub fn points(&self) -> Result<Points> {
        let ended = self.start_move("")?.end()?;
        ensure!(ended.code == Some(0), "an undisturbed move: {}", ended.said);
        let run = ended.outcome.context("an undisturbed move says nothing")?.run;
        let operations = self.done(&run)?;
        ensure!(operations.len() > 20, "an undisturbed move did only {operations:?}");
        let switch = operations.iter().position(|(_, what)| what.contains("zimbraMailHost"));
        Ok(Points { switch: switch.context("an undisturbed move does not switch")? + 1, operations })
    }

    /// The operations that a run has done: name and description, in order.
    pub fn done(&self, run: &str) -> Result<Vec<(String, String)>> {
        let out = self.command(&["show", run])?.output()?;
        Ok(operations(&String::from_utf8(out.stdout)?))
    }

    /// Carries a plan out while mail comes in, ends the run for good, and judges.
    pub fn suffer(&self, plan: &Plan) -> Result<Verdict> {
        for (_, trouble) in &plan.troubles {
            trouble.prepare(self.lab)?;
        }
        let mut judge = Judge::new(self)?;
        let mail = self.lab.start_deliveries(&[&self.local], RATE)?;
        let ended = self.first(plan)?;
        for (_, trouble) in &plan.troubles {
            trouble.end(self.lab)?;
        }
        self.finish(plan, ended, &mut judge)?;
        judge.run_again(self)?;
        for (_, trouble) in &plan.troubles {
            trouble.clear(self.lab)?;
        }
        let journal = mail.end().context("mail")?;
        judge.conclude(self, Some(&journal), false)
    }

    /// The process that everything happens to.
    fn first(&self, plan: &Plan) -> Result<Ended> {
        let mut process = self.start_move(&plan.failpoint())?;
        for number in plan.pauses() {
            let now: Vec<&Trouble> = plan.troubles.iter().filter(|(n, _)| *n == number).map(|(_, t)| t).collect();
            if !process.stands_still()? {
                break;
            }
            let open =
                self.lab.account_value(&self.local, "zimbraMailHost")?.is_some_and(|host| host.starts_with(DEST));
            for trouble in &now {
                trouble.begin(self.lab, open)?;
            }
            if matches!(now.as_slice(), [Trouble::Nothing]) {
                thread::sleep(Duration::from_millis(300));
            }
            process.go_on()?;
            now.iter().try_for_each(|trouble| trouble.go_on(self.lab))?;
        }
        process.end()
    }

    /// Resumes or rolls back until nothing is left to do.
    pub fn finish(&self, plan: &Plan, first: Ended, judge: &mut Judge) -> Result<()> {
        let mut ended = first;
        let mut again = plan.again.clone();
        let mut ending = plan.ending;
        let mut rolling_back = false;
        for _ in 0..PROCESSES {
            judge.look(self, &ended, rolling_back)?;
            let run = match (ended.code, ended.outcome) {
                (Some(0 | 1 | 3 | 130), Some(outcome)) => {
                    // A journal without room cannot say that its run has ended; that is said once there is room again.
                    let told = plan.troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Full(Disk::Journal)));
                    if !told || self.left()?.is_empty() {
                        return Ok(());
                    }
                    ending = if judge.has_moved() { Ending::Resume } else { Ending::Rollback };
                    outcome.run
                }
                (Some(4), Some(outcome)) => {
                    let next = outcome.next.unwrap_or_default();
                    let words: Vec<&str> = next.split_whitespace().collect();
                    match words.as_slice() {
                        ["zlm", "resume", _] => ending = Ending::Resume,
                        ["zlm", "rollback", _] => ending = Ending::Rollback,
                        _ => bail!("I12 ended with 4, and says to run {next:?} next: {}", ended.said),
                    }
                    outcome.run
                }
                (None, _) => self.forget_run_dirs().and_then(|()| self.newest_run())?,
                (code, _) => bail!("I12 ended with {code:?}: {}", ended.said),
            };
            rolling_back = ending == Ending::Rollback;
            let word = if rolling_back { "rollback" } else { "resume" };
            ended = self.end_run(word, &run, again.take().as_deref().unwrap_or_default())?;
            // A rollback is refused once the mailbox has its new home.
            if ended.code == Some(3) && ended.said.contains("only goes forward") {
                (ending, rolling_back) = (Ending::Resume, false);
                ended = self.end_run("resume", &run, "")?;
            }
        }
        bail!("after {PROCESSES} processes the run has not ended; the last ended with {:?}: {}", ended.code, ended.said)
    }

    /// Runs `zlm resume` or `rollback`, again while a dead process still holds the account.
    fn end_run(&self, how: &str, run: &str, failpoint: &str) -> Result<Ended> {
        let until = Instant::now() + HELD;
        loop {
            let ended = self.start(&[how, run, "--json"], failpoint)?.end()?;
            if ended.code != Some(5) || Instant::now() > until {
                return Ok(ended);
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// The newest run that was not ended.
    fn newest_run(&self) -> Result<String> {
        self.left()?.pop().context("zlm ps lists no run")
    }

    /// Runs that were not ended, about this account or none.
    pub fn left(&self) -> Result<Vec<String>> {
        let out = self.command(&["ps", "--json"])?.output()?;
        ensure!(out.status.success(), "zlm ps: {}", String::from_utf8_lossy(&out.stderr));
        let email = self.email();
        let mut runs = Vec::new();
        for line in String::from_utf8(out.stdout)?.lines() {
            let record: Record = serde_json::from_str(line)?;
            if record.email.is_none_or(|other| other == email) {
                runs.push(record.run);
            }
        }
        Ok(runs)
    }

    /// Removes the directory of sockets that a killed run could not.
    fn forget_run_dirs(&self) -> Result<()> {
        shell(self.lab, SOURCE, "rm -rf /var/tmp/zlm-*")
    }
}
