//! What became of an account whose move was disturbed, by every invariant: those of the oracle, that nothing is left to do
//! (I9), that one mailbox took one number (I11), that statuses and JSON say what is so (I12), and that one store lets its
//! user write (I5).

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use mysql::prelude::Queryable;
use zlm_lab::lab_mail::journal::Journal;

use super::process::Ended;
use super::round::Round;
use super::{DEST, SOURCE};

/// Where the mailbox is when all has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    Moved,
    RolledBack,
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Home::Moved => "moved",
            Home::RolledBack => "rolled back",
        })
    }
}

/// What was found.
pub struct Verdict {
    pub ending: Home,
    /// Each with its invariant.
    pub violations: Vec<String>,
}

/// Looks at one account from its first process to the end.
pub struct Judge {
    /// `next_mailbox_id` of the destination before.
    next: u64,
    databases: Vec<String>,
    violations: Vec<String>,
    home: Home,
    run: Option<String>,
    /// Whether it is the run of a script that may leave the mailbox where it was and be done.
    is_script: bool,
    /// Whether that script may set a status of its own.
    sets_status: bool,
}

impl Judge {
    pub fn new(round: &Round<'_>) -> Result<Self> {
        let (next, databases) = (next_number(round)?, databases(round)?);
        let (violations, home) = (Vec::new(), Home::RolledBack);
        Ok(Self { next, databases, violations, home, run: None, is_script: false, sets_status: false })
    }

    /// The same for a script that need not move the mailbox, and may set a status of its own where it says so.
    pub fn of_script(round: &Round<'_>, sets_status: bool) -> Result<Self> {
        Ok(Self { is_script: true, sets_status, ..Self::new(round)? })
    }

    /// Whether the mailbox had its new home when this looked last.
    pub fn has_moved(&self) -> bool {
        self.home == Home::Moved
    }

    fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Whether what a process said of itself when it ended is so.
    pub fn look(&mut self, round: &Round<'_>, ended: &Ended, rolling_back: bool) -> Result<()> {
        let host = round.lab.account_value(&round.local, "zimbraMailHost")?.context("the account has no home")?;
        let status = round.lab.account_value(&round.local, "zimbraAccountStatus")?.unwrap_or_default();
        self.home = if host.starts_with(DEST) { Home::Moved } else { Home::RolledBack };
        let Some(outcome) = &ended.outcome else { return Ok(()) };
        self.run = Some(outcome.run.clone());
        let told = format!("{:?}: {:?}", ended.code, outcome);
        let code = outcome.code;
        if ended.code != Some(code) {
            self.violated(format!("I12 the exit status is not the outcome's: {told}"));
        }
        if outcome.ok != (code == 0) {
            self.violated(format!("I12 ok and code disagree: {told}"));
        }
        let wanted = match code {
            // A rollback that was asked for and is complete is well.
            0 if rolling_back => Some(Home::RolledBack),
            0 if self.is_script => Some(self.home),
            0 => Some(Home::Moved),
            2 if self.is_script => Some(Home::RolledBack),
            1 | 3 | 130 => Some(Home::RolledBack),
            _ => None,
        };
        if wanted.is_some_and(|wanted| wanted != self.home) {
            self.violated(format!("I12 the account is on {host}, and the outcome is {told}"));
        }
        let is_own = self.sets_status && code == 0 && status == "locked";
        if wanted.is_some() && status != round.status && !is_own {
            self.violated(format!("I12 the account is {status}, and the outcome is {told}"));
        }
        if outcome.switched && self.home != Home::Moved && code != 4 {
            self.violated(format!("I12 it says that it switched, and the account is on {host}: {told}"));
        }
        if code == 4 && outcome.next.is_none() {
            self.violated(format!("I12 it says nothing to do next: {told}"));
        }
        if code != 4 && !outcome.not_undone.is_empty() {
            self.violated(format!("I12 something was not undone: {told}"));
        }
        if !outcome.ok && outcome.message.as_deref().unwrap_or_default().is_empty() {
            self.violated(format!("I12 it does not say why it failed: {told}"));
        }
        if let Some(state) = &outcome.state
            && !state.contains(&format!("is on {host}, status {status}"))
        {
            self.violated(format!("I12 the account is on {host}, status {status}, and the outcome is {told}"));
        }
        Ok(())
    }

    /// Looks that the journal has no run that is left.
    pub fn nothing_left(&mut self, round: &Round<'_>) -> Result<()> {
        if let left @ [_, ..] = round.left()?.as_slice() {
            self.violated(format!("I9 zlm ps still lists {left:?}"));
        }
        Ok(())
    }

