//! `zlm reverse`: takes a move back, by the shipped script, with what the journal has of it.

use std::path::Path;

use clap::Args;

use super::run::{Flags, start};
use super::{Common, console};
use crate::cancel::Cancel;
use crate::error::{Kind, Result};
use crate::host::{Host, REVERSE, Script, WITHOUT};

#[derive(Args)]
pub(super) struct Reverse {
    /// The run of the move, as `zlm ps -a` and `zlm history` list it
    run: String,
    /// A server that does not answer, and is left out: it is told nothing; may be given several times
    #[arg(long, value_name = "HOST")]
    without: Vec<String>,
    /// Show every effect in order, and have none
    #[arg(long)]
    dry_run: bool,
    /// Print the outcome as one line of JSON
    #[arg(long)]
    json: bool,
}

impl Reverse {
    pub(super) fn run(&self, common: &Common, cancel: Cancel) -> Result<u8> {
        let config = common.load_config()?;
        let journal = config.journal_dir();
        let mut options = match Host::new(config).journal(journal).reversal(&self.run) {
            Ok(options) => options,
            Err(error) if error.kind() == Kind::Refused => {
                console::print_error(&error);
                return Ok(3);
            }
            Err(error) => return Err(error),
        };
        if !self.without.is_empty() {
            options.insert(WITHOUT.to_owned(), self.without.join(","));
        }
        let checked = common.reader().check(&Script::load(Path::new(REVERSE))?)?;
        start(common, cancel, &checked, Flags { dry_run: self.dry_run, json: self.json, yes: false, options })
    }
}
