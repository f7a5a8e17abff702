//! Contests for accounts, as often as asked for: at every operation of a move, or round after round.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;
use zlm_lab::{Contest, End, Operator, SOURCE, THIRD};

use crate::fresh;

/// Mailboxes of one lab; more of them make the look at neighbours slow.
const ROUNDS: u32 = 25;

#[derive(Args)]
pub struct Contests {
    /// What is contended for.
    kind: Kind,
    /// The program to try, built with the feature `failpoints`.
    #[arg(long)]
    zlm: PathBuf,
    /// How many; of zombies and lost journals every place where they can come, unless given.
    #[arg(long)]
    count: Option<usize>,
    /// Print the sums as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Two operators move one account at once.
    Races,
    /// A run stands still, is taken over, and wakes.
    Zombies,
    /// A run is killed, and its journal is lost.
    LostJournals,
}

#[derive(Serialize)]
struct Sums {
    rounds: usize,
    violations: usize,
}

/// A round: what happens where.
enum Round {
    Race(usize),
    Zombie(String),
    LostJournal(String, End),
}

impl Contests {
    /// Carries the rounds out in labs at `dir`, made anew every now and then.
    pub fn act(&self, dir: &Path) -> Result<ExitCode> {
        let program = self.zlm.canonicalize().with_context(|| self.zlm.display().to_string())?;
        let mut lab = fresh(dir)?;
        let points = Contest::new(&lab, &Operator::new(&lab, &program), "c0", 700)?.operations()?;
        let mut sums = Sums { rounds: 0, violations: 0 };
        for (serial, round) in (1..).zip(self.rounds(points)) {
            if serial % ROUNDS == 0 {
                lab = fresh(dir)?;
            }
            sums.rounds += 1;
            let result = {
                let zlm = Operator::new(&lab, &program);
                Contest::new(&lab, &zlm, &format!("c{serial}"), 700 + serial).and_then(|contest| round.act(&contest))
            };
            match result {
                Ok(()) => eprintln!("ok   {}", round.told()),
                Err(error) => {
                    sums.violations += 1;
                    eprintln!("BAD  {}\n     {error:#}", round.told());
                    // What is left would be counted against the next ones.
                    lab = fresh(dir)?;
                }
            }
        }
        lab.down()?;
        match self.json {
            true => println!("{}", serde_json::to_string(&sums)?),
            false => println!("{} rounds, {} violations", sums.rounds, sums.violations),
        }
        Ok(if sums.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn rounds(&self, points: usize) -> Vec<Round> {
        let places = || (1..=points).flat_map(|number| ["before", "after"].map(|when| format!("{number}.{when}")));
        let all: Vec<Round> = match self.kind {
            Kind::Races => return (0..self.count.unwrap_or(100)).map(Round::Race).collect(),
            Kind::Zombies => places().map(Round::Zombie).collect(),
            Kind::LostJournals => {
                let ends = [End::Resume, End::Rollback];
                places().flat_map(|place| ends.map(|end| Round::LostJournal(place.clone(), end))).collect()
            }
        };
        // Some of them are spread over all.
        let step = all.len().div_ceil(self.count.unwrap_or(all.len()).max(1)).max(1);
        all.into_iter().step_by(step).collect()
    }
}

impl Round {
    fn act(&self, contest: &Contest<'_>) -> Result<()> {
        match self {
            Round::Race(n) => {
                let (first, second) = if n % 2 == 0 { (SOURCE, THIRD) } else { (THIRD, SOURCE) };
                // From together to one that finds the other at work.
                contest.race(first, second, Duration::from_millis([0, 5, 20, 60, 150, 300, 500][n % 7]))
            }
            Round::Zombie(place) => contest.zombie(place),
            Round::LostJournal(place, end) => contest.lost_journal(place, *end),
        }
    }

    fn told(&self) -> String {
        match self {
            Round::Race(n) => format!("race {n}"),
            Round::Zombie(place) => format!("zombie {place}"),
            Round::LostJournal(place, end) => format!("lost journal {place}, {end:?}"),
        }
    }
}
