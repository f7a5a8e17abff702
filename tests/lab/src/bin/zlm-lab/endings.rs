//! Scripts of a move that end, throw, catch and go on, repeat or leave something out after each of its operations, and others
//! that a seed makes, with peers that fail. However one ends, its user must have a mailbox: at once where it says that it is
//! done or undone, and after the command that it names where it says that something is left.

mod play;
mod script;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::bench::{self, Bench};
use super::faults::round::Round;
use play::Play;
use script::Script;

/// Items of a mailbox: what is looked at is how it ends.
const ITEMS: u32 = 10;

#[derive(Args)]
pub struct Endings {
    /// The program to try, built with the feature `failpoints`.
    #[arg(long)]
    zlm: PathBuf,
    /// How many scripts a seed makes, beside those after each operation.
    #[arg(long, default_value_t = 300)]
    random: u64,
    /// Begin no more after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Where a part begins, and what random ones are made from.
    #[arg(long, default_value_t = 0)]
    seed: u64,
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
    scripts: usize,
    violations: usize,
}

impl Endings {
    /// Plays the scripts in labs below `dir`, made anew every now and then.
    pub fn act(&self, dir: &Path) -> Result<ExitCode> {
        let zlm = self.zlm.canonicalize().with_context(|| self.zlm.display().to_string())?;
        let mut bench = Bench::new(dir.join("0"), &zlm);
        complete(&mut bench)?;
        bench.down()?;
        let scripts = self.choose();
        eprintln!("seed {}: {} scripts", self.seed, scripts.len());
        let (scripts, violations) = bench::each((dir, &zlm), self.jobs, self.seconds, scripts, |bench, script| {
            let started = Instant::now();
            let ended = round(bench).and_then(|round| Play::new(&round, script)?.to_its_end());
            bench.told(script, started, ended)
        })?;
        let sums = Sums { scripts, violations };
        match self.json {
            true => println!("{}", serde_json::to_string(&sums)?),
            false => println!("{} scripts, {} violations", sums.scripts, sums.violations),
        }
        Ok(if violations == 0 && scripts > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn choose(&self) -> Vec<Script> {
        let mut all = script::all();
        all.extend((0..self.random).map(|n| script::random(self.seed * 1_000_000 + n)));
        if let Some(text) = &self.only {
            all.retain(|script| script.to_string().contains(text));
        }
        if self.seconds.is_some() { bench::spread(all, self.seed) } else { all }
    }
}

/// Every operation of a shipped move must be one of the steps that scripts are made of.
fn complete(bench: &mut Bench<'_>) -> Result<()> {
    let names = |operations: Vec<(String, String)>| -> Vec<String> {
        let mut names: Vec<String> = operations.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        names.retain(|name| name != "frozen_within");
        names
    };
    let shipped = names(round(bench)?.points()?.operations);
    let round = round(bench)?;
    let whole = Script::whole();
    let play = Play::new(&round, &whole)?;
    let ended = play.run()?;
    ensure!(ended.code == Some(0), "{whole}: {}", ended.said);
    let own = names(round.done(&ended.outcome.context("it says nothing")?.run)?);
    ensure!(own == shipped, "a shipped move does {shipped:?}, and the scripts here are made of {own:?}");
    Ok(())
}

fn round<'a>(bench: &'a mut Bench<'_>) -> Result<Round<'a>> {
    let zlm = bench.zlm;
    let (lab, serial) = bench.lab()?;
    Round::shaped(lab, zlm, serial, &[], |spec| spec.items = ITEMS)
}
