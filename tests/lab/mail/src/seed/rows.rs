//! Rows on their way to a table, many to a statement.

use mysql::Value;
use mysql::prelude::Queryable;

use crate::Result;

/// Statements are sent when they reach this many bytes.
const STATEMENT: usize = 1 << 20;

/// Rows of one table with one list of columns.
pub(super) struct Rows {
    head: String,
    sql: String,
    sent: u64,
}

impl Rows {
    /// Rows of `table`, qualified, with these comma-separated columns.
    pub(super) fn new(table: &str, columns: &str) -> Self {
        Self { head: format!("INSERT INTO {table} ({columns}) VALUES "), sql: String::new(), sent: 0 }
    }

    /// Adds a row; sends what is waiting when it is much.
    pub(super) fn push(&mut self, conn: &mut mysql::Conn, row: &[Value]) -> Result<()> {
        if self.sql.is_empty() {
            self.sql.push_str(&self.head);
        } else {
            self.sql.push(',');
        }
        self.sql.push('(');
        for (n, value) in row.iter().enumerate() {
            if n > 0 {
                self.sql.push(',');
            }
            literal(&mut self.sql, value);
        }
        self.sql.push(')');
        self.sent += 1;
        if self.sql.len() >= STATEMENT {
            self.flush(conn)?;
        }
        Ok(())
    }

    /// Sends what is waiting and says how many rows there were so far.
    pub(super) fn flush(&mut self, conn: &mut mysql::Conn) -> Result<u64> {
        if !self.sql.is_empty() {
            conn.query_drop(&self.sql)?;
            self.sql.clear();
        }
        Ok(self.sent)
    }
}

/// Appends a value as a literal. Text is made by the seeder and is UTF-8 always.
fn literal(sql: &mut String, value: &Value) {
    match value {
        Value::Bytes(bytes) => {
            sql.push('\'');
            quote(sql, &String::from_utf8_lossy(bytes));
            sql.push('\'');
        }
        other => sql.push_str(&other.as_sql(false)),
    }
}

fn quote(sql: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['\0', '\'', '\\']) {
        sql.push_str(&rest[..at]);
        sql.push('\\');
        let special = rest.as_bytes()[at];
        sql.push(if special == 0 { '0' } else { char::from(special) });
        rest = &rest[at + 1..];
    }
    sql.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_quoted() {
        let mut sql = String::new();
        literal(&mut sql, &Value::from("\0a'b\\c\0"));
        literal(&mut sql, &Value::NULL);
        literal(&mut sql, &Value::from(-6));
        assert_eq!(sql, r"'\0a\'b\\c\0'NULL-6");
    }
}
