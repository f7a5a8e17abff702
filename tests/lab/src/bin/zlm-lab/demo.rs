//! One move in a lab of its own, while mail comes in and the user works, judged by the oracle.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use zlm_lab::lab_mail::journal::{Event, Journal, Line, Summary};
use zlm_lab::lab_mail::oracle::Report;
use zlm_lab::lab_mail::seed::{Seeded, Spec};
use zlm_lab::{Lab, Mail, account_dn, poll};

const LOCAL: &str = "alice";
const EMAIL: &str = "alice@lab.test";
const SOURCE: &str = "store1";
const DEST: &str = "store2";
const MAILBOX: u32 = 8;
const NEIGHBOURS: u32 = 3;
/// Messages a second.
const RATE: f64 = 10.0;

#[derive(Args)]
pub struct Demo {
    /// The program to try.
    #[arg(long)]
    zlm: PathBuf,
    /// Items of the mailbox.
    #[arg(long, default_value_t = 2000)]
    items: u32,
    /// Print the proof as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// What the demo proves.
#[derive(Serialize)]
struct Proof {
    moved: bool,
    frozen_s: f64,
    rows: u64,
    blobs: u64,
    accepted_mail: u64,
    lost_mail: u64,
    differences: usize,
}

/// The line that `zlm run --json` prints, as far as it is read.
#[derive(Deserialize)]
struct Outcome {
    ok: bool,
    seconds: f64,
    message: Option<String>,
    value: serde_json::Value,
}

impl Demo {
    /// Runs the demo in the lab at `dir`, which it makes anew and leaves up.
    pub fn act(&self, dir: &Path) -> Result<ExitCode> {
        say("lab: two stores, a directory, a proxy");
        if dir.join("hosts").exists() {
            // A demo that died may have left half of one.
            Lab::open(dir).and_then(|lab| lab.down()).with_context(|| dir.display().to_string())?;
        }
        let lab = Lab::boot(dir)?;
        let proof = self.prove(&lab)?;
        if self.json {
            println!("{}", serde_json::to_string(&proof)?);
        }
        let good = proof.moved && proof.lost_mail == 0 && proof.differences == 0;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn prove(&self, lab: &Lab) -> Result<Proof> {
        let id = lab.add_account(LOCAL, SOURCE, &[])?;
        let mut spec = Spec::new(MAILBOX, &id, EMAIL).hurting();
        spec.items = self.items;
        let Seeded { rows, blobs, bytes, .. } = lab.seed(SOURCE, &spec)?;
        lab.seed_neighbours(SOURCE, &spec, NEIGHBOURS)?;
        say(&format!("mailbox of {EMAIL} on {SOURCE}: {rows} rows, {blobs} blobs of {} MB", bytes >> 20));
        let before = lab.before(&id, SOURCE, DEST, &[])?;

        let journal = lab.dir().join("mail.journal");
        let writer = lab.start_writer(
            Mail {
                recipients: vec![EMAIL.to_owned()],
                rate: RATE,
                count: None,
                size: 4096,
                journal: journal.clone(),
                drain: Duration::from_secs(60),
            },
            Arc::default(),
        )?;
        say(&format!("mail: {RATE} messages a second to {EMAIL}"));
        delivered(lab, &journal, SOURCE)?;
        let watch = Watch::start(lab)?;
        let moving = self.run_zlm(lab);
        let frozen = watch.stop();
        let (outcome, changes) = moving?;
        if outcome.ok {
            delivered(lab, &journal, DEST)?;
        }
        writer.stop();
        let mail = writer.join()?;
        rest(lab)?;

        // Users changed items while the rows were copied, so that the source is not what it was before the move. What
        // the move must have copied is what the source has now: nothing could change it since the freeze.
        let report = lab.check_moved(&before, SOURCE, DEST, Some(&Journal::read(&journal)?), changes > 0)?;
        let home = lab.ldap_get(&account_dn(LOCAL))?;
        let home = home.first().and_then(|entry| entry.value("zimbraMailHost")).unwrap_or_default();
        let proof = Proof {
            moved: outcome.ok && home == lab.host(DEST)?.fqdn,
            frozen_s: (frozen?.as_secs_f64() * 100.0).round() / 100.0,
            rows: report.rows,
            blobs: report.blobs,
            accepted_mail: report.messages,
            lost_mail: report.lost,
            differences: report.differences,
        };
        tell(&proof, &report, &outcome, &mail, changes, home);
        Ok(proof)
    }

    /// Runs the move on the source store as its `zimbra`, as an operator would, and meanwhile changes items as the user.
    /// Gives the outcome and the number of changes.
    fn run_zlm(&self, lab: &Lab) -> Result<(Outcome, u64)> {
        let source = lab.host(SOURCE)?;
        let program = source.install(&self.zlm.canonicalize().with_context(|| self.zlm.display().to_string())?)?;
        let dest = &lab.host(DEST)?.fqdn;
        say(&format!("zlm run scripts/move.rhai --email {EMAIL} --dest {dest}"));
        let words = [&program, "run", "scripts/move.rhai", "--email", EMAIL, "--dest", dest, "--json"];
        let mut command: Command = source.command("zimbra", &words);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let events = BufReader::new(child.stderr.take().context("zlm: its standard error")?);
        let copying = AtomicBool::new(false);
        let over = AtomicBool::new(false);
        let changes = thread::scope(|scope| -> Result<u64> {
            let user = scope.spawn(|| work(lab, &copying, &over));
            let followed = events.lines().try_for_each(|line| {
                let line = line?;
                // The account stands before what is said of it.
                match line.rsplit(": ").next().unwrap_or_default() {
                    "pre-copy" => copying.store(true, Ordering::Relaxed),
                    "freeze" => copying.store(false, Ordering::Relaxed),
                    _ => {}
                }
                say(&format!("  {line}"));
                anyhow::Ok(())
            });
            over.store(true, Ordering::Relaxed);
            let changes = user.join().expect("the thread does not panic");
            followed.and(changes)
        })?;
        let out = child.wait_with_output()?;
        let line = String::from_utf8_lossy(&out.stdout);
        let outcome: Outcome =
            serde_json::from_str(line.trim()).with_context(|| format!("zlm: {}: no outcome: {line}", out.status))?;
        ensure!(out.status.success() == outcome.ok, "zlm: {} and {line}", out.status);
        Ok((outcome, changes))
    }
}

/// Changes items as the user's session does, for as long as the user may; gives how many.
fn work(lab: &Lab, copying: &AtomicBool, over: &AtomicBool) -> Result<u64> {
    let source = lab.host(SOURCE)?;
    let mut changes = 0;
    while !over.load(Ordering::Relaxed) {
        if copying.load(Ordering::Relaxed) {
            // The freeze may come between the question and the answer; then the session is refused, as it must be.
            let answer = source.mailboxd_control(&format!("act {EMAIL} 2 {changes}"))?;
            changes += if answer.starts_with("ok") { 2 } else { 0 };
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(changes)
}

/// Stops what servers do by themselves to mailboxes that nobody uses, since the oracle reads two stores one after the other.
///
/// Until here it went on: at the source while it was copied, at the new home since the switch.
fn rest(lab: &Lab) -> Result<()> {
    for store in [SOURCE, DEST] {
        let answer = lab.host(store)?.mailboxd_control("background off")?;
        ensure!(answer == "ok", "{store}: background off: {answer}");
    }
    Ok(())
}

/// Waits until a store has accepted a few messages of the journal.
pub(crate) fn delivered(lab: &Lab, journal: &Path, store: &str) -> Result<()> {
    let ip = lab.host(store)?.ip;
    let by_store = |line: &&Line| line.event == Event::Accepted && line.target.starts_with(ip);
    let enough = poll(Duration::from_secs(60), || {
        // The last line may be half written.
        let text = std::fs::read_to_string(journal)?;
        let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok((lines.iter().filter(by_store).count() >= 5).then_some(()))
    })?;
    enough.with_context(|| format!("{store}: accepts no mail"))
}

/// Sees in the directory for how long the account is in maintenance: the demo's own clock, not zlm's.
struct Watch {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<Duration>>,
}

impl Watch {
    fn start(lab: &Lab) -> Result<Watch> {
        let lab = Lab::open(lab.dir())?;
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let (mut since, mut frozen) = (None, Duration::ZERO);
            while !seen.load(Ordering::Relaxed) {
                let entry = lab.ldap_get(&account_dn(LOCAL))?;
                match (entry.first().and_then(|entry| entry.value("zimbraAccountStatus")), since) {
                    (Some("maintenance"), None) => since = Some(Instant::now()),
                    (Some("maintenance"), Some(_)) | (_, None) => {}
                    (_, Some(start)) => {
                        frozen += start.elapsed();
                        since = None;
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
            // An account that was never opened again is not one that was frozen for a moment.
            if since.is_some() { bail!("{EMAIL}: still in maintenance") } else { Ok(frozen) }
        });
        Ok(Watch { over, thread })
    }

    fn stop(self) -> Result<Duration> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread does not panic")
    }
}

fn tell(proof: &Proof, report: &Report, outcome: &Outcome, mail: &Summary, changes: u64, home: &str) {
    let row = |name: &str, value: String| say(&format!("{name:<12} {value}"));
    say("");
    if let Some(message) = &outcome.message {
        row("failed", message.clone());
    }
    let mailbox = &outcome.value["mailbox"];
    row("moved", if proof.moved { format!("{EMAIL} is mailbox {mailbox} of {home}") } else { "no".to_owned() });
    row(
        "frozen",
        format!("{} s of {:.1} s, by the account's status in the directory", proof.frozen_s, outcome.seconds),
    );
    row("rows", format!("{} compared", proof.rows));
    row("blobs", format!("{} read and compared", proof.blobs));
    row("meanwhile", format!("{changes} changes by the user during the pre-copy"));
    let wait = mail.longest_wait as f64 / 1000.0;
    row(
        "mail",
        format!("{} accepted, {} lost; none waited longer than {wait:.1} s", proof.accepted_mail, proof.lost_mail),
    );
    row("differences", proof.differences.to_string());
    for line in &report.lines {
        say(&format!("  {line}"));
    }
    for note in &report.notes {
        say(&format!("  note: {note}"));
    }
}

/// All but the proof's line is for a person.
fn say(line: &str) {
    eprintln!("{line}");
}
