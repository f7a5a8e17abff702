//! Rows described, counted, and written out for a person.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clients::db::Value;
use crate::error::{Context, Error, Kind, Result};
use crate::gate::{Effect, Operation, Watch};
use crate::rows::{self, Count, Dump, Layout, Rewrite};
use crate::site::Store;

/// Columns that carry ids in some tables of a mailbox and not in others.
const OF_SOME_TABLES: &[&str] = &[rows::MAILBOX_ID, "locator"];

/// What `rewrite_ids` takes: columns with their new values, and the database at the destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ids {
    /// The database at the destination; the source's name where it is not given.
    #[serde(default)]
    pub database: Option<String>,
    /// The columns.
    #[serde(flatten)]
    pub columns: BTreeMap<String, Column>,
}

/// The new values of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// Every row gets this number.
    Number(i64),
    /// Each text becomes what the map says.
    Texts(BTreeMap<String, String>),
}

/// Describes rows of a table. Fails with [`Kind::Usage`] for a condition whose values do not fit it.
pub fn describe(
    database: &str,
    table: &str,
    mailbox: Option<u32>,
    condition: Option<String>,
    values: Vec<serde_json::Value>,
) -> Result<Dump> {
    let mut dump = rows::dump_table(database, table);
    if let Some(id) = mailbox {
        dump = dump.mailbox(id);
    }
    let values = values.into_iter().map(|v| value(table, v)).collect::<Result<Vec<_>>>()?;
    match condition {
        Some(sql) => {
            dump = dump.filter(sql, values);
        }
        None if values.is_empty() => {}
        None => return Err(Error::new(Kind::Usage, format!("dump_table {table}: values without a `where`"))),
    }
    dump.check()?;
    Ok(dump)
}

fn value(table: &str, value: serde_json::Value) -> Result<Value> {
    match value {
        serde_json::Value::Number(n) if n.is_i64() => Ok(Value::Int(n.as_i64().unwrap_or_default())),
        serde_json::Value::String(text) => Ok(Value::Text(text)),
        other => {
            Err(Error::new(Kind::Usage, format!("dump_table {table}: value {other}: a number or a text was expected")))
        }
    }
}

/// Says which columns of a dump get other values. `database` names a mailbox group at the destination, so it is
/// only for tables of one.
///
/// Fails with [`Kind::Usage`] for a column that the table does not have, unless it is one that only some tables
/// of a mailbox have: one map of ids serves them all.
pub fn rewrite(source: &Store, dump: Dump, ids: Ids) -> Result<Dump> {
    let layout = Layout::read(&mut *source.session()?, &dump.database, &dump.table)?;
    let has = |name: &str| layout.as_ref().is_none_or(|layout| layout.column(name).is_some());
    if let Some(unknown) = ids.columns.keys().find(|name| !has(name) && !OF_SOME_TABLES.contains(&name.as_str())) {
        return Err(Error::new(Kind::Usage, format!("rewrite_ids {}: has no column {unknown}", dump.name())));
    }
    let rewrites = ids
        .columns
        .into_iter()
        .filter(|(name, _)| has(name))
        .map(|(name, column)| {
            let rewrite = match column {
                Column::Number(number) => Rewrite::Constant(number),
                Column::Texts(map) => Rewrite::Map(map),
            };
            (name, rewrite)
        })
        .collect();
    let dump = rows::rewrite_ids(dump, rewrites);
    Ok(match ids.database {
        Some(database) if dump.database != "zimbra" => dump.into_database(database),
        _ => dump,
    })
}

/// Counts a dump.
pub struct CountRows {
    /// Where the rows are.
    pub source: Arc<Store>,
    /// Which.
    pub dump: Dump,
}

impl Operation for CountRows {
    type Output = Count;

    fn name(&self) -> &'static str {
        "count"
    }

    fn describe(&self) -> String {
        format!("{} on {}", self.dump.name(), self.source.name())
    }

    fn outcome(&self, count: &Count) -> String {
        format!("{} rows, {} bytes", count.rows, count.bytes)
    }

    fn effect(&self) -> Effect {
        Effect::Look
    }

    fn pretend(&self) -> Result<Count> {
        let mut session = self.source.session()?;
        rows::count(&mut session, &self.dump)
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Count> {
        self.pretend()
    }
}

/// Writes a dump to a file of this host.
pub struct Save {
    /// Where the rows are.
    pub source: Arc<Store>,
    /// Which.
    pub dump: Dump,
    /// The file; it must not exist.
    pub path: PathBuf,
}

impl Operation for Save {
    type Output = u64;

    fn name(&self) -> &'static str {
        "save"
    }

    fn describe(&self) -> String {
        format!("{} on {} to {}", self.dump.name(), self.source.name(), self.path.display())
    }

    fn outcome(&self, rows: &u64) -> String {
        format!("{rows} rows")
    }

    fn pretend(&self) -> Result<u64> {
        let mut session = self.source.session()?;
        Ok(rows::count(&mut session, &self.dump)?.rows)
    }

    fn apply(&self, watch: &Watch<'_>) -> Result<u64> {
        let opening = || format!("{}: making the file", self.path.display());
        // Mail is in it: nobody else may read it, and what stands there already is somebody's.
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .context(Kind::Io, opening)?;
        let mut out = BufWriter::new(file);
        let rows = rows::save(self.source.db(), &self.dump, &mut out, watch.cancel())?;
        out.flush().context(Kind::Io, || format!("{}: writing", self.path.display()))?;
        Ok(rows)
    }
}
