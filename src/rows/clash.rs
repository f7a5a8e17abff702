//! Entries that are two at the source and would be one at the destination: its unique keys compare texts by another
//! collation, or the source has no such key. Without a look an insert finds them, after the whole copy.

use super::dump::{Dump, Side};
use super::layout::{Column, Key, Layout};
use crate::clients::db::{Session, Word};
use crate::error::Result;

/// How many entries are named.
const SHOWN: usize = 3;
/// How many characters of each.
const LONGEST: usize = 60;

/// A unique key of the destination that the source's rows may not have room in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    key: String,
    /// What rows of the source are grouped by, a column each.
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    column: String,
    /// As the destination compares it, where it is a text.
    text: Option<(Word, Word)>,
    /// How much of it counts.
    length: Option<u64>,
    nullable: bool,
}

/// The keys of a table that need a look. Columns that `is_rewritten` names get other values on the way.
pub(super) fn clashes(from: &Layout, to: &Layout, is_rewritten: &dyn Fn(&str) -> bool) -> Vec<Clash> {
    let is_plain = |key: &Key| key.columns.iter().all(|(column, _)| from.column(column).is_some());
    let keys = to.keys.iter().filter(|key| key.unique && is_plain(key) && !has_same(from, to, key));
    keys.filter_map(|key| {
        let parts = key.columns.iter().filter(|(column, _)| !is_rewritten(column));
        let parts: Vec<Part> = parts.filter_map(|(name, length)| part(from, to, name, *length)).collect();
        parts.iter().any(|part| part.text.is_some()).then(|| Clash { key: key.name.clone(), parts })
    })
    .collect()
}

/// Whether the source's rows are told apart by the same key already.
fn has_same(from: &Layout, to: &Layout, key: &Key) -> bool {
    let alike = |(column, _): &(String, Option<u64>)| {
        let collation = |layout: &Layout| layout.column(column).map(|column| column.collation.as_ref().map(plain));
        collation(from) == collation(to)
    };
    from.keys.iter().any(|other| other.unique && other.columns == key.columns) && key.columns.iter().all(alike)
}

/// A collation's name without the two that servers have for one character set.
fn plain(collation: &Word) -> String {
    collation.as_str().replacen("utf8mb3", "utf8", 1)
}

fn part(from: &Layout, to: &Layout, name: &str, length: Option<u64>) -> Option<Part> {
    let (from, to): (&Column, &Column) = (from.column(name)?, to.column(name)?);
    Some(Part {
        column: format!("`{}`", from.name),
        text: to.charset.clone().zip(to.collation.clone()).filter(|_| from.charset.is_some()),
        length,
        nullable: from.nullable,
    })
}

impl Part {
    fn grouped(&self) -> String {
        let whole = match &self.text {
            Some((charset, _)) => format!("CONVERT({} USING {charset})", self.column),
            None => self.column.clone(),
        };
        let counted = self.length.map_or_else(|| whole.clone(), |length| format!("LEFT({whole}, {length})"));
        self.text.as_ref().map_or_else(|| counted.clone(), |(_, collation)| format!("{counted} COLLATE {collation}"))
    }
}

