//! `zlm scripts`.

use std::path::PathBuf;

use clap::Args;

use super::{Common, console};
use crate::error::Result;
use crate::host::{Host, Script};

#[derive(Args)]
pub(super) struct Scripts {
    /// Print this script's text, to start an own one from
    show: Option<String>,
}

impl Scripts {
    pub(super) fn run(&self, common: &Common) -> Result<u8> {
        if let Some(name) = &self.show {
            console::print_text(&Script::load(&PathBuf::from(name))?.text);
            return Ok(0);
        }
        let host = common.reader();
        for name in Host::shipped_scripts() {
            let checked = host.check(&Script::load(&PathBuf::from(format!("scripts/{name}.rhai")))?)?;
            let paragraph = checked.about.lines().next().unwrap_or_default();
            let sentence = paragraph.split_once(". ").map_or(paragraph, |(first, _)| first).trim_end_matches('.');
            console::print_line(&format!("{name:<10} {sentence}"));
        }
        Ok(0)
    }
}
