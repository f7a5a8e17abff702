//! A dump as text for a person, and in numbers.

use std::fmt::Write as _;
use std::io::Write;

use serde::{Deserialize, Serialize};

use super::dump::{Dump, Rewrite, Side};
use super::layout::Layout;
use super::read::Reader;
use super::shape::Shape;
use crate::cancel::Cancel;
use crate::clients::db::{Pool, Session, hex, name};
use crate::error::{Context, Error, Kind, Result};

/// How much a dump is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Rows.
    pub rows: u64,
    /// Bytes of their texts and other values of varying length; numbers and times count 8 each.
    pub bytes: u64,
    /// Bytes of the largest row.
    pub largest: u64,
}

/// Counts the source's rows of a dump and their bytes, which reads all of them on the server. A table that
/// does not exist has none.
pub fn count(session: &mut Session, dump: &Dump) -> Result<Count> {
    let Some(layout) = Layout::read(session, &dump.database, &dump.table)? else { return Ok(Count::default()) };
    let fixed = |data_type: &str| {
        matches!(data_type, "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "float" | "double")
    };
    let mut size = String::from("0");
    for column in &layout.columns {
        let part = match fixed(&column.data_type) {
            true => "8".into(),
            false => format!("IFNULL(OCTET_LENGTH({}),0)", name(&column.name)?),
        };
        // Writing to a String cannot fail.
        let _ = write!(size, "+{part}");
    }
    let sql = format!(
        "SELECT COUNT(*), CAST(IFNULL(SUM({size}),0) AS UNSIGNED), IFNULL(MAX({size}),0) FROM {}",
        dump.from(Side::Source)?
    );
    let (rows, bytes, largest) = session.one(&sql, ())?;
    Ok(Count { rows, bytes, largest })
}

/// The statements that bring a dump over, for a plan: what is read, and what is written.
pub fn statements(source: &mut Session, dump: &Dump) -> Result<Vec<String>> {
    let Some(layout) = Layout::read(source, &dump.database, &dump.table)? else { return Ok(Vec::new()) };
    let names: Vec<&str> = layout.columns.iter().map(|column| column.name.as_str()).collect();
    let into = format!("{}.{}", name(dump.destination())?, name(&dump.table)?);
    let mut statements = vec![
        format!("SELECT {} FROM {}", names.join(", "), dump.from(Side::Source)?),
        format!("LOAD DATA LOCAL INFILE 'rows' INTO TABLE {into} ({})", names.join(", ")),
    ];
    for (column, rewrite) in &dump.rewrites {
        statements.push(match rewrite {
            Rewrite::Constant(number) => format!("{column} becomes {number}"),
            Rewrite::Map(map) => {
                let pairs: Vec<_> = map.iter().map(|(from, to)| format!("{from} -> {to}")).collect();
                format!("{column}: {}", pairs.join(", "))
            }
        });
    }
    Ok(statements)
}

/// Writes a dump as SQL: a statement a row, as rewritten, with bytes that are no text in hexadecimal. Returns
/// the number of rows. It is for reading, and for taking into a database by hand; nothing here reads it.
pub fn save(source: &Pool, dump: &Dump, out: &mut dyn Write, cancel: &Cancel) -> Result<u64> {
    let mut session = source.get(cancel)?;
    let Some(layout) = Layout::read(&mut session, &dump.database, &dump.table)? else {
        return Err(Error::new(Kind::NotFound, format!("table {} on {}: does not exist", dump.name(), source.store())));
    };
    let mut shape = Shape::of(dump, &layout);
    for pair in &mut shape.pairs {
        pair.rewrite = dump.rewrites.get(&pair.to.name).cloned();
    }
    let columns = shape.pairs.iter().map(|pair| name(&pair.to.name)).collect::<Result<Vec<_>>>()?.join(", ");
    let plain: Vec<bool> = shape.pairs.iter().map(|pair| pair.is_plain()).collect();
    let head = format!("INSERT INTO {}.{} ({columns}) VALUES (", name(dump.destination())?, name(&dump.table)?);
    let told = || format!("dump of {}: write", dump.name());
    let mut rows = 0;
    out.write_all(b"SET NAMES utf8mb4;\n").context(Kind::Io, told)?;
    session.snapshot()?;
    Reader::new(&shape)?.read_all(&mut session, &mut |row| {
        if rows % 1000 == 0 {
            cancel.check()?;
        }
        rows += 1;
        let values: Vec<String> =
            row.iter().zip(&plain).map(|(value, plain)| shown(value.as_deref(), *plain)).collect();
        out.write_all(format!("{head}{});\n", values.join(", ")).as_bytes()).context(Kind::Io, told)
    })?;
    out.flush().context(Kind::Io, told)?;
    Ok(rows)
}

/// A value as SQL: numbers bare, printable text quoted, all else in hexadecimal.
fn shown(value: Option<&[u8]>, plain: bool) -> String {
    let Some(bytes) = value else { return "NULL".into() };
    match std::str::from_utf8(bytes) {
        Ok(text) if plain && text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => text.into(),
        Ok(text) if !text.chars().any(|c| c.is_control() || c == '\\') => format!("'{}'", text.replace('\'', "''")),
        _ => hex(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_as_they_were() {
        assert_eq!(shown(None, true), "NULL");
        assert_eq!(shown(Some(b"-12"), true), "-12");
        assert_eq!(shown(Some(b"12"), false), "'12'");
        assert_eq!(shown(Some("it's ü".as_bytes()), false), "'it''s ü'");
        assert_eq!(shown(Some(b"\0tag\0"), false), "x'0074616700'");
        assert_eq!(shown(Some(b"a\\b"), false), "x'615c62'");
        assert_eq!(shown(Some(b"\xff"), false), "x'ff'");
    }
}
