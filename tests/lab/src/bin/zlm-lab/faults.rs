//! Moves that are killed, failed and stopped at each of their operations, with their surroundings hurt at each of them, and
//! taken up again or undone; judged by the oracle. The operations come from a move's own journal, so that a new one cannot
//! escape.

mod late;
pub mod plan;
pub mod process;
pub mod random;
pub mod round;
pub mod trouble;
pub mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::bench::{self, Bench};
use plan::{Plan, Points};
use round::Round;

/// The store that mailboxes are moved from, and where zlm runs.
pub const SOURCE: &str = "store1";
/// The store that they are moved to.
pub const DEST: &str = "store2";
/// What is played instead of the faults of processes and servers.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Family {
    /// Answers that come late, never, or twice.
    Late,
}

#[derive(Args)]
pub struct Faults {
    /// Another family of faults.
    family: Option<Family>,
    /// The program to try, built with the feature `failpoints`.
    #[arg(long)]
    zlm: PathBuf,
    /// How many faults, spread over all; every one of them unless given.
    #[arg(long)]
    count: Option<usize>,
    /// Begin no more after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Where the spread begins, and what random combinations are made from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Random combinations of one to four faults instead of the list of all single ones; each has its own seed, the given
    /// one and those above it.
    #[arg(long)]
    random: bool,
    /// The Nth of M parts of all, as `N/M`.
    #[arg(long, value_parser = part)]
    part: Option<(usize, usize)>,
    /// Only those whose description has this text in it.
    #[arg(long)]
    only: Option<String>,
    /// How many labs at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Print the sums as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sums {
    runs: usize,
    violations: usize,
    points: usize,
}

fn part(text: &str) -> Result<(usize, usize), String> {
    let parsed = text.split_once('/').and_then(|(n, of)| Some((n.parse().ok()?, of.parse().ok()?)));
    parsed.filter(|(n, of)| (1..=*of).contains(n)).ok_or_else(|| format!("{text}: not N/M"))
}

impl Faults {
    /// Runs the faults in labs below `dir`, made anew every now and then.
    pub fn act(&self, dir: &Path) -> Result<ExitCode> {
        let zlm = self.zlm.canonicalize().with_context(|| self.zlm.display().to_string())?;
        if let Some(Family::Late) = self.family {
            return self.late(dir, &zlm);
        }
        let points = {
            let mut bench = Bench::new(dir.join("0"), &zlm);
            let points = round(&mut bench)?.points();
            bench.down()?;
            points?
        };
        let plans = self.choose(&points);
        eprintln!("seed {}: {} operations, {} faults", self.seed, points.operations.len(), plans.len());
        let (runs, violations) = bench::each((dir, &zlm), self.jobs, self.seconds, plans, |bench, plan| {
            let started = Instant::now();
            let ended = round(bench).and_then(|round| round.suffer(plan));
            bench.told(plan, started, ended.map(|verdict| (verdict.ending, verdict.violations)))
        })?;
        self.sum_up(&Sums { runs, violations, points: points.operations.len() * 2 })
    }

    /// Each request of a move, carried out late, without an answer, or twice.
    fn late(&self, dir: &Path, zlm: &Path) -> Result<ExitCode> {
        let requests = {
            let mut bench = Bench::new(dir.join("0"), zlm);
            let requests = late::Requests::of_a_move(&round(&mut bench)?);
            bench.down()?;
            requests?.0
        };
        let cases = self.part_of(requests.cases());
        eprintln!("seed {}: {} requests, {} cases", self.seed, requests.count(), cases.len());
        let (runs, violations) = bench::each((dir, zlm), self.jobs, self.seconds, cases, |bench, case| {
            let started = Instant::now();
            let ended = round(bench).and_then(|round| case.play(&round));
            bench.told(case, started, ended.map(|verdict| (verdict.ending, verdict.violations)))
        })?;
        self.sum_up(&Sums { runs, violations, points: requests.count() })
    }

    fn sum_up(&self, sums: &Sums) -> Result<ExitCode> {
        let Sums { runs, violations, .. } = *sums;
        match self.json {
            true => println!("{}", serde_json::to_string(&sums)?),
            false => println!("{} runs at {} points, {} violations", sums.runs, sums.points, sums.violations),
        }
        Ok(if violations == 0 && runs > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn choose(&self, points: &Points) -> Vec<Plan> {
        if self.random {
            let count = self.count.unwrap_or(if self.seconds.is_some() { 100_000 } else { 50 });
            return (0..count as u64).map(|n| random::plan(points, self.seed + n)).collect();
        }
        self.part_of(plan::all(points))
    }

    /// The part that was asked for.
    fn part_of<T: ToString>(&self, mut all: Vec<T>) -> Vec<T> {
        if let Some(text) = &self.only {
            all.retain(|plan| plan.to_string().contains(text));
        }
        if let Some((n, of)) = self.part {
            all = all.into_iter().skip(n - 1).step_by(of).collect();
        }
        let (length, count) = (all.len(), self.count.unwrap_or(all.len()).min(all.len()));
        if count == length && self.seconds.is_none() {
            return all;
        }
        all = bench::spread(all, self.seed);
        all.truncate(count);
        all
    }
}

/// An account that is to move, in a lab that is not worn out.
fn round<'a>(bench: &'a mut Bench<'_>) -> Result<Round<'a>> {
    let zlm = bench.zlm;
    let (lab, serial) = bench.lab()?;
    Round::new(lab, zlm, serial)
}