impl Clash {
    /// The entries of the source that the destination would take for one, if there are any.
    pub fn found(&self, source: &mut Session, dump: &Dump) -> Result<Option<String>> {
        let rows = match source.raw(&self.query(dump)?) {
            Ok(rows) => rows,
            // An older server need not know a newer one's collations; there the insert tells.
            Err(error) if matches!(error.peer_code(), Some("1115" | "1253" | "1273")) => {
                log::warn!("{}: {}: cannot be compared as the destination does: {error}", dump.name(), self.key);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if rows.is_empty() {
            return Ok(None);
        }
        let entries: Vec<String> = rows.iter().take(SHOWN).map(|row| entries(row)).collect();
        let more = if rows.len() > SHOWN { " and more" } else { "" };
        Ok(Some(format!(
            "table {}: {}{more} would be one in the destination's key {} ({}): rename one of them",
            dump.table,
            entries.join(", "),
            self.key,
            self.collations()
        )))
    }

    /// For each group the first and the last of its texts.
    fn query(&self, dump: &Dump) -> Result<String> {
        let texts = self.parts.iter().filter(|part| part.text.is_some());
        let shown: Vec<String> = texts
            .flat_map(|part| ["MIN", "MAX"].map(|which| format!("{which}(CAST({} AS BINARY))", part.column)))
            .collect();
        let grouped: Vec<String> = self.parts.iter().map(Part::grouped).collect();
        let nullable = self.parts.iter().filter(|part| part.nullable);
        let present: Vec<String> = nullable.map(|part| format!(" AND {} IS NOT NULL", part.column)).collect();
        let (shown, grouped) = (shown.join(", "), grouped.join(", "));
        Ok(format!(
            "SELECT {shown} FROM {}{} GROUP BY {grouped} HAVING COUNT(*) > 1 LIMIT {}",
            dump.from(Side::Source)?,
            present.concat(),
            SHOWN + 1
        ))
    }

    fn collations(&self) -> String {
        let mut names: Vec<&str> =
            self.parts.iter().filter_map(|part| part.text.as_ref()).map(|(_, collation)| collation.as_str()).collect();
        names.dedup();
        names.join(", ")
    }
}

/// The texts of one group, each escaped.
fn entries(row: &[Option<Vec<u8>>]) -> String {
    let shown = |text: &Option<Vec<u8>>| {
        let text = String::from_utf8_lossy(text.as_deref().unwrap_or_default());
        let short: String = text.chars().take(LONGEST).collect();
        format!("'{}'", short.escape_debug())
    };
    let pairs: Vec<String> = row
        .chunks(2)
        .filter_map(|pair| match pair {
            [first, last] if first == last => Some(shown(first)),
            [first, last] => Some(format!("{} and {}", shown(first), shown(last))),
            _ => None,
        })
        .collect();
    pairs.join(" with ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(collation: &str, keys: Vec<Key>) -> Layout {
        let column = |name: &str, text: Option<&str>| Column {
            name: name.into(),
            data_type: if text.is_some() { "varchar" } else { "int" }.into(),
            column_type: String::new(),
            charset: text.map(|_| Word::parse("utf8mb4").unwrap()),
            collation: text.map(|text| Word::parse(text).unwrap()),
            nullable: text.is_some(),
            default: None,
            generated: false,
            characters: None,
            octets: None,
            precision: (None, None),
        };
        let columns = vec![column("mailbox_id", None), column("uid", None), column("name", Some(collation))];
        Layout { database: "g".into(), table: "tag".into(), columns, keys }
    }

    fn key(columns: &[(&str, Option<u64>)]) -> Key {
        let columns = columns.iter().map(|(name, length)| ((*name).to_owned(), *length)).collect();
        Key { name: "i_name".into(), unique: true, columns }
    }

    fn queries(from: &Layout, to: &Layout) -> Vec<String> {
        let dump = super::super::dump_table("g", "tag").mailbox(7);
        let found = clashes(from, to, &|column| column == "mailbox_id");
        found.iter().map(|clash| clash.query(&dump).unwrap()).collect()
    }

    #[test]
    fn keys_that_compare_alike_need_no_look() {
        let own = || vec![key(&[("mailbox_id", None), ("name", None)])];
        for (from, to) in [("utf8mb4_bin", "utf8mb4_bin"), ("utf8_general_ci", "utf8mb3_general_ci")] {
            assert_eq!(queries(&layout(from, own()), &layout(to, own())), Vec::<String>::new(), "{from} {to}");
        }
        let numbers = || vec![key(&[("mailbox_id", None), ("uid", None)])];
        assert_eq!(queries(&layout("utf8mb4_bin", vec![]), &layout("utf8mb4_bin", numbers())), Vec::<String>::new());
    }

    #[test]
    fn rows_are_grouped_as_the_destination_compares_them() {
        let own = || vec![key(&[("name", Some(20)), ("uid", None), ("mailbox_id", None)])];
        let found = queries(&layout("utf8mb4_bin", own()), &layout("utf8mb4_general_ci", own()));
        assert_eq!(
            found,
            ["SELECT MIN(CAST(`name` AS BINARY)), MAX(CAST(`name` AS BINARY)) FROM `g`.`tag` WHERE mailbox_id = 7 \
                 AND `name` IS NOT NULL GROUP BY LEFT(CONVERT(`name` USING utf8mb4), 20) COLLATE utf8mb4_general_ci, `uid` \
                 HAVING COUNT(*) > 1 LIMIT 4"]
        );
        // A key that the source has not is looked at, whatever the collations.
        assert_eq!(queries(&layout("utf8mb4_bin", vec![]), &layout("utf8mb4_bin", own())).len(), 1);
    }

    #[test]
    fn entries_cannot_write_on_a_terminal() {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(entries(&[text("Work"), text("work")]), "'Work' and 'work'");
        assert_eq!(entries(&[text("a\u{1b}[2J"), text("b")]), "'a\\u{1b}[2J' and 'b'");
    }
}
