//! Rows of a mailbox that servers delete although it is locked: shares that are yet to be published, and scheduled tasks.
//!
//! Every server publishes shares every now and then, fails for mailboxes that are locked or not its own, and then deletes
//! all rows that it saw. A task that ran is deleted by its class and name, in whatever mailboxes it is: names are numbers of
//! items. So these rows say nothing about whether a mailbox stands still, and the copy must not lose what they lose. They
//! are read right after the lock, kept, and put down at the destination with the switch.

use serde::{Deserialize, Serialize};

use super::stage::Staged;
use crate::clients::db::{Done, Session};
use crate::error::{Error, Kind, Result};

/// Rows of one table that are kept at most.
const MOST: usize = 100_000;
/// Rows in a statement, and about how many bytes.
const ROWS: usize = 500;
const BYTES: usize = 1 << 20;

/// What was set aside when a mailbox was locked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Shares that are yet to be published.
    pub shares: Vec<Share>,
    /// Scheduled tasks.
    pub tasks: Vec<Task>,
}

/// A row of `pending_acl_push`: an item, and when it was shared, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share(pub u32, pub u64);

/// A row of `scheduled_task`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    class_name: String,
    name: String,
    exec_time: Option<String>,
    interval_millis: Option<u64>,
    metadata: Option<String>,
}

impl Aside {
    /// Reads what a mailbox has.
    pub fn read(session: &mut Session, mailbox: u32) -> Result<Self> {
        let shares = shares(session, mailbox)?;
        let sql = format!(
            "SELECT class_name, name, CAST(exec_time AS CHAR), interval_millis, metadata FROM zimbra.scheduled_task \
             WHERE mailbox_id = ? LIMIT {}",
            MOST + 1
        );
        let rows = few(session.all(&sql, (mailbox,))?, "scheduled tasks", mailbox)?;
        let task = |(class_name, name, exec_time, interval_millis, metadata)| Task {
            class_name,
            name,
            exec_time,
            interval_millis,
            metadata,
        };
        Ok(Self { shares, tasks: rows.into_iter().map(task).collect() })
    }

    /// Puts it down at the destination: these tasks and no others, and these shares beside those that are there. Doing it
    /// again brings back what was deleted there meanwhile.
    pub fn put(&self, session: &mut Session, staged: &Staged) -> Result<()> {
        session.transaction(|session| {
            session.exec("DELETE FROM zimbra.scheduled_task WHERE mailbox_id = ?", (staged.id,))?;
            let row = |task: &Task| {
                let text = |text: &Option<String>| text.as_deref().into();
                vec![
                    task.class_name.as_str().into(),
                    task.name.as_str().into(),
                    staged.id.into(),
                    text(&task.exec_time),
                    task.interval_millis.into(),
                    text(&task.metadata),
                ]
            };
            let head =
                "INSERT INTO zimbra.scheduled_task (class_name, name, mailbox_id, exec_time, interval_millis, metadata)";
            insert(session, head, "", self.tasks.iter().map(row).collect())?;
            insert_shares(session, staged.id, &self.shares)
        })
    }
}

/// The shares of a mailbox that are yet to be published.
pub fn shares(session: &mut Session, mailbox: u32) -> Result<Vec<Share>> {
    let sql = format!("SELECT item_id, date FROM zimbra.pending_acl_push WHERE mailbox_id = ? LIMIT {}", MOST + 1);
    let rows = few(session.all(&sql, (mailbox,))?, "shares to publish", mailbox)?;
    Ok(rows.into_iter().map(|(item, date)| Share(item, date)).collect())
}

/// Puts shares down for a mailbox at its new home, which publishes them; what is there stays.
pub fn put_shares(session: &mut Session, mailbox: u32, shares: &[Share]) -> Result<()> {
    session.transaction(|session| insert_shares(session, mailbox, shares))
}

fn insert_shares(session: &mut Session, mailbox: u32, shares: &[Share]) -> Result<()> {
    let rows = shares.iter().map(|Share(item, date)| vec![mailbox.into(), (*item).into(), (*date).into()]).collect();
    let head = "INSERT INTO zimbra.pending_acl_push (mailbox_id, item_id, date)";
    insert(session, head, " ON DUPLICATE KEY UPDATE date = VALUES(date)", rows)
}

/// Inserts rows, many in a statement: the user waits.
fn insert(session: &mut Session, head: &str, tail: &str, rows: Vec<Vec<mysql::Value>>) -> Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let last = rows.len();
    for (row, at) in rows.into_iter().zip(1..) {
        bytes += row.iter().map(length).sum::<usize>();
        batch.push(row);
        if at == last || batch.len() == ROWS || bytes > BYTES.min(session.packet() / 2) {
            write(session, head, tail, std::mem::take(&mut batch))?;
            bytes = 0;
        }
    }
    Ok(())
}

fn write(session: &mut Session, head: &str, tail: &str, batch: Vec<Vec<mysql::Value>>) -> Result<Done> {
    let row = format!("({})", vec!["?"; batch.first().map_or(0, Vec::len)].join(", "));
    let sql = format!("{head} VALUES {}{tail}", vec![row; batch.len()].join(", "));
    session.exec(&sql, mysql::Params::Positional(batch.into_iter().flatten().collect()))
}

fn length(value: &mysql::Value) -> usize {
    match value {
        mysql::Value::Bytes(bytes) => bytes.len(),
        _ => 8,
    }
}

fn few<T>(rows: Vec<T>, what: &str, mailbox: u32) -> Result<Vec<T>> {
    if rows.len() > MOST {
        let message = format!("mailbox {mailbox}: has more than {MOST} {what}, which cannot all be kept");
        return Err(Error::new(Kind::Refused, message));
    }
    Ok(rows)
}
