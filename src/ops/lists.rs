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
/// How many different faults an error tells; what has more is no list.
const MAX_FAULTS: usize = 1000;

/// One account of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The account's address.
    pub email: String,
    /// The columns of its line, `email` among them, as options for a script.
    pub options: BTreeMap<String, String>,
    /// Its line, from 1.
    #[serde(default)]
    pub line: u64,
}

/// What is wrong with a line of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

/// Finds what is wrong with entries beyond their form.
pub type Check<'a> = Box<dyn Fn(&[Entry]) -> Result<Vec<Fault>> + Send + Sync + 'a>;

/// Reads a list.
pub struct ReadList<'a> {
    /// The file.
    pub path: PathBuf,
    /// What else its entries must be good for.
    pub check: Option<Check<'a>>,
}

impl Operation for ReadList<'_> {
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

impl ReadList<'_> {
    fn read(&self) -> Result<Vec<Entry>> {
        let name = self.path.display().to_string();
        let file = std::fs::File::open(&self.path).context(Kind::Usage, || format!("{name}: opening the list"))?;
        let mut bytes = Vec::new();
        file.take(MAX_LIST + 1).read_to_end(&mut bytes).context(Kind::Usage, || format!("{name}: reading the list"))?;
        if bytes.len() as u64 > MAX_LIST {
            return Err(Error::new(Kind::Usage, format!("{name}: a list of more than {MAX_LIST} bytes")));
        }
        let (entries, mut faults) = parse(&bytes);
        if let Some(check) = &self.check {
            faults.extend(check(&entries)?);
        }
        if faults.is_empty() { Ok(entries) } else { Err(refused(&name, faults)) }
    }
}

/// Everything that is wrong with a list, each fault once, with the lines that have it.
fn refused(name: &str, mut faults: Vec<Fault>) -> Error {
    faults.sort_by_key(|fault| fault.line);
    let mut lines: Vec<u64> = faults.iter().map(|fault| fault.line).collect();
    lines.dedup();
    let count = lines.len();
    let mut told: Vec<(String, Vec<u64>)> = Vec::new();
    let mut places = BTreeMap::new();
    for Fault { line, what } in faults {
        let at = *places.entry(what.clone()).or_insert(told.len());
        match told.get_mut(at) {
            Some((_, lines)) => lines.push(line),
            None => told.push((what, vec![line])),
        }
    }
    let more = told.len().saturating_sub(MAX_FAULTS);
    let mut text =
        format!("{name}: {count} {} wrong, and nothing was begun", if count == 1 { "line is" } else { "lines are" });
    for (what, lines) in told.iter().take(MAX_FAULTS) {
        text.push_str(&format!("\n  {}: {what}", numbers(lines)));
    }
    if more > 0 {
        text.push_str(&format!("\n  and {more} faults more"));
    }
    Error::new(Kind::Usage, text).hint("an address a line, or CSV with a header such as email,dest, in UTF-8")
}

/// Numbers of lines as people write them: `line 2`, `lines 3-7, 9`.
fn numbers(lines: &[u64]) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for &line in lines {
        match spans.last_mut() {
            Some((_, last)) if line <= *last + 1 => *last = line,
            _ => spans.push((line, line)),
        }
    }
    let span = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let text = spans.iter().map(span).collect::<Vec<_>>().join(", ");
    if text.contains(['-', ',']) { format!("lines {text}") } else { format!("line {text}") }
}

/// Reads a list from its bytes: an address a line, or CSV with a header that has a column `email`.
///
/// A line is a record, whatever quotes it holds: one that stays open must not swallow the lines after it.
fn parse(bytes: &[u8]) -> (Vec<Entry>, Vec<Fault>) {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return (Vec::new(), vec![Fault { line: 1, what: "is UTF-16: save the list as UTF-8".to_owned() }]);
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut reading = Reading::default();
    for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8: save the list as UTF-8".to_owned());
        if let Err(what) = text.and_then(|text| reading.line(text.trim(), line)) {
            reading.faults.push(Fault { line, what });
        }
    }
    (reading.entries, reading.faults)
}

