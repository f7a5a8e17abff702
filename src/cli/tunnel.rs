//! `zlm tunnel`: other tools get what zlm makes for itself.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{Common, console, logging};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::site::Site;

#[derive(Args)]
pub(super) struct Tunnel {
    /// The store
    #[arg(long)]
    store: String,
    /// Port of this host to listen on, on 127.0.0.1
    #[arg(long, default_value_t = 7307)]
    port: u16,
}

impl Tunnel {
    pub(super) fn run(&self, common: &Common, cancel: Cancel) -> Result<u8> {
        let config = common.load_config()?;
        logging::start(&config, common.verbose, false)?;
        let site = Arc::new(Site::new(Arc::new(config), cancel.clone())?);
        let tunnel = site.tunnel(&self.store, self.port)?;
        console::print_line(&format!("{}: MariaDB is at 127.0.0.1:{} until Ctrl-C", self.store, self.port));
        while !cancel.is_requested() {
            tunnel.check()?;
            std::thread::park_timeout(Duration::from_millis(500));
        }
        Ok(0)
    }
}
