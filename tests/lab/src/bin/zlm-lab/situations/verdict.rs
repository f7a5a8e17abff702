//! Whether a run came to what was expected of its situation.

use anyhow::{Context, Result};
use zlm_lab::Fingerprint;
use zlm_lab::lab_mail::journal::Journal;

use super::scene::Scene;
use super::{Expect, Situation, Way};
use crate::faults::process::Ended;
use crate::faults::verdict as faults;
use crate::faults::{DEST, SOURCE};

/// Operations that come when a run has begun something.
const BEGUN: [&str; 5] = ["claim", "stage", "soap_modify", "freeze", "switch_to"];

/// Looks at one account from before its run to the end.
pub struct Judge {
    moved: faults::Judge,
    wrong: Vec<String>,
}

impl Judge {
    pub fn new(scene: &Scene<'_>) -> Result<Self> {
        Ok(Self { moved: faults::Judge::new(&scene.round)?, wrong: Vec::new() })
    }

    fn violated(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Whether nothing changed.
    pub fn untouched(&mut self, before: &Fingerprint, after: &Fingerprint) {
        self.wrong.extend(after.differences_from(before).into_iter().take(10));
    }

    /// What it came to, and all that is wrong with it.
    pub fn conclude(
        mut self,
        scene: &Scene<'_>,
        situation: &dyn Situation,
        ended: Ended,
        journal: Option<&Journal>,
    ) -> Result<(String, Vec<String>)> {
        let wanted = match situation.expect() {
            Expect::Moved => 0,
            Expect::Refused(_) => 3,
            Expect::Undone(_) => 1,
        };
        if ended.code != Some(wanted) {
            // What it changed is no news then.
            self.wrong = vec![format!("ended with {:?} and not with {wanted}: {}", ended.code, told(&ended))];
        } else if let Expect::Refused(texts) | Expect::Undone(texts) = situation.expect() {
            self.says(&ended, texts);
        }
        if wanted == 3 && ended.code == Some(wanted) {
            self.began_nothing(scene, &ended)?;
        }
        // An account that is still shut may not be looked at by the rest.
        if !self.wrong.is_empty() {
            return Ok(("otherwise".to_owned(), self.wrong));
        }
        match situation.way() {
            Way::Reverse => self.came_home(scene, situation, journal),
            way => self.came_to(scene, situation, way, ended, journal),
        }
    }

    /// It says why by name.
    fn says(&mut self, ended: &Ended, texts: &[&str]) {
        let message = ended.outcome.as_ref().and_then(|outcome| outcome.message.as_deref()).unwrap_or_default();
        for text in texts.iter().filter(|text| !ended.said.contains(**text) && !message.contains(**text)) {
            self.violated(format!("no {text:?} in: {}", told(ended)));
        }
    }

    fn began_nothing(&mut self, scene: &Scene<'_>, ended: &Ended) -> Result<()> {
        if let Some(outcome) = &ended.outcome {
            let begun = scene.round.done(&outcome.run)?.into_iter().filter(|(name, _)| BEGUN.contains(&name.as_str()));
            begun.for_each(|(name, what)| self.violated(format!("it had begun: {name} {what}")));
        }
        Ok(())
    }

    /// The account is where it is to be, open, with all that it had and got.
    fn came_to(
        mut self,
        scene: &Scene<'_>,
        situation: &dyn Situation,
        way: Way,
        ended: Ended,
        journal: Option<&Journal>,
    ) -> Result<(String, Vec<String>)> {
        self.moved.look(&scene.round, &ended, false)?;
        if way != Way::Batch && situation.expect() == Expect::Moved {
            self.moved.run_again(&scene.round)?;
        }
        let verdict = self.moved.conclude(&scene.round, journal, situation.changes_items())?;
        let forced = |line: &String| situation.allowed().is_some_and(|text| line.contains(text));
        self.wrong.extend(verdict.violations.into_iter().filter(|line| !forced(line)));
        let became = match situation.expect() {
            Expect::Moved | Expect::Undone(_) => verdict.ending.to_string(),
            Expect::Refused(_) => "refused".to_owned(),
        };
        Ok((became, self.wrong))
    }

    /// The account is on its old store as if it had never left it, and writable there; the other one kept its copy.
    fn came_home(
        mut self,
        scene: &Scene<'_>,
        situation: &dyn Situation,
        journal: Option<&Journal>,
    ) -> Result<(String, Vec<String>)> {
        let (lab, before) = (scene.lab(), &scene.round.before);
        let kept = format!("I7 {}: mailbox {} of the account", lab.host(DEST)?.fqdn, scene.number(DEST)?);
        let report = lab.check_rolled_back(before, SOURCE, DEST, journal, situation.changes_items())?;
        self.wrong.extend(report.lines.into_iter().filter(|line| *line != kept));
        let status = lab.account_value(&scene.round.local, "zimbraAccountStatus")?.context("no status")?;
        if status != scene.round.status {
            self.violated(format!("I4 status {status}"));
        }
        for (store, wanted) in [(SOURCE, true), (DEST, false)] {
            let answer = lab.host(store)?.mailboxd_control(&format!("act {} 1 1", scene.round.email()))?;
            if answer.starts_with("ok") != wanted {
                self.violated(format!("I5 {store}: {answer}"));
            }
        }
        Ok(("came home".to_owned(), self.wrong))
    }
}

/// Why a run ended as it did.
fn told(ended: &Ended) -> String {
    let last = ended.said.lines().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" / ");
    let Some(outcome) = &ended.outcome else { return last };
    let parts = [outcome.message.as_deref(), outcome.state.as_deref(), outcome.next.as_deref(), Some(&last)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n     ")
}
