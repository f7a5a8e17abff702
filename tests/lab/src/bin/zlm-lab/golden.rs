//! Moves mailboxes that Zimbra's own classes wrote: there, back, there again, and home while mail comes in. Each time all
//! of them must still be what was written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use zlm_lab::lab_mail::golden::{Archive, Golden as Written, Picture};
use zlm_lab::lab_mail::oracle::Report;
use zlm_lab::{DEST, Ended, Lab, Operator, SOURCE, Seat, account_dn};

use crate::demo::delivered;

/// Messages a second.
const RATE: f64 = 20.0;

#[derive(Args)]
pub struct Golden {
    /// The program to try.
    #[arg(long)]
    zlm: PathBuf,
    /// Print the sums as one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Sums {
    mailboxes: usize,
    moves: usize,
    differences: usize,
}

impl Golden {
    /// Moves both in the lab at `dir`, which it makes anew and takes down.
    pub fn act(&self, dir: &Path) -> Result<ExitCode> {
        if dir.join("hosts").exists() {
            Lab::open(dir).and_then(|lab| lab.down()).with_context(|| dir.display().to_string())?;
        }
        let lab = Lab::boot(dir)?;
        lab.install_settings()?;
        lab.rest()?;
        let program = self.zlm.canonicalize().with_context(|| self.zlm.display().to_string())?;
        let mut sums = Sums::default();
        // Both are there from the start, under their own numbers: a move gives out the next ones.
        let courses = Archive::ALL.map(|archive| Course::new(&lab, Operator::new(&lab, &program), archive));
        for course in courses {
            let mut course = course?;
            course.run()?;
            sums.mailboxes += 1;
            sums.moves += course.moves;
            sums.differences += course.differences;
        }
        lab.down()?;
        match self.json {
            true => println!("{}", serde_json::to_string(&sums)?),
            false => println!("{} moves of {} mailboxes, {} differences", sums.moves, sums.mailboxes, sums.differences),
        }
        Ok(if sums.differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// All moves of one mailbox, and what they changed in it.
struct Course<'a> {
    lab: &'a Lab,
    zlm: Operator<'a>,
    written: Written,
    picture: Picture,
    local: String,
    moves: usize,
    differences: usize,
}

impl<'a> Course<'a> {
    fn new(lab: &'a Lab, zlm: Operator<'a>, archive: Archive) -> Result<Self> {
        let local = archive.to_string();
        let (written, loaded) = lab.seed_golden(archive, &local, SOURCE.host, None)?;
        eprintln!("{local}: {} rows, {} files on {}", loaded.rows, loaded.files, SOURCE.host);
        let picture = Picture::of_archive(&written)?;
        Ok(Self { lab, zlm, written, picture, local, moves: 0, differences: 0 })
    }

    fn run(&mut self) -> Result<()> {
        let run = self.go(SOURCE, DEST)?;
        self.back(&run)?;
        self.forget(DEST)?;
        self.go(SOURCE, DEST)?;
        self.forget(SOURCE)?;
        self.home_with_mail()
    }

    fn id(&self) -> &str {
        &self.written.manifest.account_id
    }

    /// A move without mail; gives its run.
    fn go(&mut self, from: Seat, to: Seat) -> Result<String> {
        let before = self.lab.before(self.id(), from.host, to.host, &[])?;
        let run = run_of(&self.zlm.run_move(from, &self.local, to.host, &["--json"])?)?;
        let report = self.lab.check_moved(&before, from.host, to.host, None, false)?;
        self.judge(&format!("{} to {}", from.host, to.host), to, &report, None)?;
        Ok(run)
    }

    /// The move of `run` taken back. Clients synchronise with the small one: then the old store counts on only from what it
    /// reads again.
    fn back(&mut self, run: &str) -> Result<()> {
        self.lab.restart_mailboxd(SOURCE.host)?;
        let at_source = self.lab.before(self.id(), DEST.host, SOURCE.host, &[])?;
        run_of(&self.zlm.run(SOURCE, &["reverse", run, "--json"])?)?;
        let report = self.lab.check_moved(&at_source, DEST.host, SOURCE.host, None, false)?;
        self.judge(&format!("{run} reversed"), SOURCE, &report, None)
    }

    /// A move from store2 to store1 while mail is delivered, to both of them in the end.
    fn home_with_mail(&mut self) -> Result<()> {
        let before = self.lab.before(self.id(), DEST.host, SOURCE.host, &[])?;
        let mail = self.lab.start_deliveries(&[&self.local], RATE)?;
        delivered(self.lab, mail.journal(), DEST.host)?;
        run_of(&self.zlm.run_move(DEST, &self.local, SOURCE.host, &["--json"])?)?;
        delivered(self.lab, mail.journal(), SOURCE.host)?;
        let journal = mail.end()?;
        let report = self.lab.check_moved(&before, DEST.host, SOURCE.host, Some(&journal), false)?;
        let last = self.written.manifest.last_item_id;
        self.judge(&format!("{} to {} with mail", DEST.host, SOURCE.host), SOURCE, &report, Some(last))
    }

    /// Removes the copy that is kept on a store, so that the account can move there again.
    fn forget(&self, at: Seat) -> Result<()> {
        self.lab.remove_copy(at.host, self.id())?;
        self.lab.restart_mailboxd(at.host)
    }

    /// Counts what the oracle found, and what differs from what was written; mail explains items above `last`.
    fn judge(&mut self, what: &str, at: Seat, report: &Report, last: Option<u32>) -> Result<()> {
        let now = self.lab.picture(at.host, self.id())?;
        let mut lines = match last {
            None => self.picture.differences(&now),
            Some(last) => self.picture.differences_but_for_mail(&now, last),
        };
        lines.extend(self.attributes(at)?);
        self.moves += 1;
        self.differences += report.differences + lines.len();
        eprintln!("{}: {what}: {}{} differences from what was written", self.local, report, lines.len());
        lines.iter().for_each(|line| eprintln!("  {line}"));
        Ok(())
    }

    /// What differs in the directory from the account as it was written, at its store.
    fn attributes(&self, at: Seat) -> Result<Vec<String>> {
        let store = &self.lab.host(at.host)?.fqdn;
        let mut written: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, value) in self.written.account(&self.local, store)? {
            written.entry(name).or_default().insert(value);
        }
        let found = self.lab.ldap_get(&account_dn(&self.local))?;
        let entry = found.first().with_context(|| format!("{}: no such account", self.local))?;
        // The lab's own password came with the account.
        let names = written.keys().chain(entry.attributes.keys()).filter(|name| *name != "userPassword");
        let differs = |name: &&String| {
            let now: BTreeSet<String> = entry.values(name).iter().cloned().collect();
            written.get(*name).is_none_or(|values| *values != now)
        };
        let differing: BTreeSet<&String> = names.filter(differs).collect();
        Ok(differing.into_iter().map(|name| format!("{name}: {:?}", entry.values(name))).collect())
    }
}

/// The run that ended well.
fn run_of(ended: &Ended) -> Result<String> {
    ensure!(ended.code == Some(0), "{}", ended.told());
    let line: serde_json::Value =
        serde_json::from_str(ended.stdout.trim()).with_context(|| format!("no outcome: {}", ended.told()))?;
    line["run"].as_str().map(str::to_owned).with_context(|| format!("no run: {line}"))
}
