//! Many moves at once, in both directions between two stores, with little room and with somebody in their way. All of
//! them must end, and each account must be whole at one home.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use zlm_lab::lab_mail::oracle::Before;
use zlm_lab::{Ended, Lab, Operator, STORES, Service, THIRD, poll};

use crate::fresh;

/// Accounts on each store.
const ACCOUNTS: usize = 5;
/// Rounds in one lab; more mailboxes make the look at neighbours slow.
const ROUNDS: usize = 3;
/// Of two processes that do not end in this time, each waits for something that never comes.
const STUCK: Duration = Duration::from_secs(240);

#[derive(Args)]
pub struct Crowd {
    /// The program to try.
    #[arg(long)]
    zlm: PathBuf,
    /// How many rounds of ten moves; all kinds come in twelve.
    #[arg(long, default_value_t = 12)]
    rounds: usize,
    /// Begin no round that would last beyond so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Which round comes first.
    #[arg(long, default_value_t = 0)]
    seed: usize,
    /// Print the sums as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Sums {
    moves: usize,
    stuck: usize,
    violations: usize,
}

/// Who is in the way.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Nobody,
    /// A store's MariaDB stands still for a while.
    Server(&'static str),
    /// One batch is asked to stop.
    Stop,
    /// One batch stands still for a while with all that it holds.
    Batch,
}

/// What meets in a round.
#[derive(Clone, Copy, Debug)]
struct Round {
    number: usize,
    jobs: usize,
    /// Rows a second.
    throttle: u32,
    connections: u32,
    /// Whether one batch goes both ways, or one each way.
    together: bool,
    trouble: Trouble,
}

impl Round {
    fn new(number: usize) -> Self {
        let trouble =
            [Trouble::Nobody, Trouble::Server("store1"), Trouble::Stop, Trouble::Batch, Trouble::Server("store2")];
        Self {
            number,
            jobs: [8, 2, 12, 4, 6][number % 5],
            throttle: [400, 5000, 1200][number % 3],
            connections: [1, 4, 2][number / 2 % 3],
            together: number.is_multiple_of(2),
            trouble: trouble[number % trouble.len()],
        }
    }
}

/// An account and the way that it shall go.
struct Mover {
    local: String,
    from: &'static str,
    to: &'static str,
    before: Option<Before>,
}