/// A list as far as it was read.
#[derive(Default)]
struct Reading {
    /// What the header calls the columns; none while there was no line yet.
    columns: Option<Columns>,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
    /// The line of each address.
    seen: BTreeMap<String, u64>,
}

struct Columns {
    delimiter: u8,
    names: Vec<String>,
}

impl Columns {
    fn named_twice(&self) -> Option<String> {
        let names = self.names.iter().enumerate();
        names
            .filter(|(_, name)| !name.is_empty())
            .find(|(at, name)| self.names[..*at].contains(name))
            .map(|(_, n)| n.clone())
    }
}

impl Reading {
    /// Reads a line; fails with what is wrong with it.
    fn line(&mut self, text: &str, line: u64) -> Result<(), String> {
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        let Some(columns) = &self.columns else {
            let (columns, is_header) = header(text);
            let twice = columns.named_twice();
            self.columns = Some(columns);
            return match (is_header, twice) {
                (true, Some(name)) => Err(format!("column `{name}` is named twice")),
                (true, None) => Ok(()),
                (false, _) => self.line(text, line),
            };
        };
        let words = words(text, columns.delimiter)?;
        if words.iter().all(String::is_empty) {
            return Ok(());
        }
        let entry = entry(&columns.names, &words, line)?;
        if let Some(before) = self.seen.get(&entry.email) {
            return Err(format!("{} is in line {before} already", entry.email));
        }
        self.seen.insert(entry.email.clone(), line);
        self.entries.push(entry);
        Ok(())
    }
}

/// The columns that the first line names; whether it is a header, or an account's already.
fn header(text: &str) -> (Columns, bool) {
    // Spreadsheets write semicolons or tabs where the comma is for decimals.
    for delimiter in *b",;\t" {
        let names = words(text, delimiter).unwrap_or_default();
        if names.iter().any(|name| name.eq_ignore_ascii_case("email")) {
            let names = names.iter().map(|name| name.to_ascii_lowercase().replace(['-', ' '], "_")).collect();
            return (Columns { delimiter, names }, true);
        }
    }
    (Columns { delimiter: b',', names: vec!["email".to_owned()] }, false)
}

/// The words of a line of CSV.
fn words(text: &str, delimiter: u8) -> Result<Vec<String>, String> {
    if text.matches('"').count() % 2 == 1 {
        return Err("a quote is opened, and not closed in its line".to_owned());
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut records = reader.records();
    let record = records.next().transpose().map_err(|error| error.to_string())?.unwrap_or_default();
    if records.next().is_some() {
        return Err("holds a carriage return".to_owned());
    }
    Ok(record.iter().map(str::to_owned).collect())
}

fn entry(columns: &[String], words: &[String], line: u64) -> Result<Entry, String> {
    let mut options = BTreeMap::new();
    for (at, word) in words.iter().enumerate().filter(|(_, word)| !word.is_empty()) {
        match columns.get(at) {
            None => return Err(format!("{} columns where {} are named", words.len(), columns.len())),
            Some(name) if name.is_empty() => return Err(format!("column {} has a value, and no name", at + 1)),
            // For people, not for scripts.
            Some(name) if name.starts_with('#') => {}
            Some(name) if name != "email" && word.chars().any(char::is_control) => {
                return Err(format!("column {} holds a control character", at + 1));
            }
            Some(name) => {
                options.insert(name.clone(), word.clone());
            }
        }
    }
    let email = options.get("email").ok_or("no address")?;
    // `zmprov gqu` prints an address, its quota and what is used of it.
    let email = email.split_whitespace().next().unwrap_or_default();
    let address: Address = email.parse().map_err(|error: Error| error.to_string())?;
    options.insert("email".to_owned(), address.to_string());
    Ok(Entry { email: address.to_string(), options, line })
}

#[cfg(test)]
mod tests;
