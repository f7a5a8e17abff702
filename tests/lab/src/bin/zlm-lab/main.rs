//! The command of the lab.

mod bench;
mod busy;
mod contests;
mod crowd;
mod demo;
mod endings;
mod faults;
mod golden;
mod mail;
mod situations;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use zlm_lab::{Lab, Service};

/// A lab of real servers for zlm's tests.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The lab's directory.
    #[arg(long, global = true, env = "ZLM_LAB", default_value = "/var/tmp/zlm-lab")]
    dir: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Bring the lab up; one that runs is left as it is.
    Up {
        /// Run nothing in place of mailboxd.
        #[arg(long)]
        without_mailboxd: bool,
    },
    /// Kill every host and remove all they had.
    Down,
    /// Say what runs; fails when something does not.
    Status,
    /// Run a command inside a host.
    Exec {
        /// The host's short name.
        host: String,
        /// root or zimbra.
        #[arg(long, default_value = "zimbra", value_parser = ["root", "zimbra"])]
        user: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Kill every process of a host at once.
    PowerCut {
        /// The host's short name.
        host: String,
    },
    /// Bring a host back.
    Boot {
        /// The host's short name.
        host: String,
    },
    /// Stop a service of a host.
    Stop {
        /// The host's short name.
        host: String,
        /// mariadb, sshd, memcached, slapd or mailboxd.
        service: Service,
        /// Kill it instead of asking it to end.
        #[arg(long)]
        kill: bool,
    },
    /// Start a service of a host.
    Start {
        /// The host's short name.
        host: String,
        /// mariadb, sshd, memcached, slapd or mailboxd.
        service: Service,
    },
    /// Add the account LOCAL@lab.test and print its zimbraId.
    AddAccount {
        /// What comes before the @.
        local: String,
        /// store1 or store2.
        store: String,
        /// Attributes as NAME=VALUE.
        attributes: Vec<String>,
    },
    /// Add the account LOCAL@lab.test with a mailbox of much mail, and print what was made.
    Seed(mail::Seed),
    /// Deliver numbered messages by LMTP from proxy1, as postfix would, until told to stop; print the sums.
    Write(mail::Write),
    /// Move a mailbox in a new lab while mail comes in, and print the proof; the lab stays up.
    Demo(demo::Demo),
    /// Kill, fail and stop moves before and after each of their operations, and judge what becomes of them.
    Faults(faults::Faults),
    /// Move mailboxes that Zimbra's own classes wrote, back and there again, and hold them against what was written.
    Golden(golden::Golden),
    /// Move mailboxes and sites that are ordinary in the world, with peers that fail behind the switch, and judge.
    Situations(situations::Situations),
    /// Run scripts that end in every way after each operation of a move, and judge what becomes of the account.
    Endings(endings::Endings),
    /// Let two want one account: operators at once, a run that wakes too late, one whose journal is lost.
    Contests(contests::Contests),
    /// Move many at once, in both directions, with little room and somebody in their way.
    Crowd(crowd::Crowd),
    /// Look at mailboxes and move them while their users never rest: nothing may be refused.
    Busy(busy::Busy),
    /// Keep what an account and all around it is, or judge what it has become.
    #[command(subcommand)]
    Oracle(mail::Oracle),
}

fn main() -> ExitCode {
    match act(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("zlm-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: &Arguments) -> Result<ExitCode> {
    let dir = &arguments.dir;
    match &arguments.action {
        Action::Up { without_mailboxd: true } => drop(Lab::boot_without_mailboxd(dir)?),
        Action::Up { without_mailboxd: false } => drop(Lab::boot(dir)?),
        // A lab that never was is down.
        Action::Down if !dir.join("hosts").exists() => {}
        Action::Down => Lab::open(dir)?.down()?,
        Action::Status => return status(&Lab::open(dir)?),
        Action::Exec { host, user, command } => return exec(&Lab::open(dir)?, host, user, command),
        Action::PowerCut { host } => Lab::open(dir)?.power_cut(host)?,
        Action::Boot { host } => Lab::open(dir)?.boot_host(host)?,
        Action::Stop { host, service, kill: true } => Lab::open(dir)?.kill(host, *service)?,
        Action::Stop { host, service, kill: false } => Lab::open(dir)?.stop(host, *service)?,
        Action::Start { host, service } => Lab::open(dir)?.start(host, *service)?,
        Action::AddAccount { local, store, attributes } => {
            let pairs = attributes.iter().map(|pair| pair.split_once('=').with_context(|| format!("{pair}: no =")));
            println!("{}", Lab::open(dir)?.add_account(local, store, &pairs.collect::<Result<Vec<_>>>()?)?);
        }
        Action::Seed(seed) => seed.act(&Lab::open(dir)?)?,
        Action::Write(write) => write.act(&Lab::open(dir)?)?,
        Action::Demo(demo) => return demo.act(dir),
        Action::Faults(faults) => return faults.act(dir),
        Action::Golden(golden) => return golden.act(dir),
        Action::Situations(situations) => return situations.act(dir),
        Action::Endings(endings) => return endings.act(dir),
        Action::Contests(contests) => return contests.act(dir),
        Action::Crowd(crowd) => return crowd.act(dir),
        Action::Busy(busy) => return busy.act(dir),
        Action::Oracle(oracle) => return oracle.act(&Lab::open(dir)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// A new lab at `dir` with settings for zlm, whose servers do nothing by themselves.
fn fresh(dir: &Path) -> Result<Lab> {
    if dir.join("hosts").exists() {
        Lab::open(dir)?.down()?;
    }
    let lab = Lab::boot(dir)?;
    lab.install_settings()?;
    lab.rest()?;
    Ok(lab)
}

fn status(lab: &Lab) -> Result<ExitCode> {
    let mut well = true;
    for host in lab.hosts() {
        let mut line = format!("{:8} {:12} {}", host.name, host.ip, if host.is_up() { "up" } else { "down" });
        well &= host.is_up();
        for service in Service::of_host(host.name) {
            let answers = lab.answers(host.name, *service)?;
            well &= answers;
            line.push_str(&format!("  {service}{}", if answers { "" } else { ": no answer" }));
        }
        println!("{line}");
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn exec(lab: &Lab, host: &str, user: &str, command: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let error = lab.host(host)?.command(user, &words).exec();
    Err(error).context("nsenter: cannot be started")
}
