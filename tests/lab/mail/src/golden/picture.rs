//! All that a mailbox is, so that what became of one can be held against what it was: rows by their values, blobs by their
//! uncompressed bytes, the search index by its files. It neither asks nor tells what a move may change: what is mapped is left
//! out, what only counts on may have counted on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use mysql::Value;
use mysql::prelude::Queryable;

use super::Golden;
use super::rows::{self, Field};
use crate::volume::{Kind, Volumes, digest};
use crate::{Error, Result};

/// Columns of the mailbox's own row that are the store's.
const MAPPED: [&str; 3] = ["id", "group_id", "index_volume_id"];

/// Columns of the mailbox's own row that a server, or a move, raises.
const RISING: [&str; 3] = ["item_id_checkpoint", "change_checkpoint", "last_purge_at"];

/// Columns of the mailbox's own row that mail raises as well.
const RISING_BY_MAIL: [&str; 2] = ["size_checkpoint", "new_messages"];

/// Columns that mail changes in a row that was there: what folders, conversations and tags count.
const BY_MAIL: [(&str, &[&str]); 2] = [
    ("mboxgroup.mail_item", &["parent_id", "size", "unread", "metadata", "mod_metadata", "change_date"]),
    ("mboxgroup.tag", &["item_count", "unread"]),
];

/// A row by its columns.
type Row = BTreeMap<String, Field>;

/// A mailbox.
#[derive(Clone, Debug)]
pub struct Picture {
    /// By `mboxgroup.TABLE` or `zimbra.TABLE`.
    tables: BTreeMap<String, Vec<Row>>,
    /// Digests by `ROLE/PATH`.
    files: BTreeMap<String, String>,
}

impl Picture {
    /// What an archive holds.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn of_archive(golden: &Golden) -> Result<Self> {
        let role = |locator: &str| {
            let found = golden.manifest.volumes.iter().find(|(_, origin)| origin.id.to_string() == locator);
            found.map_or_else(|| locator.to_owned(), |(role, _)| role.clone())
        };
        let mut tables = BTreeMap::new();
        for file in rows::read(&golden.dir.join("rows"))? {
            let rows = file.rows().into_iter().map(|row| counted(&file.name(), &file.columns, row, role)).collect();
            tables.insert(file.name(), rows);
        }
        let mut files = BTreeMap::new();
        for (dir, role) in [("blobs/primary", "primary"), ("blobs/secondary", "secondary"), ("index", "index/index")] {
            add_files(&mut files, &golden.dir.join(dir), role, Path::new(""))?;
        }
        Ok(Self { tables, files })
    }

    /// What a store has of an account's mailbox. `home` is the directory that is `/opt/zimbra` to the store.
    ///
    /// # Errors
    /// The account has no mailbox there; what the server or the file system refuses.
    pub fn of_store(conn: &mut mysql::Conn, home: &Path, account_id: &str) -> Result<Self> {
        conn.query_drop("SET NAMES binary")?;
        conn.query_drop("SET SESSION time_zone = '+00:00', sql_mode = ''")?;
        let volumes = Volumes::read(conn, home)?;
        let found: Option<(u32, u32)> =
            conn.exec_first("SELECT id, group_id FROM zimbra.mailbox WHERE account_id = ?", (account_id,))?;
        let (id, group) = found.ok_or_else(|| Error::refused(format!("account {account_id}: no mailbox")))?;
        let mut tables = BTreeMap::new();
        tables.insert("zimbra.mailbox".to_owned(), table(conn, "zimbra.mailbox", "zimbra", "id", id, &volumes)?);
        let group = format!("mboxgroup{group}");
        let all: Vec<(String, String)> = conn.exec(
            "SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = 'mailbox_id' \
             AND table_schema IN ('zimbra', ?) AND table_name NOT IN ('volume_blobs', 'deleted_account')",
            (&group,),
        )?;
        for (database, name) in all {
            let title = format!("{}.{name}", if database == group { "mboxgroup" } else { "zimbra" });
            let rows = table(conn, &title, &database, "mailbox_id", id, &volumes)?;
            if !rows.is_empty() {
                tables.insert(title, rows);
            }
        }
        conn.query_drop("SET NAMES utf8mb4")?;
        let mut files = BTreeMap::new();
        for volume in &volumes.all {
            add_files(&mut files, &volume.mailbox_dir(id), &volume.kind.to_string(), Path::new(""))?;
        }
        Ok(Self { tables, files })
    }

    /// What differs in `now` from this, one line each.
    pub fn differences(&self, now: &Picture) -> Vec<String> {
        self.against(now, None)
    }

    /// What differs in `now` from this beyond what mail explains that came since: items with ids above `last_item`, and what
    /// counts them.
    pub fn differences_but_for_mail(&self, now: &Picture, last_item: u32) -> Vec<String> {
        self.against(now, Some(last_item))
    }

    fn against(&self, now: &Picture, mail: Option<u32>) -> Vec<String> {
        let mut lines = Vec::new();
        let names: std::collections::BTreeSet<&String> = self.tables.keys().chain(now.tables.keys()).collect();
        for name in names {
            let rows = |picture: &'_ Picture| picture.tables.get(name).cloned().unwrap_or_default();
            let (old, new) = (rows(self), rows(now));
            match name.as_str() {
                "zimbra.mailbox" => own_row(&mut lines, &old, &new, mail.is_some()),
                // A server takes these away when it comes to them.
                "zimbra.pending_acl_push" if new.is_empty() => {}
                _ => table_rows(&mut lines, name, old, new, mail),
            }
        }
        for (path, old) in &self.files {
            match now.files.get(path) {
                None => lines.push(format!("file {path}: missing")),
                Some(new) if new != old => lines.push(format!("file {path}: content differs")),
                Some(_) => {}
            }
        }
        let by_mail = |path: &str| mail.is_some_and(|last| item_of(path).is_some_and(|item| item > last));
        lines.extend(
            now.files
                .keys()
                .filter(|path| !self.files.contains_key(*path) && !by_mail(path))
                .map(|path| format!("file {path}: new")),
        );
        lines
    }
}

