//! Databases of mailbox groups.

use std::fs;
use std::path::Path;

use mysql::prelude::Queryable;

use crate::{Error, Result};

/// The group whose text columns take characters of four bytes, as administrators have converted some.
const CONVERTED: u32 = 5;

/// Columns that hold users' text.
const TEXTS: &[(&str, &str)] = &[
    ("mail_item", "sender VARCHAR(128)"),
    ("mail_item", "recipients VARCHAR(128)"),
    ("mail_item", "subject TEXT"),
    ("mail_item", "name VARCHAR(255)"),
    ("mail_item", "metadata MEDIUMTEXT"),
    ("mail_item_dumpster", "sender VARCHAR(128)"),
    ("mail_item_dumpster", "recipients VARCHAR(128)"),
    ("mail_item_dumpster", "subject TEXT"),
    ("mail_item_dumpster", "name VARCHAR(255)"),
    ("mail_item_dumpster", "metadata MEDIUMTEXT"),
];

/// Makes the database of a mailbox group when it is absent, from `db/create_database.sql` below `home`;
/// group 5 gets text columns that take characters of four bytes.
///
/// # Errors
/// The file cannot be read, or what the server refuses.
pub fn ensure_group(conn: &mut mysql::Conn, home: &Path, group: u32) -> Result<()> {
    let database = format!("mboxgroup{group}");
    if !exists(conn, &database)? {
        create(conn, home, &database)?;
    }
    if group == CONVERTED && !converted(conn, &database)? {
        for (table, column) in TEXTS {
            conn.query_drop(format!("ALTER TABLE {database}.{table} MODIFY {column} CHARACTER SET utf8mb4"))?;
        }
    }
    Ok(())
}

fn exists(conn: &mut mysql::Conn, database: &str) -> Result<bool> {
    let found: Option<u8> =
        conn.exec_first("SELECT 1 FROM information_schema.schemata WHERE schema_name = ?", (database,))?;
    Ok(found.is_some())
}

fn converted(conn: &mut mysql::Conn, database: &str) -> Result<bool> {
    let charset: Option<String> = conn.exec_first(
        "SELECT character_set_name FROM information_schema.columns WHERE table_schema = ? \
         AND table_name = 'mail_item_dumpster' AND column_name = 'metadata'",
        (database,),
    )?;
    Ok(charset.as_deref() == Some("utf8mb4"))
}

fn create(conn: &mut mysql::Conn, home: &Path, database: &str) -> Result<()> {
    let path = home.join("db/create_database.sql");
    let script =
        fs::read_to_string(&path).map_err(|e| Error::refused(format!("{}: cannot read: {e}", path.display())))?;
    for statement in statements(&script) {
        conn.query_drop(statement.replace("${DATABASE_NAME}", database))?;
    }
    Ok(())
}

/// The statements of a script whose comments run from `--` to the end of a line.
pub(crate) fn statements(script: &str) -> Vec<String> {
    let code: Vec<&str> = script.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
    code.join("\n").split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_into_statements() {
        let script = "-- a; comment\nCREATE a; -- b;c\nCREATE\n b;\n";
        assert_eq!(statements(script), ["CREATE a", "CREATE\n b"]);
    }
}
