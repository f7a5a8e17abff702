//! Pieces of statements: names and values that cannot end where they should not.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// A value that a statement is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// NULL.
    Null,
    /// A whole number.
    Int(i64),
    /// A text, compared byte by byte.
    Text(String),
}

/// A database, table or column name in backticks. Only letters, digits, `_` and `$` are taken, as Zimbra's are.
pub fn name(text: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err(Error::new(Kind::Usage, format!("name {text:?}: not a name of a database, table or column")));
    }
    Ok(format!("`{text}`"))
}

/// A word that may stand in a statement as it is, such as the name of a character set or a collation. What a server says
/// is one becomes a part of statements for another only as this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    /// Fails with [`Kind::Peer`] for anything but letters, digits and `_`.
    pub fn parse(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => {
                Err(Error::new(Kind::Peer, format!("name {text:?}: not a name of a character set or a collation")))
            }
        }
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as it stands in a statement: texts in hexadecimal, which need no escaping under any `sql_mode`.
pub fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Int(n) => n.to_string(),
        Value::Text(text) => hex(text.as_bytes()),
    }
}

/// Bytes as a hexadecimal string literal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2 + 3);
    out.push_str("x'");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out.push('\'');
    out
}

/// Numbers separated by commas.
pub fn numbers(list: &[i64]) -> String {
    let texts: Vec<String> = list.iter().map(i64::to_string).collect();
    texts.join(",")
}

/// `sql` with each `?` outside quotes replaced by the literal of the value in its place.
pub(crate) fn bind(sql: &str, values: &[Value]) -> Result<String> {
    let mut out = String::with_capacity(sql.len() + 16 * values.len());
    let mut left = values.iter();
    let mut quote = None;
    for c in sql.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            None if c == '?' => {
                let Some(value) = left.next() else { return Err(unbound(sql)) };
                out.push_str(&literal(value));
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    if left.next().is_some() || quote.is_some() {
        return Err(unbound(sql));
    }
    Ok(out)
}

fn unbound(sql: &str) -> Error {
    Error::new(Kind::Usage, format!("condition {sql:?}: placeholders and values do not pair"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        assert_eq!(name("mboxgroup12").unwrap(), "`mboxgroup12`");
        for bad in ["", "a`b", "a b", "a;b", "ü", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_words() {
        assert_eq!(Word::parse("utf8mb4_0900_ai_ci").unwrap().as_str(), "utf8mb4_0900_ai_ci");
        for bad in ["", "latin1),1 FROM x; --", "a b", "a-b", "a`b", &"x".repeat(65)] {
            assert_eq!(Word::parse(bad).unwrap_err().kind(), Kind::Peer, "{bad}");
        }
    }

    #[test]
    fn values_cannot_leave_their_place() {
        let bound = bind("a = ? AND b = '?' AND c = ?", &[Value::Text("x' OR 1=1".into()), Value::Int(7)]).unwrap();
        assert_eq!(bound, "a = x'7827204f5220313d31' AND b = '?' AND c = 7");
        assert!(bind("a = ?", &[]).is_err());
        assert!(bind("a = 1", &[Value::Int(1)]).is_err());
    }
}
