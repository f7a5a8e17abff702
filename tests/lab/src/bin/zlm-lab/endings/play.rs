//! One script, run to its end and to that of the commands that it names.

use std::fs;

use anyhow::{Context, Result, bail};

use super::super::faults::process::Ended;
use super::super::faults::round::Round;
use super::super::faults::verdict::Judge;
use super::super::faults::{DEST, SOURCE};
use super::script::Script;

/// What the oracle says of an account with a status that its script means.
const OWN: [&str; 2] = [r#"zimbraAccountStatus: ["active"] became ["locked"]"#, "account.ACCOUNT_INACTIVE"];

/// Commands that end a run at most.
const COMMANDS: usize = 4;

/// A script about an account.
pub struct Play<'a> {
    round: &'a Round<'a>,
    script: &'a Script,
}

impl<'a> Play<'a> {
    pub fn new(round: &'a Round<'a>, script: &'a Script) -> Result<Self> {
        let path = round.lab.host(SOURCE)?.dir.join("tmp").join(format!("{}.rhai", round.local));
        fs::write(&path, script.text()).with_context(|| path.display().to_string())?;
        Ok(Self { round, script })
    }

    /// Runs it once.
    pub fn run(&self) -> Result<Ended> {
        let path = format!("/var/tmp/{}.rhai", self.round.local);
        let dest = &self.round.lab.host(DEST)?.fqdn;
        self.round.run(&["run", &path, "--email", &self.round.email(), "--dest", dest, "--json"])
    }

    /// Runs it, and what it says to run next; gives what became of the account, and what is wrong with that.
    pub fn to_its_end(&self) -> Result<(String, Vec<String>)> {
        let (round, lab) = (self.round, self.round.lab);
        let mut judge = Judge::of_script(round, self.script.sets_status())?;
        for trouble in &self.script.troubles {
            trouble.begin(lab, false)?;
        }
        let mut ended = self.run()?;
        for trouble in &self.script.troubles {
            trouble.end(lab)?;
        }
        let mut became = format!("{}", ended.code.unwrap_or(-1));
        let mut rolling_back = false;
        for _ in 0..COMMANDS {
            judge.look(round, &ended, rolling_back)?;
            let Some(4) = ended.code else { break };
            let next = ended.outcome.as_ref().and_then(|outcome| outcome.next.clone()).unwrap_or_default();
            let words: Vec<&str> = next.split_whitespace().collect();
            let ["zlm", word @ ("resume" | "rollback" | "finish"), run] = words[..] else {
                bail!("I12 ended with 4, and says to run {next:?} next: {}", ended.said);
            };
            became = format!("{became} {word}");
            rolling_back = word == "rollback";
            ended = round.run(&[word, run, "--json"])?;
        }
        match ended.code {
            Some(0..=3) => {}
            code => bail!("I12 after {became} it ended with {code:?}: {}", ended.said),
        }
        judge.nothing_left(round)?;
        let mut verdict = judge.conclude(round, None, false)?;
        if self.script.sets_status() {
            // It means that status, and with it nobody works.
            let is_meant = |line: &String| OWN.iter().any(|text| line.contains(text));
            verdict.violations.retain(|line| !is_meant(line));
        }
        Ok((format!("{became} {}", verdict.ending), verdict.violations))
    }
}
