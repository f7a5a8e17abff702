//! `zlm check`.

use std::path::PathBuf;

use clap::Args;

use super::{Common, console};
use crate::error::Result;
use crate::host::Script;

#[derive(Args)]
pub(super) struct Check {
    /// The scripts
    #[arg(required = true)]
    scripts: Vec<PathBuf>,
}

impl Check {
    pub(super) fn run(&self, common: &Common) -> Result<u8> {
        let host = common.reader();
        let mut status = 0;
        for path in &self.scripts {
            match Script::load(path).and_then(|script| host.check(&script)) {
                Ok(checked) => console::print_line(&format!("{}: good", checked.script.name)),
                Err(error) => {
                    console::print_error(&error);
                    status = 2;
                }
            }
        }
        Ok(status)
    }
}
