//! Labs in which one case after the other is tried, by some workers at a time.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use zlm_lab::Lab;

/// Mailboxes of one lab; more of them make the look at neighbours slow.
const ROUNDS: u32 = 25;

/// A lab that one worker tries one case after the other in.
pub struct Bench<'a> {
    dir: PathBuf,
    /// The program to try.
    pub zlm: &'a Path,
    lab: Option<Lab>,
    serial: u32,
}

impl<'a> Bench<'a> {
    pub fn new(dir: PathBuf, zlm: &'a Path) -> Self {
        Self { dir, zlm, lab: None, serial: 0 }
    }

    /// A lab that is not worn out, and the number of the case in it.
    pub fn lab(&mut self) -> Result<(&Lab, u32)> {
        if self.serial >= ROUNDS {
            self.down()?;
        }
        let lab = match self.lab.take() {
            Some(lab) => lab,
            None => self.boot()?,
        };
        self.serial += 1;
        Ok((self.lab.insert(lab), self.serial))
    }

    fn boot(&mut self) -> Result<Lab> {
        self.serial = 0;
        std::fs::create_dir_all(self.dir.parent().context("the directory of labs")?)?;
        let lab = Lab::boot(&self.dir)?;
        lab.rest()?;
        Ok(lab)
    }

    /// Tells how a case ended that began at `started`: what became of it, and what is wrong with that. Whether it went well.
    pub fn told<T: Display>(
        &mut self,
        what: &dyn Display,
        started: Instant,
        ended: Result<(T, Vec<String>)>,
    ) -> Result<bool> {
        let seconds = started.elapsed().as_secs_f64();
        let lines = match ended {
            Ok((became, wrong)) if wrong.is_empty() => {
                eprintln!("ok   {seconds:5.1} s {became:<11} {what}");
                return Ok(true);
            }
            Ok((_, wrong)) => wrong,
            Err(error) => vec![format!("{error:#}")],
        };
        let lines: String = lines.iter().map(|line| format!("\n     {line}")).collect();
        eprintln!("BAD  {seconds:5.1} s {what}{lines}");
        // What is left would be counted against the next ones.
        self.down()?;
        Ok(false)
    }

    pub fn down(&mut self) -> Result<()> {
        match self.lab.take() {
            Some(lab) => lab.down(),
            None => Ok(()),
        }
    }
}

/// Tries cases in labs below `dir`, `jobs` at a time, and begins no more after `seconds`. Gives how many were tried, and
/// how many of them did not go well.
pub fn each<T: Send>(
    (dir, zlm): (&Path, &Path),
    jobs: usize,
    seconds: Option<u64>,
    cases: Vec<T>,
    try_out: impl Fn(&mut Bench<'_>, &T) -> Result<bool> + Sync,
) -> Result<(usize, usize)> {
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (queue, sums) = (Mutex::new(cases.into_iter()), Mutex::new((0, 0)));
    let broken = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (1..=jobs.max(1))
            .map(|job| {
                let (queue, sums, broken, try_out) = (&queue, &sums, &broken, &try_out);
                scope.spawn(move || -> Result<()> {
                    let mut bench = Bench::new(dir.join(job.to_string()), zlm);
                    while !broken.load(Ordering::SeqCst) && until.is_none_or(|until| Instant::now() < until) {
                        let Some(case) = lock(queue).next() else { break };
                        let clean = try_out(&mut bench, &case).inspect_err(|_| broken.store(true, Ordering::SeqCst))?;
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
    let sums = *lock(&sums);
    Ok(sums)
}

/// All of them in an order that comes by each once before any twice, far from its neighbours, from where `seed` says.
pub fn spread<T>(all: Vec<T>, seed: u64) -> Vec<T> {
    let length = all.len();
    // Steps that share no factor with the number of cases come by each of them.
    let step = (length * 5 / 13..).find(|step| gcd(*step, length) == 1).unwrap_or(1);
    let start = usize::try_from(seed % length.max(1) as u64).unwrap_or(0);
    let mut all: Vec<Option<T>> = all.into_iter().map(Some).collect();
    (0..length).filter_map(|n| all[(start + n * step) % length].take()).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_comes_by_each_once_and_begins_where_the_seed_says() {
        for length in [0, 1, 2, 13, 150] {
            for seed in [0, 1, 77, 366] {
                let mut spread = spread((0..length).collect(), seed);
                assert_eq!(spread.first().copied(), (length > 0).then(|| seed % length.max(1)));
                spread.sort_unstable();
                assert_eq!(spread, (0..length).collect::<Vec<_>>());
            }
        }
    }
}
