//! Compares rows, and knows which differences incoming mail explains.

use std::collections::{BTreeMap, BTreeSet};

use mysql::prelude::Queryable;

use super::mailbox::{Columns, Home};
use super::report::Report;
use super::tables::{Row, Table};
use crate::Result;

/// Columns of the mailbox row that a move maps; each has a rule of its own.
const MAPPED: [&str; 7] = [
    "id",
    "group_id",
    "index_volume_id",
    "last_backup_at",
    "item_id_checkpoint",
    "change_checkpoint",
    "itemcache_checkpoint",
];

/// Columns of the mailbox row that incoming mail changes.
const BY_MAIL: [&str; 2] = ["size_checkpoint", "new_messages"];

/// Columns of the mailbox row that a running server only ever raises.
const RISING: [&str; 5] =
    ["item_id_checkpoint", "change_checkpoint", "itemcache_checkpoint", "last_soap_access", "last_purge_at"];

/// The items that mail brought since.
#[derive(Debug, Default)]
pub(super) struct Mail {
    items: BTreeSet<u32>,
}

impl Mail {
    /// Messages and conversations with ids above `highest`; none when no mail was sent.
    pub(super) fn since(conn: &mut mysql::Conn, home: &Home, highest: u64, mail_was_sent: bool) -> Result<Self> {
        if !mail_was_sent {
            return Ok(Self::default());
        }
        let ids: Vec<u32> = conn.exec(
            format!(
                "SELECT id FROM mboxgroup{}.mail_item WHERE mailbox_id = ? AND id > ? AND type IN (4, 5)",
                home.group
            ),
            (home.id, highest),
        )?;
        Ok(Self { items: ids.into_iter().collect() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn explains_new(&self, table: &str, key: &str) -> bool {
        let item = match table {
            "mail_item" => key,
            "tagged_item" => key.split(',').next_back().unwrap_or(key),
            "open_conversation" => return !self.is_empty(),
            // The first item that has a flag makes the tag that stands for it.
            "tag" => return !self.is_empty() && key.starts_with('-'),
            _ => return false,
        };
        item.parse().is_ok_and(|item| self.items.contains(&item))
    }

    fn explains_change(&self, table: &str, old: &Row, new: &Row) -> bool {
        !self.is_empty() && (table == "open_conversation" || old.same_but_for_mail(new))
    }
}

/// Compares the rows of a table, both in order. Gives the keys of rows that differ by no more than mail
/// explains.
pub(super) fn rows(
    report: &mut Report,
    what: &str,
    table: &Table,
    old: &[Row],
    new: &[Row],
    mail: &Mail,
) -> Vec<String> {
    let title = table.title();
    report.rows += old.len().max(new.len()) as u64;
    let (gone, come) = apart(old, new);
    let mut come_by_key: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in come {
        come_by_key.entry(&row.key).or_default().push(row);
    }
    let (mut explained, mut indexed) = (Vec::new(), 0);
    for row in gone {
        let key = &row.key;
        let partner = come_by_key.get_mut(key.as_str()).filter(|_| !key.is_empty());
        match partner.and_then(Vec::pop) {
            None => report.differ(format!("I3 {what}{title} ({key}): row is missing")),
            Some(new) if row.is_indexed_as(new) => indexed += 1,
            Some(new) if mail.explains_change(&table.name, row, new) => explained.push(key.clone()),
            Some(_) => report.differ(format!("I3 {what}{title} ({key}): row differs")),
        }
    }
    for row in come_by_key.into_values().flatten() {
        if !mail.explains_new(&table.name, &row.key) {
            report.differ(format!("I3 {what}{title} ({}): row is new", row.key));
        }
    }
    if indexed > 0 {
        report.note(format!("{what}{title}: {indexed} items were indexed since"));
    }
    explained
}

/// Checks that messages which changed by mail did so by joining a conversation that came since.
pub(super) fn adopted(
    report: &mut Report,
    what: &str,
    (conn, home): (&mut mysql::Conn, &Home),
    keys: &[String],
    mail: &Mail,
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let query = format!(
        "SELECT id, parent_id FROM mboxgroup{}.mail_item WHERE mailbox_id = {} AND type = 5 AND id IN ({})",
        home.group,
        home.id,
        keys.join(",")
    );
    for (id, parent) in conn.query::<(u32, Option<u32>), _>(query)? {
        if !parent.is_some_and(|parent| mail.items.contains(&parent)) {
            report.differ(format!("I3 {what}mail_item ({id}): row differs"));
        }
    }
    Ok(())
}

/// The rows that are in one of two sorted lists only.
fn apart<'r>(old: &'r [Row], new: &'r [Row]) -> (Vec<&'r Row>, Vec<&'r Row>) {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(a), Some(b)) if a == b => {
                old.next();
                new.next();
            }
            (Some(a), Some(b)) if a < b => gone.extend(old.next()),
            (Some(_), None) => gone.extend(old.next()),
            (_, Some(_)) => come.extend(new.next()),
            (None, None) => return (gone, come),
        }
    }
}

