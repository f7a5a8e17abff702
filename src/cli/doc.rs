//! `zlm doc`.

use clap::Args;

use super::{Common, console};
use crate::error::{Error, Kind, Result};

#[derive(Args)]
pub(super) struct Doc {
    /// Only what is said of this function or property
    function: Option<String>,
}

impl Doc {
    pub(super) fn run(&self, common: &Common) -> Result<u8> {
        let reference = common.reader().reference();
        let Some(name) = &self.function else {
            console::print_text(&reference);
            return Ok(0);
        };
        let sections: Vec<&str> = reference.split("\n## ").skip(1).filter(|s| is_of(s, name)).collect();
        if sections.is_empty() {
            return Err(Error::new(Kind::Usage, format!("{name}: no such function")).hint("zlm doc lists them all"));
        }
        for section in sections {
            console::print_text(&format!("## {section}\n"));
        }
        Ok(0)
    }
}

/// Whether a section of the reference is of the function `name`, of a property of that name, or of `Type.name`.
fn is_of(section: &str, name: &str) -> bool {
    let end = section.find(['(', ' ', '[']).unwrap_or(section.len());
    let heading = section[..end].trim_start_matches('`');
    heading == name || heading.split_once('.').is_some_and(|(_, property)| property == name)
}
