//! The commands that make, write to and judge mailboxes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use zlm_lab::lab_mail::golden::Archive;
use zlm_lab::lab_mail::journal::Journal;
use zlm_lab::lab_mail::oracle::{Before, Report};
use zlm_lab::lab_mail::seed::Spec;
use zlm_lab::lab_mail::writer;
use zlm_lab::{Lab, Mail};

#[derive(Args)]
pub struct Seed {
    /// What comes before the @.
    local: String,
    /// store1 or store2.
    store: String,
    /// The mailbox id, which says its group too. A golden mailbox has one of its own.
    #[arg(long, required_unless_present = "golden")]
    mailbox: Option<u32>,
    /// Load a mailbox that Zimbra's own classes wrote, small or large, instead of making one.
    #[arg(long, conflicts_with_all = ["items", "seed", "hurts", "neighbours"])]
    golden: Option<Archive>,
    /// How many items.
    #[arg(long, default_value_t = 1000)]
    items: u32,
    /// The same seed makes the same mailbox; the mailbox id if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Add everything that has ever hurt a move.
    #[arg(long)]
    hurts: bool,
    /// Make as many other mailboxes in the same group, which share blobs with this one.
    #[arg(long, default_value_t = 0)]
    neighbours: u32,
}

impl Seed {
    pub fn act(&self, lab: &Lab) -> Result<()> {
        if let Some(archive) = self.golden {
            return print(&lab.seed_golden(archive, &self.local, &self.store, self.mailbox)?.1);
        }
        let mailbox = self.mailbox.context("--mailbox: which one")?;
        let id = lab.add_account(&self.local, &self.store, &[])?;
        let mut spec = Spec::new(mailbox, &id, &format!("{}@lab.test", self.local));
        spec.items = self.items;
        spec.seed = self.seed.unwrap_or(spec.seed);
        if self.hurts {
            spec = spec.hurting();
        }
        print(&lab.seed(&self.store, &spec)?)?;
        lab.seed_neighbours(&self.store, &spec, self.neighbours)?.iter().try_for_each(print)
    }
}

#[derive(Args)]
pub struct Write {
    /// Addresses to deliver to, in turn.
    #[arg(required = true)]
    recipients: Vec<String>,
    /// The journal; lines are appended.
    #[arg(long)]
    journal: PathBuf,
    /// Messages a second, over all recipients.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// End after this many messages.
    #[arg(long)]
    count: Option<u64>,
    /// Bytes of a message, about.
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Seconds to go on with what is queued, once told to stop.
    #[arg(long, default_value_t = 30)]
    drain: u64,
    /// Stop when this file exists, as well as on SIGTERM.
    #[arg(long)]
    control: Option<PathBuf>,
}

impl Write {
    pub fn act(&self, lab: &Lab) -> Result<()> {
        let options = lab.writer_options(Mail {
            recipients: self.recipients.clone(),
            rate: self.rate,
            count: self.count,
            size: self.size,
            journal: self.journal.clone(),
            drain: Duration::from_secs(self.drain),
        });
        lab.host("proxy1")?.enter_network()?;
        print(&writer::run(options, self.control.as_deref())?)
    }
}

#[derive(Subcommand)]
pub enum Oracle {
    /// Print what is before a move, for the other two.
    Before(Move),
    /// Judge a move that ended well.
    Moved(Judge),
    /// Judge a move that was undone.
    RolledBack(Judge),
}

#[derive(Args)]
pub struct Move {
    /// The account, LOCAL of LOCAL@lab.test.
    local: String,
    /// The store of its mailbox.
    source: String,
    /// The store it is to go to.
    dest: String,
}

#[derive(Args)]
pub struct Judge {
    /// What `before` printed.
    before: PathBuf,
    /// The store the mailbox was on.
    source: String,
    /// The store it was to go to.
    dest: String,
    /// The journal of the mail writer that ran since.
    #[arg(long)]
    journal: Option<PathBuf>,
    /// Something other than mail changed items since.
    #[arg(long)]
    items_changed: bool,
}

impl Oracle {
    pub fn act(&self, lab: &Lab) -> Result<ExitCode> {
        match self {
            Oracle::Before(of) => {
                let entry = lab.ldap_get(&zlm_lab::account_dn(&of.local))?;
                let id =
                    entry.first().and_then(|entry| entry.value("zimbraId")).context("an account has a zimbraId")?;
                print(&lab.before(id, &of.source, &of.dest, &[])?)?;
                Ok(ExitCode::SUCCESS)
            }
            Oracle::Moved(of) => {
                of.judge(|before, journal| lab.check_moved(before, &of.source, &of.dest, journal, of.items_changed))
            }
            Oracle::RolledBack(of) => of.judge(|before, journal| {
                lab.check_rolled_back(before, &of.source, &of.dest, journal, of.items_changed)
            }),
        }
    }
}

impl Judge {
    fn judge(&self, check: impl FnOnce(&Before, Option<&Journal>) -> Result<Report>) -> Result<ExitCode> {
        let before = serde_json::from_slice(&read(&self.before)?).with_context(|| self.before.display().to_string())?;
        let journal = self.journal.as_deref().map(Journal::read).transpose()?;
        let report = check(&before, journal.as_ref())?;
        print!("{report}");
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

fn print(value: &impl serde::Serialize) -> Result<()> {
    serde_json::to_writer(io::stdout().lock(), value)?;
    println!();
    Ok(())
}
