//! A place for a mailbox: an id of the destination's own counting, and a row that nobody can open yet.

use serde::{Deserialize, Serialize};

use super::group;
use super::mailbox::MailboxRow;
use crate::clients::db::{Session, Value, literal, name};
use crate::error::{Error, Kind, Result};
use crate::rows::{Layout, with_mailbox_id};

/// How a mailbox is staged.
#[derive(Clone, Debug)]
pub struct Stage<'a> {
    /// The run, as a word; part of the placeholder.
    pub run: &'a str,
    /// The destination's number of mailbox groups (`zimbra_mailbox_groups`).
    pub groups: u32,
    /// Where the id comes from.
    pub id: IdFrom,
    /// The text of the destination's `create_database.sql`, for a group that is not there yet.
    pub create_database: Option<&'a str>,
}

/// Where a new mailbox's id comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdFrom {
    /// The store's counter, as for any new mailbox.
    Counter,
    /// The source's id plus this; the counter is raised above it, or the store could create no mailbox when it
    /// gets there.
    Offset(u32),
}

/// A staged mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Its id at the destination.
    pub id: u32,
    /// Its group.
    pub group_id: u32,
    /// The group's database.
    pub database: String,
    /// What stands in `account_id` until it is published.
    pub placeholder: String,
    /// Whether this run created the group's database.
    pub created_group: bool,
    /// The destination's number of groups.
    pub groups: u32,
}

/// Longest `account_id`.
const LONGEST: usize = 127;

/// What stands in `account_id` of a mailbox that a run has staged for an account: no account has such an id,
/// so mailboxd can neither open it nor map it when it starts.
pub fn placeholder(account: &str, run: &str) -> String {
    format!("zlm:{account}:{run}")
}

/// Stages `source` at the destination: allocates the id, inserts the row under a placeholder, both in one
/// transaction, and creates the group's database where needed. Columns go by name; `index_volume_id` is the
/// destination's current one, and there is no backup of it.
///
/// # Errors
/// `Refused` when the account has a mailbox here, rows lie under the new id, or a column would be lost.
pub fn stage(session: &mut Session, source: &MailboxRow, stage: &Stage<'_>) -> Result<Staged> {
    let placeholder = placeholder(&source.account_id, stage.run);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if placeholder.len() > LONGEST || stage.run.is_empty() || !placeholder.chars().all(plain) {
        return Err(Error::new(Kind::Usage, format!("placeholder {placeholder:?}: too long, or not plain letters")));
    }
    let staged = session.transaction(|session| {
        let taken = literal(&Value::Text(source.account_id.clone()));
        // Compared as the unique key compares: without regard to case.
        let sql = format!("SELECT id FROM zimbra.mailbox WHERE account_id = CONVERT({taken} USING utf8mb3)");
        if let Some((id,)) = session.first::<(u32,)>(&sql, ())? {
            let message = format!("account {} on {}: has mailbox {id} already", source.account_id, session.store());
            return Err(Error::new(Kind::Refused, message));
        }
        let id = allocate(session, source.id, stage.id)?;
        let group_id = group::group_id(id, stage.groups);
        let staged = Staged {
            id,
            group_id,
            database: group::group_name(group_id),
            placeholder: placeholder.clone(),
            created_group: false,
            groups: stage.groups,
        };
        refuse_leftovers(session, &staged)?;
        insert(session, source, &staged)?;
        Ok(staged)
    })?;
    match group::create(session, &staged.database, stage.create_database) {
        Ok(created_group) => Ok(Staged { created_group, ..staged }),
        Err(error) => {
            // Nothing but the row was made; the id is spent, as it is when mailboxd fails at this point.
            let sql = "DELETE FROM zimbra.mailbox WHERE id = ? AND account_id = ?";
            session.transaction(|session| session.exec(sql, (staged.id, &staged.placeholder)))?;
            Err(error)
        }
    }
}

/// What [`stage`] would give now, if nobody took an id in between. Changes nothing.
pub fn would_stage(session: &mut Session, source: &MailboxRow, stage: &Stage<'_>) -> Result<Staged> {
    let (next,): (u32,) = session.one("SELECT next_mailbox_id FROM zimbra.current_volumes", ())?;
    let id = match stage.id {
        IdFrom::Counter => next,
        IdFrom::Offset(offset) => source.id.saturating_add(offset),
    };
    let group_id = group::group_id(id, stage.groups);
    let database = group::group_name(group_id);
    let created_group = !group::exists(session, &database)?;
    let placeholder = placeholder(&source.account_id, stage.run);
    Ok(Staged { id, group_id, database, placeholder, created_group, groups: stage.groups })
}