/// The mailbox row at the destination against the source's, with the rules of mapped columns. `used` is
/// the highest item id and change id in use at the source.
pub(super) fn moved_row(report: &mut Report, old: &Home, new: &Home, used: (u64, u64), mail: &Mail) {
    same_columns(report, "", &old.row, &new.row, mail, &MAPPED);
    if new.row.get("last_backup_at").is_some_and(Option::is_some) {
        report.differ("I3 zimbra.mailbox.last_backup_at: not NULL at the destination");
    }
    for (column, used) in [("item_id_checkpoint", used.0), ("change_checkpoint", used.1)] {
        let least = old.number(column).max(used);
        if new.number(column) < least {
            report.differ(format!(
                "I3 zimbra.mailbox.{column}: {} is below {least}, which is in use",
                new.number(column)
            ));
        }
    }
    if new.number("itemcache_checkpoint") < old.number("itemcache_checkpoint") {
        report.differ("I3 zimbra.mailbox.itemcache_checkpoint: went back");
    }
}

/// The mailbox row at the source against what it was.
pub(super) fn kept_row(report: &mut Report, what: &str, old: &Home, new: &Home, mail: &Mail) {
    same_columns(report, what, &old.row, &new.row, mail, &[]);
}

fn same_columns(report: &mut Report, what: &str, old: &Columns, new: &Columns, mail: &Mail, except: &[&str]) {
    report.rows += 1;
    for (column, value) in old {
        let name = column.as_str();
        let free = except.contains(&name) || (!mail.is_empty() && BY_MAIL.contains(&name));
        match new.get(name) {
            _ if free => {}
            Some(other) if other == value => {}
            Some(Some(other)) if RISING.contains(&name) && rises(value.as_deref(), other) => {}
            other => {
                report.differ(format!("I3 {what}zimbra.mailbox.{name}: {} became {}", shown(Some(value)), shown(other)))
            }
        }
    }
}

fn rises(old: Option<&str>, new: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    old.and_then(number) <= number(new)
}

fn shown(value: Option<&Option<String>>) -> &str {
    match value {
        None => "no column",
        Some(None) => "NULL",
        Some(Some(value)) => value,
    }
}

/// Checks that folders count what is in them as well as they did at the source.
pub(super) fn sums(
    report: &mut Report,
    (source, old): (&mut mysql::Conn, &Home),
    (dest, new): (&mut mysql::Conn, &Home),
) -> Result<()> {
    let (old, new) = (excess(source, old)?, excess(dest, new)?);
    for (folder, (count, unread)) in &new {
        let before = old.get(folder).copied().unwrap_or((0, 0));
        if before != (*count, *unread) {
            report.differ(format!(
                "I3 folder {folder}: counts {count} too many and {unread} too many unread, before {} and {}",
                before.0, before.1
            ));
        }
    }
    Ok(())
}

/// By folder: how many more items, and unread ones, its row counts than it has.
fn excess(conn: &mut mysql::Conn, home: &Home) -> Result<BTreeMap<u32, (i64, i64)>> {
    let query = format!(
        "SELECT f.id, CAST(f.size AS SIGNED) - IFNULL(i.n, 0), CAST(IFNULL(f.unread, 0) AS SIGNED) - IFNULL(i.u, 0) \
         FROM mboxgroup{group}.mail_item f LEFT JOIN (SELECT folder_id, COUNT(*) n, \
         CAST(SUM(IFNULL(unread, 0)) AS SIGNED) u FROM mboxgroup{group}.mail_item WHERE mailbox_id = {id} \
         AND type NOT IN (1, 2, 3, 4, 13) GROUP BY folder_id) i ON i.folder_id = f.id \
         WHERE f.mailbox_id = {id} AND f.type = 1",
        group = home.group,
        id = home.id,
    );
    let all = conn.query_map(query, |(folder, count, unread)| (folder, (count, unread)))?;
    Ok(all.into_iter().collect())
}
