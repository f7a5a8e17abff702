//! `zlm reconcile`: how an account stands, and the command that ends a move whose journal is lost.

use clap::Args;

use super::{Common, console, logging};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::host::{Host, Reconciled};

#[derive(Args)]
pub(super) struct Reconcile {
    /// The account's address
    email: String,
    /// Print what was found as one line of JSON
    #[arg(long)]
    json: bool,
}

impl Reconcile {
    pub(super) fn run(&self, common: &Common, cancel: Cancel) -> Result<u8> {
        let config = common.load_config()?;
        logging::start(&config, common.verbose, false)?;
        let journal = config.journal_dir();
        let reconciled = Host::new(config).journal(journal).cancel(cancel).reconcile(&self.email)?;
        match self.json {
            true => console::print_line(&serde_json::to_string(&reconciled).unwrap_or_default()),
            false => print(&reconciled),
        }
        Ok(if reconciled.unknown.is_some() { 4 } else { 0 })
    }
}

fn print(reconciled: &Reconciled) {
    let line = |name: &str, text: &str| console::print_line(&format!("{name:<8} {text}"));
    line("now", &reconciled.state);
    for claim in &reconciled.claims {
        line("claim", &format!("{claim}; it died"));
    }
    for copy in &reconciled.copies {
        let text = format!("mailbox {} on {}, {} rows, as {}", copy.number, copy.store, copy.rows, copy.account_id);
        line("copy", &text);
    }
    for note in &reconciled.notes {
        line("note", note);
    }
    if let Some(unknown) = &reconciled.unknown {
        line("unknown", unknown);
    }
    match reconciled.next.as_slice() {
        [] if reconciled.unknown.is_none() => line("next", "nothing: no move of it is under way"),
        next => line("next", &next.join(", or ")),
    }
}