/// Takes the next id, as mailboxd does. Its row lock makes two allocations wait for each other.
fn allocate(session: &mut Session, source: u32, from: IdFrom) -> Result<u32> {
    let place = format!("mailbox {source} to {}", session.store());
    if let IdFrom::Offset(offset) = from {
        let id = source.checked_add(offset).filter(|id| *id < u32::MAX);
        let Some(id) = id else {
            return Err(Error::new(Kind::Usage, format!("{place}: id plus {offset} is too large")));
        };
        session.exec("UPDATE zimbra.current_volumes SET next_mailbox_id = GREATEST(next_mailbox_id, ?)", (id + 1,))?;
        if taken(session, id)? {
            return Err(Error::new(Kind::Refused, format!("{place}: id {id} is taken")));
        }
        return Ok(id);
    }
    // Ids that were once inserted above the counter are passed over.
    const MOST: u32 = 1000;
    for _ in 0..MOST {
        let done =
            session.run("UPDATE zimbra.current_volumes SET next_mailbox_id = LAST_INSERT_ID(next_mailbox_id + 1)")?;
        if done.affected != 1 {
            let message = format!("{place}: zimbra.current_volumes has {} rows, not one", done.affected);
            return Err(Error::new(Kind::Refused, message));
        }
        let (next,): (u64,) = session.one("SELECT LAST_INSERT_ID()", ())?;
        let id = u32::try_from(next.saturating_sub(1)).unwrap_or(0);
        if id == 0 {
            return Err(Error::new(Kind::Refused, format!("{place}: next_mailbox_id {next} is no id")));
        }
        if !taken(session, id)? {
            return Ok(id);
        }
    }
    Err(Error::new(Kind::Refused, format!("{place}: {MOST} ids above next_mailbox_id are taken")))
}

fn taken(session: &mut Session, id: u32) -> Result<bool> {
    Ok(session.first::<(u8,)>("SELECT 1 FROM zimbra.mailbox WHERE id = ?", (id,))?.is_some())
}

/// Rows of an earlier mailbox of this id would become part of this one.
fn refuse_leftovers(session: &mut Session, staged: &Staged) -> Result<()> {
    let mut tables = with_mailbox_id(session, "zimbra")?;
    tables.retain(|t| t.table != "deleted_account");
    if group::exists(session, &staged.database)? {
        tables.extend(with_mailbox_id(session, &staged.database)?);
    }
    let mut found = Vec::new();
    for t in tables {
        let sql = format!(
            "SELECT 1 FROM {}.{} WHERE mailbox_id = {} LIMIT 1",
            name(&t.database)?,
            name(&t.table)?,
            staged.id
        );
        if !session.raw(&sql)?.is_empty() {
            found.push(format!("{}.{}", t.database, t.table));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let message =
        format!("mailbox {} on {}: rows of an earlier one lie in {}", staged.id, session.store(), found.join(", "));
    Err(Error::new(Kind::Refused, message).hint("they belong to no mailbox; remove them, or use an offset"))
}

fn insert(session: &mut Session, source: &MailboxRow, staged: &Staged) -> Result<()> {
    let (index,): (u32,) = session.one("SELECT index_volume_id FROM zimbra.current_volumes", ())?;
    let Some(layout) = Layout::read(session, "zimbra", "mailbox")? else {
        return Err(Error::new(Kind::NotFound, format!("{}: table zimbra.mailbox does not exist", session.store())));
    };
    let lost: Vec<&str> = source
        .columns
        .iter()
        .filter(|(column, value)| value.is_some() && layout.column(column).is_none())
        .map(|(column, _)| column.as_str())
        .collect();
    if !lost.is_empty() {
        let message =
            format!("mailbox {} to {}: zimbra.mailbox has no {}", source.id, session.store(), lost.join(", "));
        return Err(Error::new(Kind::Refused, message));
    }
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for column in &layout.columns {
        let value = match column.name.as_str() {
            "id" => Value::Int(staged.id.into()),
            "group_id" => Value::Int(staged.group_id.into()),
            "account_id" => Value::Text(staged.placeholder.clone()),
            "index_volume_id" => Value::Int(index.into()),
            "last_backup_at" => Value::Null,
            other => match source.columns.get(other) {
                Some(Some(text)) => Value::Text(text.clone()),
                Some(None) => Value::Null,
                None => continue,
            },
        };
        columns.push(name(&column.name)?);
        values.push(literal(&value));
    }
    let sql = format!("INSERT INTO zimbra.mailbox ({}) VALUES ({})", columns.join(","), values.join(","));
    session.run(&sql).map(drop)
}
