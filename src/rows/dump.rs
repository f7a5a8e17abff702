//! The description of what is copied: which rows of which table, and which columns change on the way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clients::db::{Value, name};
use crate::error::{Error, Kind, Result};

/// The column by which rows belong to a mailbox.
pub const MAILBOX_ID: &str = "mailbox_id";

/// Rows of one table, and how they change on the way. It describes only; [`inject`](super::inject) reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Source database.
    pub database: String,
    /// Table, of the same name on both sides.
    pub table: String,
    /// Only the rows of this mailbox, by the source's id.
    pub mailbox: Option<u32>,
    /// Only rows that meet this as well.
    pub condition: Option<Condition>,
    /// Destination database; the source's name when `None`.
    pub into: Option<String>,
    /// Changed columns.
    pub rewrites: BTreeMap<String, Rewrite>,
}

/// A condition in SQL with `?` for each of its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// As it would stand behind WHERE.
    pub sql: String,
    /// A value for each `?`.
    pub values: Vec<Value>,
}

/// What becomes of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rewrite {
    /// Every row gets this number.
    Constant(i64),
    /// Each value becomes what the map says, byte by byte; NULL stays, and a value that the map does not know
    /// stops the copy: it would name something else at the destination, or nothing.
    Map(BTreeMap<String, String>),
}

/// Which columns change, for [`rewrite_ids`].
pub type Rewrites = BTreeMap<String, Rewrite>;

/// Describes all rows of a table; narrow it with [`Dump::mailbox`] or [`Dump::filter`].
pub fn dump_table(database: impl Into<String>, table: impl Into<String>) -> Dump {
    Dump {
        database: database.into(),
        table: table.into(),
        mailbox: None,
        condition: None,
        into: None,
        rewrites: BTreeMap::new(),
    }
}

/// Adds what changes on the way, and nothing else: ids are rewritten by column when rows are read, never in
/// text. A column named again replaces what was said of it.
pub fn rewrite_ids(mut dump: Dump, rewrites: Rewrites) -> Dump {
    dump.rewrites.extend(rewrites);
    dump
}

impl Dump {
    /// Only the rows of one mailbox.
    pub fn mailbox(mut self, id: u32) -> Self {
        self.mailbox = Some(id);
        self
    }

    /// Only rows that meet a condition. `mailbox_id = ?` is the same as [`Dump::mailbox`].
    pub fn filter(mut self, sql: impl Into<String>, values: Vec<Value>) -> Self {
        let sql = sql.into();
        let plain: String = sql.chars().filter(|c| !c.is_whitespace() && *c != '`').collect();
        match (plain.to_ascii_lowercase().as_str(), values.as_slice()) {
            ("mailbox_id=?", [Value::Int(id)]) if u32::try_from(*id).is_ok() => {
                self.mailbox = u32::try_from(*id).ok();
            }
            _ => self.condition = Some(Condition { sql, values }),
        }
        self
    }

    /// Into this database of the destination.
    pub fn into_database(mut self, database: impl Into<String>) -> Self {
        self.into = Some(database.into());
        self
    }

    /// The database at the destination.
    pub fn destination(&self) -> &str {
        self.into.as_deref().unwrap_or(&self.database)
    }

    /// The mailbox's id at the destination.
    pub fn destination_mailbox(&self) -> Option<i64> {
        let id = self.mailbox?;
        match self.rewrites.get(MAILBOX_ID) {
            Some(Rewrite::Constant(new)) => Some(*new),
            _ => Some(i64::from(id)),
        }
    }

    /// `database.table`, for messages.
    pub fn name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    /// `database`.`table` and the condition, on one side; what stands behind FROM.
    pub(super) fn from(&self, side: Side) -> Result<String> {
        self.read_by(side, None)
    }

    /// The same, read by an index.
    pub(super) fn read_by(&self, side: Side, index: Option<&str>) -> Result<String> {
        let (database, mailbox) = match side {
            Side::Source => (self.database.as_str(), self.mailbox.map(i64::from)),
            Side::Destination => (self.destination(), self.destination_mailbox()),
        };
        let mut sql = format!("{}.{}", name(database)?, name(&self.table)?);
        if let Some(index) = index {
            sql.push_str(&format!(" FORCE INDEX ({})", name(index)?));
        }
        sql.push_str(" WHERE ");
        match mailbox {
            Some(id) => sql.push_str(&format!("mailbox_id = {id}")),
            None => sql.push_str("TRUE"),
        }
        if let Some(condition) = &self.condition {
            let bound = crate::clients::db::bind(&condition.sql, &condition.values)?;
            sql.push_str(&format!(" AND ({bound})"));
        }
        Ok(sql)
    }

    /// Whether it says whose rows they are. Rows at the destination are made equal to it, so a dump of
    /// everything would delete what others have there, and a condition on a column that changes on the way
    /// would choose other rows there than here.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(Kind::Usage, format!("table {}: {why}", self.name())));
        if self.mailbox.is_none() && self.condition.is_none() {
            return refuse("a dump without a mailbox or a condition cannot be injected");
        }
        if self.rewrites.contains_key(MAILBOX_ID) && self.mailbox.is_none() {
            return refuse("mailbox_id changes on the way, but no mailbox is named");
        }
        if matches!(self.rewrites.get(MAILBOX_ID), Some(Rewrite::Map(_))) {
            return refuse("mailbox_id can only become one number");
        }
        if let Some(condition) = &self.condition {
            for word in condition.sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '$') {
                if self.rewrites.keys().any(|column| column.eq_ignore_ascii_case(word)) {
                    return refuse(&format!("the condition names {word}, which changes on the way"));
                }
            }
        }
        Ok(())
    }
}

/// Which end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped() -> Dump {
        let map = Rewrite::Map(BTreeMap::from([("1".into(), "3".into())]));
        let dump = dump_table("mboxgroup12", "mail_item").filter("mailbox_id = ?", vec![Value::Int(12)]);
        rewrite_ids(dump, BTreeMap::from([(MAILBOX_ID.into(), Rewrite::Constant(1407)), ("locator".into(), map)]))
            .into_database("mboxgroup7")
    }

    #[test]
    fn each_side_has_its_own_rows() {
        let dump = mapped();
        assert_eq!(dump.from(Side::Source).unwrap(), "`mboxgroup12`.`mail_item` WHERE mailbox_id = 12");
        assert_eq!(dump.from(Side::Destination).unwrap(), "`mboxgroup7`.`mail_item` WHERE mailbox_id = 1407");
        dump.check().unwrap();
    }

    #[test]
    fn a_dump_survives_a_journal() {
        let text = serde_json::to_string(&mapped()).unwrap();
        assert_eq!(serde_json::from_str::<Dump>(&text).unwrap(), mapped());
    }

    #[test]
    fn what_could_reach_rows_of_others_is_refused() {
        assert!(dump_table("g", "t").check().is_err());
        let dump = mapped().filter("locator = ?", vec![Value::Text("1".into())]);
        assert!(dump.check().is_err());
        assert!(mapped().filter("id > ?", vec![Value::Int(5)]).check().is_ok());
    }
}
