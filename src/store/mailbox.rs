//! The row of a mailbox in `zimbra.mailbox`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stage::Staged;
use crate::clients::db::{Raw, Session, Value, literal};
use crate::error::{Context, Error, Kind, Result};
use crate::rows::Layout;

/// A mailbox's row, with every column that its store has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRow {
    /// `id`.
    pub id: u32,
    /// `group_id`; what its queries use, whatever the number of groups is now.
    pub group_id: u32,
    /// `account_id`: the account's `zimbraId`.
    pub account_id: String,
    /// `index_volume_id`.
    pub index_volume_id: u32,
    /// `item_id_checkpoint`.
    pub item_id_checkpoint: u64,
    /// `change_checkpoint`.
    pub change_checkpoint: u64,
    /// All columns by name, as the server writes them; `None` is NULL.
    pub columns: BTreeMap<String, Option<String>>,
}

impl MailboxRow {
    /// The database of its group.
    pub fn group(&self) -> String {
        super::group_name(self.group_id)
    }

    /// The volume that its index is on. Fails with [`Kind::Data`] for a number that no volume can have.
    pub fn index_volume(&self) -> Result<u8> {
        let odd = || format!("mailbox {}: index_volume_id {}", self.id, self.index_volume_id);
        u8::try_from(self.index_volume_id).context(Kind::Data, odd)
    }

    /// What its content weighs in bytes, as mailboxd counts it.
    pub fn size(&self) -> u64 {
        self.get("size_checkpoint").and_then(|size| size.parse().ok()).unwrap_or_default()
    }

    /// A column's value; `None` when NULL or not there.
    pub fn get(&self, column: &str) -> Option<&str> {
        self.columns.get(column)?.as_deref()
    }
}

/// The mailbox of an account on this store, by the account's exact `zimbraId`; never by name or address.
pub fn mailbox_by_account(session: &mut Session, account: &str) -> Result<Option<MailboxRow>> {
    find(session, &format!("account_id = {}", literal(&Value::Text(account.into()))))
}

/// The mailbox with this id on this store.
pub fn mailbox_by_id(session: &mut Session, id: u32) -> Result<Option<MailboxRow>> {
    find(session, &format!("id = {id}"))
}

/// Every mailbox of this store, by id.
pub fn mailboxes(session: &mut Session) -> Result<Vec<MailboxRow>> {
    select(session, "TRUE ORDER BY id")
}

/// What runs have staged for an account on this store and not published: id and placeholder.
pub fn staged_for(session: &mut Session, account: &str) -> Result<Vec<(u32, String)>> {
    let prefix = super::placeholder(account, "");
    session.all("SELECT id, account_id FROM zimbra.mailbox WHERE LEFT(account_id, ?) = ?", (prefix.len(), &prefix))
}

fn find(session: &mut Session, condition: &str) -> Result<Option<MailboxRow>> {
    Ok(select(session, condition)?.into_iter().next())
}

fn select(session: &mut Session, condition: &str) -> Result<Vec<MailboxRow>> {
    let Some(layout) = Layout::read(session, "zimbra", "mailbox")? else {
        return Err(Error::new(Kind::NotFound, format!("{}: table zimbra.mailbox does not exist", session.store())));
    };
    let names: Vec<String> = layout.columns.iter().map(|c| format!("`{}`", c.name)).collect();
    let rows = session.raw(&format!("SELECT {} FROM zimbra.mailbox WHERE {condition}", names.join(",")))?;
    rows.into_iter().map(|row| read(session.store(), &layout, row)).collect()
}

fn read(store: &str, layout: &Layout, row: Raw) -> Result<MailboxRow> {
    let told = || format!("{store}: zimbra.mailbox");
    let mut columns = BTreeMap::new();
    for (column, value) in layout.columns.iter().zip(row) {
        let text = value.map(String::from_utf8).transpose().context(Kind::Data, told)?;
        columns.insert(column.name.clone(), text);
    }
    let number = |name: &str| -> Result<u64> {
        let value = columns.get(name).and_then(Option::as_deref).and_then(|text| text.parse().ok());
        value.ok_or_else(|| Error::new(Kind::Data, format!("{}: {name} is not a number", told())))
    };
    let small = |name: &str| u32::try_from(number(name)?).context(Kind::Data, told);
    Ok(MailboxRow {
        id: small("id")?,
        group_id: small("group_id")?,
        account_id: columns.get("account_id").cloned().flatten().unwrap_or_default(),
        index_volume_id: small("index_volume_id")?,
        item_id_checkpoint: number("item_id_checkpoint")?,
        change_checkpoint: number("change_checkpoint")?,
        columns,
    })
}

/// Gives the staged mailbox to its account: from now on mailboxd opens it. Doing it again changes nothing.
pub fn publish(session: &mut Session, staged: &Staged, account: &str) -> Result<()> {
    rename(session, staged.id, &staged.placeholder, account)
}

/// Takes the mailbox back under its placeholder. Only before the switch. One that was taken away since is well.
pub fn unpublish(session: &mut Session, staged: &Staged, account: &str) -> Result<()> {
    match rename(session, staged.id, account, &staged.placeholder) {
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        renamed => renamed,
    }
}

fn rename(session: &mut Session, id: u32, from: &str, to: &str) -> Result<()> {
    session.transaction(|session| {
        let found: Option<(String,)> =
            session.first("SELECT account_id FROM zimbra.mailbox WHERE id = ? FOR UPDATE", (id,))?;
        let place = format!("mailbox {id} on {}", session.store());
        match found {
            Some((now,)) if now == to => Ok(()),
            Some((now,)) if now == from => {
                let done = session
                    .exec("UPDATE zimbra.mailbox SET account_id = ? WHERE id = ? AND account_id = ?", (to, id, from))?;
                match done.affected {
                    1 => Ok(()),
                    n => Err(Error::new(Kind::Data, format!("{place}: account_id: {n} rows changed"))),
                }
            }
            Some(_) => Err(Error::new(Kind::Held, format!("{place}: belongs to neither {from} nor {to}"))),
            None => Err(Error::new(Kind::NotFound, format!("{place}: no such mailbox"))),
        }
    })
}
