//! The copy that a move leaves at its source, taken away as an operator would.

use std::fs;

use anyhow::{Context, Result};
use lab_mail::volume::Volumes;
use mysql::prelude::Queryable;

use crate::{Lab, Service};

impl Lab {
    /// Takes the copy away that a move left on `store`: rows and files. mailboxd remembers it until it is restarted.
    pub fn remove_copy(&self, store: &str, account_id: &str) -> Result<()> {
        let host = self.host(store)?;
        let mut connection = host.mysql()?;
        let found = connection
            .exec_first("SELECT id, group_id FROM zimbra.mailbox WHERE account_id = ?", (account_id,))?
            .with_context(|| format!("{store}: no mailbox of {account_id}"))?;
        let (id, group): (u32, u32) = found;
        let volumes = Volumes::read(&mut connection, &host.zimbra_path(""))?;
        connection.query_drop("SET foreign_key_checks = 0")?;
        let tables: Vec<(String, String)> = connection.exec(
            "SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = 'mailbox_id' \
             AND table_schema IN ('zimbra', ?)",
            (format!("mboxgroup{group}"),),
        )?;
        for (schema, table) in tables {
            connection.exec_drop(format!("DELETE FROM {schema}.{table} WHERE mailbox_id = ?"), (id,))?;
        }
        connection.exec_drop("DELETE FROM zimbra.mailbox WHERE id = ?", (id,))?;
        for dir in volumes.all.iter().map(|volume| volume.mailbox_dir(id)).filter(|dir| dir.exists()) {
            fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
        Ok(())
    }

    /// Restarts a store's mailboxd, which then does nothing by itself, as after [`Lab::rest`].
    pub fn restart_mailboxd(&self, store: &str) -> Result<()> {
        self.stop(store, Service::Mailboxd)?;
        self.start(store, Service::Mailboxd)?;
        self.rest()
    }
}