    /// Runs again what has ended: nothing happens (the oracle looks at that afterwards), and the status says so.
    pub fn run_again(&mut self, round: &Round<'_>) -> Result<()> {
        self.nothing_left(round)?;
        let word = if self.home == Home::Moved { "resume" } else { "rollback" };
        if let Some(run) = self.run.clone() {
            let ended = round.run(&[word, &run])?;
            // A run that was refused before it began anything, or failed and undid everything, has ended too.
            if ended.code != Some(0) {
                self.violated(format!("I9 zlm {word} once more: {:?}: {}", ended.code, ended.said));
            }
        }
        if self.home == Home::Moved {
            let ended = round.start_move("")?.end()?;
            if ended.code != Some(3) {
                self.violated(format!("I9 the move once more: {:?}: {}", ended.code, ended.said));
            }
        }
        Ok(())
    }

    /// What the oracle finds wrong. Arguments as of [`zlm_lab::Lab::check_moved`].
    pub fn by_oracle(&mut self, round: &Round<'_>, journal: Option<&Journal>, items_changed: bool) -> Result<()> {
        let report = match self.home {
            Home::Moved => round.lab.check_moved(&round.before, SOURCE, DEST, journal, items_changed)?,
            Home::RolledBack => round.lab.check_rolled_back(&round.before, SOURCE, DEST, journal, items_changed)?,
        };
        self.violations.extend(report.lines.iter().take(10).cloned());
        Ok(())
    }

    /// Whether the account is still where it was, with the status that it had.
    pub fn look_again(&mut self, round: &Round<'_>) -> Result<()> {
        let value = |name| round.lab.account_value(&round.local, name).map(Option::unwrap_or_default);
        let (host, status) = (value("zimbraMailHost")?, value("zimbraAccountStatus")?);
        let home = if host.starts_with(DEST) { Home::Moved } else { Home::RolledBack };
        if home != self.home || status != round.status {
            self.violated(format!("I4 some time after the end the account is on {host}, status {status}"));
        }
        Ok(())
    }

    /// Judges what is there, by the oracle and beyond it. Arguments as of [`zlm_lab::Lab::check_moved`].
    pub fn conclude(mut self, round: &Round<'_>, journal: Option<&Journal>, items_changed: bool) -> Result<Verdict> {
        self.by_oracle(round, journal, items_changed)?;
        let source = &round.lab.host(SOURCE)?.dir;
        let kept = ["var/lib/zlm", "var/log", "tmp"].map(|dir| source.join(dir));
        let said = ["zlm.out", "zlm.err"].map(|file| round.lab.dir().join(file));
        let paths: Vec<_> = kept.into_iter().chain(said).filter(|path| path.exists()).collect();
        self.violations.extend(round.lab.check_no_secrets(&paths)?.lines);
        let taken = next_number(round)?.saturating_sub(self.next);
        if taken > 1 || (taken == 0 && self.home == Home::Moved) {
            self.violated(format!("I11 the destination gave out {taken} numbers"));
        }
        if self.home == Home::RolledBack && databases(round)? != self.databases {
            self.violated(format!("I7 databases of the destination: {:?}", databases(round)?));
        }
        self.writable(round)?;
        Ok(Verdict { ending: self.home, violations: self.violations })
    }

    /// Where the user can work: at home, and nowhere else. This comes last, since it changes items.
    fn writable(&mut self, round: &Round<'_>) -> Result<()> {
        let (home, other) = if self.home == Home::Moved { (DEST, SOURCE) } else { (SOURCE, DEST) };
        let act = format!("act {} 1 1", round.email());
        for (store, wanted) in [(home, round.status == "active"), (other, false)] {
            let answer = round.lab.host(store)?.mailboxd_control(&act)?;
            if answer.starts_with("ok") != wanted {
                self.violated(format!(
                    "I5 {store}, which is {} the home: {answer}",
                    if store == home { "" } else { "not" }
                ));
            }
        }
        let locked = round.lab.host(home)?.mailboxd_control(&format!("locked {}", round.id))?;
        ensure!(matches!(locked.as_str(), "yes" | "no"), "{home}: locked: {locked}");
        if locked == "yes" {
            self.violated(format!("I7 {home}: the mailbox is locked"));
        }
        Ok(())
    }
}

fn databases(round: &Round<'_>) -> Result<Vec<String>> {
    Ok(round.lab.host(DEST)?.mysql()?.query("SHOW DATABASES")?)
}

fn next_number(round: &Round<'_>) -> Result<u64> {
    let mut root = round.lab.host(DEST)?.mysql()?;
    match root.query_first("SELECT next_mailbox_id FROM zimbra.current_volumes")? {
        Some(next) => Ok(next),
        None => bail!("{DEST}: zimbra.current_volumes is empty"),
    }
}