/// The rows of one table.
fn table(
    conn: &mut mysql::Conn,
    title: &str,
    database: &str,
    id_column: &str,
    id: u32,
    volumes: &Volumes,
) -> Result<Vec<Row>> {
    let name = title.split('.').next_back().unwrap_or(title);
    let rows: Vec<mysql::Row> = conn.query(format!("SELECT * FROM {database}.`{name}` WHERE {id_column} = {id}"))?;
    let role = |locator: &str| volumes.at(locator).map_or_else(|| locator.to_owned(), |volume| volume.kind.to_string());
    Ok(rows
        .into_iter()
        .map(|row| {
            let columns: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
            let fields = row.unwrap().into_iter().map(|value| match value {
                Value::NULL => None,
                Value::Bytes(bytes) => Some(bytes),
                other => Some(other.as_sql(true).into_bytes()),
            });
            counted(title, &columns, fields.collect(), role)
        })
        .collect())
}

/// A row without what is mapped, and with roles for volumes.
fn counted(table: &str, columns: &[String], fields: Vec<Field>, role: impl Fn(&str) -> String) -> Row {
    let mapped = |column: &str| column == "mailbox_id" || (table == "zimbra.mailbox" && MAPPED.contains(&column));
    let pairs = columns.iter().zip(fields).filter(|(column, _)| !mapped(column));
    pairs
        .map(|(column, field)| match column.as_str() {
            "locator" => {
                let named = field.map(|locator| role(&String::from_utf8_lossy(&locator)).into_bytes());
                (column.clone(), named)
            }
            _ => (column.clone(), field),
        })
        .collect()
}

fn own_row(lines: &mut Vec<String>, old: &[Row], new: &[Row], mail: bool) {
    let ([old], [new]) = (old, new) else {
        return lines.push(format!("zimbra.mailbox: {} rows became {}", old.len(), new.len()));
    };
    for (column, value) in old {
        let rises = RISING.contains(&column.as_str()) || (mail && RISING_BY_MAIL.contains(&column.as_str()));
        let now = new.get(column);
        let fine = match now {
            Some(now) if rises => number(value) <= number(now),
            now => now == Some(value),
        };
        if !fine {
            lines.push(format!("zimbra.mailbox.{column}: {} became {}", shown(Some(value)), shown(now)));
        }
    }
}

fn number(field: &Field) -> Option<u64> {
    String::from_utf8_lossy(field.as_deref()?).parse().ok()
}