impl Crowd {
    /// Carries the rounds out in labs at `dir`, made anew every now and then.
    pub fn act(&self, dir: &Path) -> Result<ExitCode> {
        let program = self.zlm.canonicalize().with_context(|| self.zlm.display().to_string())?;
        let (began, mut longest) = (Instant::now(), Duration::ZERO);
        let (mut sums, mut lab) = (Sums::default(), fresh(dir)?);
        for count in 0..self.rounds {
            let is_over = |seconds| began.elapsed() + longest > Duration::from_secs(seconds);
            if count > 0 && self.seconds.is_some_and(is_over) {
                break;
            }
            let begun = Instant::now();
            if count > 0 && count % ROUNDS == 0 {
                lab = fresh(dir)?;
            }
            let round = Round::new(self.seed + count);
            match round.act(&lab, &program, count, &mut sums) {
                Ok(()) => eprintln!("ok   {round:?}"),
                Err(error) => {
                    sums.violations += 1;
                    eprintln!("BAD  {round:?}\n     {error:#}");
                    // What is left would be counted against the next ones.
                    lab = fresh(dir)?;
                }
            }
            longest = longest.max(begun.elapsed());
        }
        lab.down()?;
        match self.json {
            true => println!("{}", serde_json::to_string(&sums)?),
            false => println!("{} moves, {} stuck, {} violations", sums.moves, sums.stuck, sums.violations),
        }
        Ok(if sums.stuck == 0 && sums.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Round {
    fn act(&self, lab: &Lab, program: &Path, place: usize, sums: &mut Sums) -> Result<()> {
        let mut movers = self.movers(lab, place)?;
        let ids = movers.iter().map(|mover| lab.account_id(&mover.local)).collect::<Result<Vec<_>>>()?;
        for (mover, id) in movers.iter_mut().zip(&ids) {
            let others: Vec<String> = ids.iter().filter(|other| *other != id).cloned().collect();
            mover.before = Some(lab.before(id, mover.from, mover.to, &others)?);
        }
        lab.install_settings()?;
        self.settle(lab)?;
        let zlm = Operator::new(lab, program);
        let lists = self.lists(&movers);
        let mut batches = Vec::new();
        for (at, list) in lists.iter().enumerate() {
            let path = format!("/opt/zimbra/log/crowd{}-{at}.csv", self.number);
            std::fs::write(lab.host("ops1")?.zimbra_path(path.trim_start_matches("/opt/zimbra/")), list)?;
            batches.push(Batch::start(&zlm, lab, path, self.jobs)?);
        }
        sums.moves += movers.len();
        let meddled = self.meddle(lab, &batches[0].list);
        let (mut stopped, mut ended) = (matches!(self.trouble, Trouble::Stop), Vec::new());
        for batch in batches {
            ended.push(batch.end(sums)?);
        }
        meddled?;
        for ended in &ended {
            let may_stop = std::mem::take(&mut stopped);
            let is_fine = if may_stop { matches!(ended.code, Some(0 | 6 | 130)) } else { ended.code == Some(0) };
            ensure!(is_fine, "{}", ended.told());
        }
        movers.iter().try_for_each(|mover| mover.judge(lab))
    }

    /// Writes how fast copies are, and how many connections they have.
    fn settle(&self, lab: &Lab) -> Result<()> {
        let Self { throttle, connections, .. } = self;
        lab.add_settings("ops1", &format!("[throttle]\nrows_per_second = {throttle}\n"))?;
        let path = lab.host("ops1")?.zimbra_path("conf/zlm.toml");
        let (text, limits) = (std::fs::read_to_string(&path)?, "[limits]\n");
        ensure!(text.contains(limits), "{}: has no limits", path.display());
        Ok(std::fs::write(&path, text.replacen(limits, &format!("{limits}connections = {connections}\n"), 1))?)
    }

    fn movers(&self, lab: &Lab, place: usize) -> Result<Vec<Mover>> {
        let [one, other] = STORES;
        let mut movers = Vec::new();
        for (side, (from, to)) in [(one, other), (other, one)].into_iter().enumerate() {
            for at in 0..ACCOUNTS {
                let local = format!("crowd{}{}{at}", self.number, ["a", "b"][side]);
                let number = 700 + u32::try_from(place % ROUNDS * 20 + side * 10 + at)?;
                // Among them are small ones that shall not wait for the copies of the large ones.
                let items = [40, 900, 250][at % 3];
                lab.add_mailbox(&local, from, number, &[], |spec| {
                    (spec.items, spec.blob_bytes) = (items, Some(1 << 10))
                })?;
                movers.push(Mover { local, from, to, before: None });
            }
        }
        Ok(movers)
    }

    /// The lists of the batches; in one that goes both ways neighbours go opposite ways.
    fn lists(&self, movers: &[Mover]) -> Vec<String> {
        let line = |mover: &Mover| format!("{}@lab.test,{}.lab.test\n", mover.local, mover.to);
        let (there, back) = movers.split_at(ACCOUNTS);
        match self.together {
            true => vec![
                "email,dest\n".to_owned()
                    + &there.iter().zip(back).map(|(a, b)| line(a) + &line(b)).collect::<String>(),
            ],
            false => [there, back]
                .map(|side| "email,dest\n".to_owned() + &side.iter().map(line).collect::<String>())
                .to_vec(),
        }
    }

    /// Gets in the way for a while, once the moves are under way.
    fn meddle(&self, lab: &Lab, list: &str) -> Result<()> {
        sleep(Duration::from_secs(4));
        let still = Duration::from_secs(8);
        match self.trouble {
            Trouble::Nobody => Ok(()),
            Trouble::Server(store) => {
                lab.stand_still(store, Service::Mariadb, true)?;
                sleep(still);
                lab.stand_still(store, Service::Mariadb, false)
            }
            Trouble::Stop => signal(list, Signal::INT),
            Trouble::Batch => {
                signal(list, Signal::STOP)?;
                sleep(still);
                signal(list, Signal::CONT)
            }
        }
    }
}

impl Mover {
    /// Where the directory has the account it must be whole, and gone from the other store but for the old copy.
    fn judge(&self, lab: &Lab) -> Result<()> {
        let before = self.before.as_ref().context("it was looked at")?;
        let home = lab.account_value(&self.local, "zimbraMailHost")?.unwrap_or_default();
        let report = match home.strip_suffix(".lab.test") {
            Some(home) if home == self.to => lab.check_moved(before, self.from, self.to, None, false)?,
            Some(home) if home == self.from => lab.check_rolled_back(before, self.from, self.to, None, false)?,
            _ => bail!("{}: lives on {home:?}", self.local),
        };
        ensure!(report.is_clean(), "{}: {report}", self.local);
        Ok(())
    }
}

/// A batch at work. What it says goes to files, since nobody reads while it works.
struct Batch {
    child: Child,
    list: String,
    said: [PathBuf; 2],
}

impl Batch {
    fn start(zlm: &Operator<'_>, lab: &Lab, list: String, jobs: usize) -> Result<Self> {
        let said = ["out", "err"].map(|name| lab.dir().join(format!("{}.{name}", list.replace('/', "_"))));
        let words = ["run", "batch", "--list", &list, "--jobs", &jobs.to_string()];
        let [out, err] = &said;
        let child = zlm.command(THIRD, &words)?.stdout(File::create(out)?).stderr(File::create(err)?).spawn()?;
        Ok(Self { child, list, said })
    }

    /// Waits for its end; one that does not end is stuck, and killed.
    fn end(mut self, sums: &mut Sums) -> Result<Ended> {
        if poll(STUCK, || Ok(self.child.try_wait()?))?.is_none() {
            sums.stuck += 1;
            signal(&self.list, Signal::KILL)?;
        }
        let code = self.child.wait()?.code();
        let [stdout, stderr] = self.said.map(std::fs::read_to_string);
        Ok(Ended { code, stdout: stdout?, stderr: stderr? })
    }
}

/// Sends a signal to the zlm that works on a list, and to what waits for it unless that is to hear of it only by its end:
/// nsenter stops when its child does, and does not go on by itself.
fn signal(list: &str, signal: Signal) -> Result<()> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        let is_zlm = words.next().is_some_and(|program| program.starts_with(b"/opt/lab/bin/"));
        if words.any(|word| word == list.as_bytes()) && (is_zlm || signal == Signal::CONT) {
            kill_process(Pid::from_raw(pid).context("a pid")?, signal)?;
        }
    }
    Ok(())
}
