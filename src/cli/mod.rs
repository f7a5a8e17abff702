//! The command line: one file a command. Only here is anything printed.

mod check;
mod config;
mod console;
mod doc;
mod history;
mod logging;
mod reconcile;
mod reverse;
mod run;
mod scripts;
mod tunnel;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cancel::Cancel;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::host::Host;

/// Moves Zimbra mailboxes between mail stores while their users work, by scripts that operators read and edit.
#[derive(Parser)]
#[command(name = "zlm", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args, Clone)]
struct Common {
    /// Configuration file; without it $ZLM_CONFIG, ./zlm.toml, /etc/zlm/zlm.toml or /opt/zimbra/conf/zlm.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory whose modules win over the standard library's
    #[arg(long, global = true, value_name = "DIR")]
    stdlib: Option<PathBuf>,
    /// Say more on stderr; twice for every call, three times for every command on a store
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Run a script, or with --dry-run show every effect it would have
    Run(run::Run),
    /// List the runs that are at work or wait to be ended
    Ps(history::Ps),
    /// Show what a run did
    Show(history::Show),
    /// List the runs about an account
    History(history::History),
    /// Take a run up again that died or waits
    Resume(history::Resume),
    /// End a run whose mailbox has its new home and whose script cannot come to its own end
    Finish(history::Finish),
    /// Undo a run that died or waits, unless its mailbox has its new home
    Rollback(history::Rollback),
    /// Take a move back while nothing was written at the mailbox's new home: without copying, to the copy that was kept
    Reverse(reverse::Reverse),
    /// Say how an account stands whose move lost its journal, and make that move's record anew
    Reconcile(reconcile::Reconcile),
    /// Compile scripts and check every call in them, without running anything
    Check(check::Check),
    /// List the scripts that come with zlm
    Scripts(scripts::Scripts),
    /// Print the reference of everything that scripts can call
    Doc(doc::Doc),
    /// Hold a tunnel to a store's MariaDB open for other tools
    Tunnel(tunnel::Tunnel),
    /// Print an example of zlm.toml, or check the one in force
    Config(config::Config),
}

/// Runs the command line of this process; returns its exit status.
pub fn main() -> u8 {
    let cli = Cli::parse();
    let cancel = Cancel::default();
    let result = listen(&cancel).and_then(|()| match &cli.command {
        Command::Run(command) => command.run(&cli.common, cancel),
        Command::Ps(command) => command.run(&cli.common),
        Command::Show(command) => command.run(&cli.common),
        Command::History(command) => command.run(&cli.common),
        Command::Resume(command) => command.run(&cli.common, cancel),
        Command::Finish(command) => command.run(&cli.common, cancel),
        Command::Rollback(command) => command.run(&cli.common, cancel),
        Command::Reverse(command) => command.run(&cli.common, cancel),
        Command::Reconcile(command) => command.run(&cli.common, cancel),
        Command::Check(command) => command.run(&cli.common),
        Command::Scripts(command) => command.run(&cli.common),
        Command::Doc(command) => command.run(&cli.common),
        Command::Tunnel(command) => command.run(&cli.common, cancel),
        Command::Config(command) => command.run(&cli.common),
    });
    match result {
        Ok(status) => status,
        Err(error) => {
            console::print_error(&error);
            error.kind().exit_code()
        }
    }
}

impl Common {
    fn load_config(&self) -> Result<Config> {
        Config::load(self.config.as_deref())
    }

    /// A host that only reads scripts.
    fn reader(&self) -> Host {
        Host::new(Config::default()).stdlib(self.stdlib.clone())
    }
}

/// How long a process may take to stop at once.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// The exit status of what an operator must finish.
const UNFINISHED: u8 = 4;

/// Turns Ctrl-C, TERM and HUP into requests to stop.
fn listen(cancel: &Cancel) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|e| Error::new(Kind::Io, "signals: listening to them").because(e))?;
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            match cancel.request() {
                1 => console::print_note("stopping at the next safe point; once more stops at once, undoing nothing"),
                2 => {
                    console::print_note("stopping at once; `zlm ps` shows what is left to do");
                    std::thread::spawn(leave);
                }
                _ => {}
            }
        }
    });
    Ok(())
}

/// Ends the process though something in it waits for a peer: the journal is on disk, as if it had been killed.
fn leave() {
    std::thread::sleep(PATIENCE);
    std::process::exit(UNFINISHED.into());
}