fn table_rows(lines: &mut Vec<String>, name: &str, old: Vec<Row>, new: Vec<Row>, mail: Option<u32>) {
    let (gone, mut come) = apart(old, new);
    for row in gone {
        let partner = come.iter().position(|other| mail.is_some() && changed_by_mail(name, &row, other));
        match partner {
            Some(at) => drop(come.swap_remove(at)),
            // A subject's conversation is open for the message that came last.
            None if mail.is_some() && name == "mboxgroup.open_conversation" => {}
            None => lines.push(format!("{name}: no row {}", told(&row))),
        }
    }
    let came = |row: &Row| mail.is_some_and(|last| came_by_mail(name, row, last));
    lines.extend(come.iter().filter(|row| !came(row)).map(|row| format!("{name}: a row {}", told(row))));
}

/// The rows that only one side has, each as often as it has it more.
fn apart(mut old: Vec<Row>, mut new: Vec<Row>) -> (Vec<Row>, Vec<Row>) {
    old.sort_unstable();
    new.sort_unstable();
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    let mut new = new.into_iter().peekable();
    for row in old {
        while let Some(extra) = new.next_if(|other| *other < row) {
            come.push(extra);
        }
        if new.next_if(|other| *other == row).is_none() {
            gone.push(row);
        }
    }
    come.extend(new);
    (gone, come)
}

/// Whether a row is another one after mail came: only what counts mail differs, and only where something does.
fn changed_by_mail(table: &str, old: &Row, new: &Row) -> bool {
    let Some((_, free)) = BY_MAIL.iter().find(|(name, _)| *name == table) else { return false };
    let kind = old.get("type").and_then(number);
    let counts = match kind {
        // A message that was answered only joins a conversation.
        Some(5) => &["parent_id", "mod_metadata", "change_date"][..],
        Some(1 | 4) => &["size", "unread", "metadata", "mod_metadata", "change_date"],
        Some(_) => &[],
        None => free,
    };
    old.iter().all(|(column, value)| counts.contains(&column.as_str()) || new.get(column) == Some(value))
}

fn came_by_mail(table: &str, row: &Row, last: u32) -> bool {
    let above = |column: &str| row.get(column).and_then(number).is_some_and(|item| item > u64::from(last));
    match table {
        "mboxgroup.mail_item" => above("id"),
        "mboxgroup.tagged_item" => above("item_id"),
        "mboxgroup.open_conversation" => above("conv_id"),
        _ => false,
    }
}

/// The item of a blob, by the name of its file.
fn item_of(path: &str) -> Option<u32> {
    let (_, name) = path.rsplit_once('/')?;
    name.strip_suffix(".msg")?.split_once('-')?.0.parse().ok()
}

fn add_files(files: &mut BTreeMap<String, String>, root: &Path, role: &str, below: &Path) -> Result<()> {
    let dir = root.join(below);
    if !dir.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let below = below.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            add_files(files, root, role, &below)?;
        } else {
            let bytes = fs::read(entry.path())?;
            let is_blob = !role.starts_with(&Kind::Index.to_string());
            let plain = if is_blob { uncompressed(bytes) } else { bytes };
            files.insert(format!("{role}/{}", below.display()), digest(&plain));
        }
    }
    Ok(())
}

/// What a blob's file holds. One that starts as gzip does and is none is as it is.
fn uncompressed(bytes: Vec<u8>) -> Vec<u8> {
    let mut plain = Vec::new();
    match bytes.starts_with(&[0x1f, 0x8b]) && MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).is_ok() {
        true => plain,
        false => bytes,
    }
}

/// The start of each value, enough to find the row by.
fn told(row: &Row) -> String {
    let columns = ["id", "item_id", "tag_id", "type", "name", "section", "subject", "hash", "conv_id", "sequence"];
    let found = columns.iter().filter_map(|column| Some(format!("{column} {}", shown(Some(row.get(*column)?)))));
    found.collect::<Vec<_>>().join(", ")
}

fn shown(field: Option<&Field>) -> String {
    match field {
        None => "no column".into(),
        Some(None) => "NULL".into(),
        Some(Some(bytes)) => {
            String::from_utf8_lossy(bytes).chars().take(60).collect::<String>().escape_debug().to_string()
        }
    }
}
