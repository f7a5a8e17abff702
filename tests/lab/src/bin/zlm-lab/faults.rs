//! Moves that are killed, failed and stopped at each of their operations, with their surroundings hurt at each of them, and
//! taken up again or undone; judged by the oracle. The operations come from a move's own journal, so that a new one cannot
//! escape.

mod plan;
mod process;
mod random;
mod round;
mod trouble;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use zlm_lab::Lab;

use plan::{Plan, Points};
use round::Round;

/// The store that mailboxes are moved from, and where zlm runs.
const SOURCE: &str = "store1";
/// The store that they are moved to.
const DEST: &str = "store2";
/// Mailboxes of one lab; more of them make the look at neighbours slow.
const ROUNDS: u32 = 25;

#[derive(Args)]
pub struct Faults {
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
        let points = {
            let mut bench = Bench::new(dir.join("0"), &zlm);
            let points = bench.round()?.points();
            bench.down()?;
            points?
        };
        let plans = self.choose(&points);
        eprintln!("seed {}: {} operations, {} faults", self.seed, points.operations.len(), plans.len());
        let until = self.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let (queue, sums) = (Mutex::new(plans.into_iter()), Mutex::new((0, 0)));
        let broken = AtomicBool::new(false);
        thread::scope(|scope| {
            let workers: Vec<_> = (1..=self.jobs.max(1))
                .map(|job| {
                    let (queue, sums, broken, zlm) = (&queue, &sums, &broken, &zlm);
                    scope.spawn(move || -> Result<()> {
                        let mut bench = Bench::new(dir.join(job.to_string()), zlm);
                        while !broken.load(Ordering::SeqCst) && until.is_none_or(|until| Instant::now() < until) {
                            let Some(plan) = lock(queue).next() else { break };
                            let clean = bench.try_out(&plan).inspect_err(|_| broken.store(true, Ordering::SeqCst))?;
                            let mut sums = lock(sums);
                            sums.0 += 1;
                            sums.1 += usize::from(!clean);
                        }
                        bench.down()
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("the thread does not panic"))
        })?;
        let (runs, violations) = *lock(&sums);
        let sums = Sums { runs, violations, points: points.operations.len() * 2 };
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
        let mut all = plan::all(points);
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
        // Steps that share no factor with the number of faults come by each of them once before any twice.
        let step = (length * 5 / 13..).find(|step| gcd(*step, length) == 1).unwrap_or(1);
        let start = usize::try_from(self.seed % length.max(1) as u64).unwrap_or(0);
        (0..count).map(|n| all[(start + n * step) % length].clone()).collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

/// A lab that one worker tries one fault after the other in.
struct Bench<'a> {
    dir: PathBuf,
    zlm: &'a Path,
    lab: Option<Lab>,
    serial: u32,
}

impl<'a> Bench<'a> {
    fn new(dir: PathBuf, zlm: &'a Path) -> Self {
        Self { dir, zlm, lab: None, serial: 0 }
    }

    /// An account that is to move, in a lab that is not worn out.
    fn round(&mut self) -> Result<Round<'_>> {
        if self.serial >= ROUNDS {
            self.down()?;
        }
        let lab = match self.lab.take() {
            Some(lab) => lab,
            None => self.boot()?,
        };
        self.serial += 1;
        Round::new(self.lab.insert(lab), self.zlm, self.serial)
    }

    fn boot(&mut self) -> Result<Lab> {
        self.serial = 0;
        std::fs::create_dir_all(self.dir.parent().context("the directory of labs")?)?;
        let lab = Lab::boot(&self.dir)?;
        lab.rest()?;
        Ok(lab)
    }

    /// Tries a plan, and tells; whether it went well.
    fn try_out(&mut self, plan: &Plan) -> Result<bool> {
        let started = Instant::now();
        let result = self.round().and_then(|round| round.suffer(plan));
        let seconds = started.elapsed().as_secs_f64();
        let mut lines = Vec::new();
        match result {
            Ok(verdict) if verdict.violations.is_empty() => {
                eprintln!("ok   {seconds:5.1} s {:<11} {plan}", verdict.ending);
                return Ok(true);
            }
            Ok(verdict) => lines.extend(verdict.violations),
            Err(error) => lines.push(format!("{error:#}")),
        }
        let lines: String = lines.iter().map(|line| format!("\n     {line}")).collect();
        eprintln!("BAD  {seconds:5.1} s {plan}{lines}");
        // What is left would be counted against the next ones.
        self.down()?;
        Ok(false)
    }

    fn down(&mut self) -> Result<()> {
        match self.lab.take() {
            Some(lab) => lab.down(),
            None => Ok(()),
        }
    }
}
