//! Stores and what mailboxes they hold.

use std::sync::Arc;

use super::look::Found;
use crate::error::Result;
use crate::gate::{Effect, Kept, Operation, Watch};
use crate::site::{Site, Store};
use crate::store;

/// Connects to a store.
pub struct Connect {
    /// The site.
    pub site: Arc<Site>,
    /// The store's name.
    pub name: String,
}

impl Operation for Connect {
    type Output = ();

    fn name(&self) -> &'static str {
        "store"
    }

    fn describe(&self) -> String {
        format!("connect to {}", self.name)
    }

    fn effect(&self) -> Effect {
        Effect::Look
    }

    fn kept(&self) -> Kept {
        Kept::Never
    }

    fn pretend(&self) -> Result<()> {
        self.site.store(&self.name).map(drop)
    }

    fn apply(&self, _: &Watch<'_>) -> Result<()> {
        self.pretend()
    }
}

/// Finds the mailbox of an account on a store.
pub struct MailboxOf {
    /// The store.
    pub store: Arc<Store>,
    /// zimbraId.
    pub account_id: String,
}

impl Operation for MailboxOf {
    type Output = Option<Found>;

    fn name(&self) -> &'static str {
        "mailbox_of"
    }

    fn describe(&self) -> String {
        format!("mailbox of {} on {}", self.account_id, self.store.name())
    }

    fn outcome(&self, found: &Option<Found>) -> String {
        found.as_ref().map_or_else(|| "none".to_owned(), |f| format!("mailbox {}", f.row.id))
    }

    fn effect(&self) -> Effect {
        Effect::Look
    }

    fn pretend(&self) -> Result<Option<Found>> {
        let mut session = self.store.session()?;
        let row = store::mailbox_by_account(&mut session, &self.account_id)?;
        Ok(row.map(|row| Found { store: self.store.name().to_owned(), row }))
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Option<Found>> {
        self.pretend()
    }
}

/// Lists the mailboxes of a store.
pub struct Mailboxes {
    /// The store.
    pub store: Arc<Store>,
}

impl Operation for Mailboxes {
    type Output = Vec<Found>;

    fn name(&self) -> &'static str {
        "mailboxes"
    }

    fn describe(&self) -> String {
        format!("mailboxes on {}", self.store.name())
    }

    fn outcome(&self, found: &Vec<Found>) -> String {
        format!("{} mailboxes", found.len())
    }

    fn effect(&self) -> Effect {
        Effect::Look
    }

    fn pretend(&self) -> Result<Vec<Found>> {
        let mut session = self.store.session()?;
        let rows = store::mailboxes(&mut session)?;
        Ok(rows.into_iter().map(|row| Found { store: self.store.name().to_owned(), row }).collect())
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Vec<Found>> {
        self.pretend()
    }
}
