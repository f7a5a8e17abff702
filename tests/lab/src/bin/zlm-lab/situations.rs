//! Mailboxes and sites in states that are ordinary in the world, and peers that fail behind the switch. Under each a whole
//! run is made, with mail that arrives where it makes sense, and the oracle judges. What is expected is derived: what time
//! mends ends well; what cannot be moved is refused with the name of the thing, before anybody is frozen.

mod absence;
mod behind;
mod changes;
mod scene;
mod sites;
mod verdict;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use zlm_lab::lab_mail::seed::Spec;
use zlm_lab::{SOURCE, Seat};

use super::bench::{self, Bench};
use super::faults::round::Round;
use behind::Course;
use scene::Scene;

#[derive(Args)]
pub struct Situations {
    /// The program to try, built with the feature `failpoints`.
    #[arg(long)]
    zlm: Option<PathBuf>,
    /// Print the situations, and play none.
    #[arg(long)]
    list: bool,
    /// Only those whose name has this text in it.
    #[arg(long)]
    only: Option<String>,
    /// Begin no more after this many seconds. What is away for a minute is then away for a few seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Where a part begins.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many labs at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Print the sums as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sums {
    situations: usize,
    violations: usize,
}

/// What a run must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The account is open at its new home, the exit status is 0.
    Moved,
    /// Status 3, with each of these texts in what is said. Nobody was frozen, nothing changed.
    Refused(&'static [&'static str]),
    /// Status 1, with each of these texts in what is said: what broke is not mended by time, and was not there to be seen
    /// before. The account is open where it was, and the destination has nothing of it.
    Undone(&'static [&'static str]),
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Move,
    /// A move of a list with this account alone.
    Batch,
    /// A move that is killed as soon as it has switched, and what takes it up again; the situation meets the latter.
    Resume,
    /// A move that nothing happens to, and what takes it back.
    Reverse,
}

/// A state of a mailbox or a site, or something that happens to a run. All but the name and the expectation has a
/// default: nothing.
pub trait Situation: Display + Send + Sync {
    fn expect(&self) -> Expect {
        Expect::Moved
    }

    fn way(&self) -> Way {
        Way::Move
    }

    /// Attributes of the account.
    fn attributes(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Makes the mailbox another one than a small plain one.
    fn shape(&self, _: &mut Spec) {}

    /// Whether mail arrives during the run.
    fn mail(&self) -> bool {
        true
    }

    /// Whether something other than mail changes items.
    fn changes_items(&self) -> bool {
        false
    }

    /// Makes the state what it is to be, before the run: for a way back, before the first move.
    fn arrange(&self, _: &Scene<'_>) -> Result<()> {
        Ok(())
    }

    /// The same for a way back, after the first move.
    fn arrange_back(&self, _: &Scene<'_>) -> Result<()> {
        Ok(())
    }

    /// Where zlm runs, and as whom.
    fn seat(&self) -> Seat {
        SOURCE
    }

    /// Text of a difference to the account as it was that Zimbra itself forces.
    fn allowed(&self) -> Option<&'static str> {
        None
    }

    /// Options of the run.
    fn options(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Where the run stands still, a failpoint.
    fn place(&self, _: &Course) -> Option<String> {
        None
    }

    /// Happens while it stands still.
    fn happen(&self, _: &Scene<'_>) -> Result<()> {
        Ok(())
    }

    /// Happens when it goes on.
    fn go_on(&self, _: &Scene<'_>) -> Result<()> {
        Ok(())
    }

    /// Makes the site what it was. Done once more, or without a beginning, it does no harm.
    fn clear(&self, _: &Scene<'_>) -> Result<()> {
        Ok(())
    }
}

impl Situations {
    /// Plays the situations in labs below `dir`, made anew every now and then.
    pub fn act(&self, dir: &Path) -> Result<ExitCode> {
        let situations = self.choose();
        if self.list {
            situations.iter().for_each(|situation| println!("{situation}"));
            return Ok(ExitCode::SUCCESS);
        }
        let zlm = self.zlm.as_deref().context("--zlm says which program to try")?;
        let zlm = zlm.canonicalize().with_context(|| zlm.display().to_string())?;
        let course = {
            let mut bench = Bench::new(dir.join("0"), &zlm);
            let (lab, serial) = bench.lab()?;
            let points = Round::new(lab, &zlm, serial)?.points();
            bench.down()?;
            Course::of(&points?)?
        };
        eprintln!("seed {}: {} situations", self.seed, situations.len());
        let (situations, violations) =
            bench::each((dir, &zlm), self.jobs, self.seconds, situations, |bench, situation| {
                let started = Instant::now();
                let zlm = bench.zlm;
                let ended = bench.lab().and_then(|(lab, serial)| {
                    let shape = |spec: &mut Spec| situation.shape(spec);
                    let round = Round::shaped(lab, zlm, serial, &situation.attributes(), shape)?;
                    let round = round.from(situation.seat(), zlm)?;
                    Scene { round, course: &course, serial }.play(situation.as_ref())
                });
                let again = format!("{situation}\n     tests/situations --only '{situation}'");
                let well = ended.as_ref().is_ok_and(|(_, wrong)| wrong.is_empty());
                let what: &dyn Display = if well { situation } else { &again };
                bench.told(what, started, ended)
            })?;
        let sums = Sums { situations, violations };
        match self.json {
            true => println!("{}", serde_json::to_string(&sums)?),
            false => println!("{} situations, {} violations", sums.situations, sums.violations),
        }
        Ok(if violations == 0 && situations > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn choose(&self) -> Vec<Box<dyn Situation>> {
        let minute = if self.seconds.is_some() { behind::SHORT } else { behind::MINUTE };
        let mut all: Vec<Box<dyn Situation>> = Vec::new();
        all.extend(absence::all());
        all.extend(behind::all(minute));
        all.extend(changes::all());
        all.extend(sites::all());
        if let Some(text) = &self.only {
            all.retain(|situation| situation.to_string().contains(text));
        }
        if self.seconds.is_some() { bench::spread(all, self.seed) } else { all }
    }
}
