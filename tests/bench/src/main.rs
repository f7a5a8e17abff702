//! How fast zlm is, measured in a lab of real servers beside other ways to do the same.
//!
//! Every number is a median over the rounds, with the least beside it in the table: other work on the machine only
//! ever adds to a time.

mod batch;
mod classical;
mod crowd;
mod files;
mod lab;
mod plot;
mod result;
mod rows;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use lab::Bench;
use result::Print;

/// Measures zlm in a lab of its own.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// One line of JSON a result instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// How often each is measured.
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
    /// Items of the mailboxes for `window` and `rows`.
    #[arg(long, global = true, value_delimiter = ',')]
    sizes: Vec<u32>,
    /// Leaves out what zlm is compared with.
    #[arg(long, global = true)]
    alone: bool,
    /// Where the plot of `window` goes.
    #[arg(long, global = true, default_value = "docs/window.svg")]
    plot: PathBuf,
    /// The zlm to measure; the one beside this program if not given.
    #[arg(long, global = true)]
    zlm: Option<PathBuf>,
}

#[derive(Subcommand, Clone, Copy, PartialEq)]
enum What {
    /// How long a mailbox is frozen, by its size; and by the classical method.
    Window,
    /// Rows from store to store, beside other tools.
    Rows,
    /// Blobs from store to store, beside rsync.
    Files,
    /// Many mailboxes, one and four at a time.
    Batch,
    /// How long users wait while other mailboxes are copied slowly.
    Crowd,
    /// All of these.
    All,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zlm-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let print = Print { json: arguments.json };
    let sizes = |usual: &[u32]| if arguments.sizes.is_empty() { usual.to_vec() } else { arguments.sizes.clone() };
    let is = |what| arguments.what == what || arguments.what == What::All;
    let bench = || Bench::boot(arguments.zlm.clone(), arguments.rounds, arguments.alone);
    // A lab for each: what one leaves behind is not in the other's way.
    if is(What::Window) {
        window::measure(&bench()?, &sizes(&[1_000, 20_000, 200_000]), &arguments.plot, &print)?;
    }
    if is(What::Rows) {
        rows::measure(&bench()?, &sizes(&[20_000, 200_000]), &print)?;
    }
    if is(What::Files) {
        files::measure(&bench()?, &print)?;
    }
    if is(What::Batch) {
        batch::measure(&bench()?, &print)?;
    }
    if is(What::Crowd) {
        crowd::measure(&bench()?, &print)?;
    }
    Ok(())
}
