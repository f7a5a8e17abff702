//! `zlm config`.

use clap::Args;

use super::{Common, console};
use crate::error::Result;

#[derive(Args)]
pub(super) struct Config {
    /// Print a complete example with every setting explained
    #[arg(long)]
    example: bool,
}

impl Config {
    pub(super) fn run(&self, common: &Common) -> Result<u8> {
        if self.example {
            console::print_text(crate::config::EXAMPLE);
            return Ok(0);
        }
        let config = common.load_config()?;
        console::print_line(&format!("{config:#?}"));
        Ok(0)
    }
}
