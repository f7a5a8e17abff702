//! Rows as an archive has them: a file a table, fields between tabs, with the escapes of `LOAD DATA`.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

/// A value; nothing is NULL.
pub(super) type Field = Option<Vec<u8>>;

/// The rows of one table.
pub(super) struct File {
    /// `zimbra` or `mboxgroup`.
    pub(super) database: String,
    pub(super) table: String,
    pub(super) columns: Vec<String>,
    /// What follows the line of column names.
    pub(super) body: Vec<u8>,
}

impl File {
    /// `zimbra.mailbox`, as the manifest and differences name it.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    pub(super) fn rows(&self) -> Vec<Vec<Field>> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| line.split(|byte| *byte == b'\t').map(field).collect()).collect()
    }
}

/// All files of rows in a directory, that of the mailbox's own row first.
pub(super) fn read(dir: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let bad = || Error::refused(format!("{}: not rows of a golden mailbox", path.display()));
        let stem = path.file_stem().and_then(|stem| stem.to_str()).ok_or_else(bad)?;
        let (database, table) = stem.split_once('.').ok_or_else(bad)?;
        let bytes = fs::read(&path)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(bad)?;
        let columns = String::from_utf8(bytes[..end].to_vec()).map_err(|_| bad())?;
        files.push(File {
            database: database.into(),
            table: table.into(),
            columns: columns.split('\t').map(str::to_owned).collect(),
            body: bytes[end + 1..].to_vec(),
        });
    }
    files.sort_by_key(|file| (file.name() != "zimbra.mailbox", file.name()));
    Ok(files)
}

fn field(text: &[u8]) -> Field {
    if text == br"\N" {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match (*byte, byte == &b'\\') {
            (_, true) => match rest.next() {
                Some(b'0') => 0,
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'Z') => 0x1a,
                Some(other) => *other,
                None => b'\\',
            },
            (plain, false) => plain,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lose_their_escapes() {
        assert_eq!(field(br"\N"), None);
        assert_eq!(field(b""), Some(Vec::new()));
        assert_eq!(field(br"\0a\\N\tb\n\r\Z"), Some(b"\0a\\N\tb\n\r\x1a".to_vec()));
    }
}
