//! A user who never rests: looks at the mailbox and moves of it, none of which may be refused.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use zlm_lab::{Lab, Operator, SOURCE};

use crate::fresh;

/// Moves in one lab; more mailboxes make the look at neighbours slow.
const MOVES: u32 = 15;
/// From one change of the user's to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// Looks at one mailbox; the user empties it.
const LOOKS: u32 = 50;

#[derive(Args)]
pub struct Busy {
    /// The program to try.
    #[arg(long)]
    zlm: PathBuf,
    /// How often preflight looks at a mailbox while its user works.
    #[arg(long, default_value_t = 200)]
    looks: u32,
    /// How many mailboxes are moved while their users work.
    #[arg(long, default_value_t = 30)]
    moves: u32,
    /// What the users do.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the sums as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Sums {
    looks: u32,
    moves: u32,
    refused: u32,
    differences: usize,
}

impl Busy {
    /// Looks and moves in labs at `dir`, made anew every now and then.
    pub fn act(&self, dir: &Path) -> Result<ExitCode> {
        let program = self.zlm.canonicalize().with_context(|| self.zlm.display().to_string())?;
        let mut sums = Sums::default();
        let mut lab = fresh(dir)?;
        for first in (0..self.looks).step_by(LOOKS as usize) {
            let serial = first / LOOKS;
            let user = User::new(
                &lab,
                &program,
                &format!("looked{serial}"),
                700 + serial,
                4000,
                self.seed + u64::from(serial),
            )?;
            user.looks(LOOKS.min(self.looks - first), &mut sums)?;
        }
        for serial in 0..self.moves {
            if serial % MOVES == 0 {
                lab = fresh(dir)?;
            }
            let seed = self.seed.wrapping_mul(1_000).wrapping_add(serial.into());
            User::new(&lab, &program, &format!("moved{serial}"), 800 + serial, 400, seed)?.moves(&mut sums)?;
        }
        lab.down()?;
        match self.json {
            true => println!("{}", serde_json::to_string(&sums)?),
            false => {
                let Sums { looks, moves, refused, differences } = sums;
                println!("{looks} looks, {moves} moves, {refused} refused, {differences} differences");
            }
        }
        Ok(if sums.refused == 0 && sums.differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// An account on store1 whose user works.
struct User<'a> {
    lab: &'a Lab,
    zlm: Operator<'a>,
    local: String,
    email: String,
    seed: u64,
}

impl<'a> User<'a> {
    fn new(lab: &'a Lab, program: &Path, local: &str, number: u32, items: u32, seed: u64) -> Result<Self> {
        let shape = |spec: &mut zlm_lab::lab_mail::seed::Spec| (spec.items, spec.blob_bytes) = (items, Some(2 << 10));
        lab.add_mailbox(local, "store1", number, &[], shape)?;
        let email = format!("{local}@lab.test");
        Ok(Self { lab, zlm: Operator::new(lab, program), local: local.to_owned(), email, seed })
    }

    /// Works until told to stop, or until the account is closed; gives how many changes that were.
    fn work(&self, stop: &AtomicBool) -> Result<u64> {
        let store = self.lab.host("store1")?;
        let mut next = Instant::now();
        for count in 0.. {
            if stop.load(Ordering::SeqCst) {
                return Ok(count);
            }
            let answer =
                store.mailboxd_control(&format!("act {} 1 {} busy", self.email, self.seed.wrapping_add(count)))?;
            if answer != "ok 1" {
                // Whatever else he is told is a fault of the lab.
                let closed = ["MAINTENANCE", "AUTH", "maintenance"].iter().any(|word| answer.contains(word));
                ensure!(closed, "{}: change {count}: {answer}", self.email);
                return Ok(count);
            }
            next += PAUSE;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(0)
    }

    /// Does something while the user works; fails when he did not.
    fn meanwhile<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let working = scope.spawn(|| self.work(&stop));
            let done = body();
            stop.store(true, Ordering::SeqCst);
            let changes = working.join().map_err(|_| anyhow::anyhow!("{}: the user's thread ended", self.email))??;
            ensure!(changes > 0, "{}: the user did nothing", self.email);
            eprintln!("     {changes} changes of {}", self.email);
            done
        })
    }

    fn looks(&self, count: u32, sums: &mut Sums) -> Result<()> {
        self.meanwhile(|| {
            for _ in 0..count {
                let words = ["run", "audit", "--email", &self.email, "--dest", "store2.lab.test"];
                let ended = self.zlm.run(SOURCE, &words)?;
                sums.looks += 1;
                if ended.code != Some(0) || !ended.stderr.contains(", 0 problems") {
                    sums.refused += 1;
                    eprintln!("BAD  look at {}: {}", self.email, ended.told());
                }
            }
            Ok(())
        })
    }

    fn moves(&self, sums: &mut Sums) -> Result<()> {
        let before = self.lab.before_move(&self.local)?;
        let ended = self.meanwhile(|| self.zlm.run_move(SOURCE, &self.local, "store2", &[]))?;
        sums.moves += 1;
        if ended.code != Some(0) {
            sums.refused += 1;
            eprintln!("BAD  move of {}: {}", self.email, ended.told());
            return Ok(());
        }
        let report = self.lab.check_moved(&before, "store1", "store2", None, true)?;
        sums.differences += report.differences;
        match report.is_clean() {
            true => eprintln!("ok   move of {}", self.email),
            false => eprintln!("BAD  move of {}: {report}", self.email),
        }
        Ok(())
    }
}
