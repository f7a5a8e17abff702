//! Lists of accounts.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};
use crate::gate::{Effect, Operation, Watch};
use crate::zimbra::ids::Address;

/// The largest list that is read, in bytes.
const MAX_LIST: u64 = 64 * 1024 * 1024;
/// How many wrong lines an error names.
const SHOWN: usize = 10;

/// One account of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The account's address.
    pub email: String,
    /// The columns of its line, `email` among them, as options for a script.
    pub options: BTreeMap<String, String>,
    /// Its line, from 1.
    pub line: u64,
}

/// Reads a list.
pub struct ReadList {
    /// The file.
    pub path: PathBuf,
}

impl Operation for ReadList {
    type Output = Vec<Entry>;

    fn name(&self) -> &'static str {
        "read_list"
    }

    fn describe(&self) -> String {
        format!("read {}", self.path.display())
    }

    fn outcome(&self, entries: &Vec<Entry>) -> String {
        format!("{} accounts", entries.len())
    }

    fn effect(&self) -> Effect {
        Effect::Look
    }

    fn pretend(&self) -> Result<Vec<Entry>> {
        self.read()
    }

    fn apply(&self, _: &Watch<'_>) -> Result<Vec<Entry>> {
        self.read()
    }
}

impl ReadList {
    fn read(&self) -> Result<Vec<Entry>> {
        let name = self.path.display().to_string();
        let file = std::fs::File::open(&self.path).context(Kind::Io, || format!("{name}: opening the list"))?;
        let mut text = String::new();
        file.take(MAX_LIST + 1).read_to_string(&mut text).context(Kind::Io, || format!("{name}: reading the list"))?;
        if text.len() as u64 > MAX_LIST {
            return Err(Error::new(Kind::Data, format!("{name}: a list of more than {MAX_LIST} bytes")));
        }
        parse(&name, &text)
    }
}

/// Reads a list from its text: an address a line, or CSV with a header that has a column `email`.
fn parse(name: &str, text: &str) -> Result<Vec<Entry>> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut columns = vec!["email".to_owned()];
    let mut entries = Vec::new();
    let mut wrong = Vec::new();
    for (number, record) in reader.records().enumerate() {
        let record = record.context(Kind::Data, || format!("{name}: reading the list"))?;
        let line = record.position().map_or(0, |position| line_of(text, position));
        let words: Vec<&str> = record.iter().collect();
        if words.iter().all(|w| w.is_empty()) {
            continue;
        }
        if number == 0 && words.iter().any(|w| w.eq_ignore_ascii_case("email")) {
            columns = words.iter().map(|w| w.to_ascii_lowercase()).collect();
            continue;
        }
        match entry(&columns, &words, line) {
            Ok(entry) => entries.push(entry),
            Err(error) => wrong.push(format!("line {line}: {error}")),
        }
    }
    if wrong.is_empty() {
        return Ok(entries);
    }
    let more = wrong.len().saturating_sub(SHOWN);
    wrong.truncate(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(Error::new(Kind::Data, format!("{name}: {}{more}", wrong.join("; ")))
        .hint("an address a line, or CSV with a header such as email,dest"))
}

/// The line of a record: its position is where the reader began to look for it, before lines that are left out.
fn line_of(text: &str, position: &csv::Position) -> u64 {
    let rest = usize::try_from(position.byte()).ok().and_then(|at| text.get(at..)).unwrap_or_default();
    position.line() + rest.lines().take_while(|line| line.is_empty() || line.starts_with('#')).count() as u64
}

fn entry(columns: &[String], words: &[&str], line: u64) -> Result<Entry> {
    if words.len() > columns.len() {
        return Err(Error::new(Kind::Data, format!("{} columns where {} are named", words.len(), columns.len())));
    }
    let options: BTreeMap<String, String> = columns
        .iter()
        .zip(words)
        .filter(|(_, word)| !word.is_empty())
        .map(|(column, word)| (column.clone(), (*word).to_owned()))
        .collect();
    let email = options.get("email").ok_or_else(|| Error::new(Kind::Data, "no address"))?;
    // `zmprov gqu` prints an address, its quota and what is used of it.
    let email = email.split_whitespace().next().unwrap_or_default().to_owned();
    let address: Address = email.parse()?;
    let mut options = options;
    options.insert("email".to_owned(), address.to_string());
    Ok(Entry { email: address.to_string(), options, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_a_line_with_blank_lines_and_comments() {
        let entries = parse("list", "a@x.test\n\n# no\n  b@x.test  \nc@x.test 0 123\n").unwrap();
        assert_eq!(entries.iter().map(|e| e.email.as_str()).collect::<Vec<_>>(), ["a@x.test", "b@x.test", "c@x.test"]);
        assert_eq!(entries[1].line, 4);
    }

    #[test]
    fn columns_by_their_header() {
        let entries = parse("list", "dest,email\nstore2.x.test,a@x.test\n,b@x.test\n").unwrap();
        assert_eq!(entries[0].options["dest"], "store2.x.test");
        assert!(!entries[1].options.contains_key("dest"));
    }

    #[test]
    fn every_wrong_line_is_named() {
        let error = parse("list", "a@x.test\nnobody\nb@x.test,x\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("line 3"), "{error}");
    }
}
