//! The journal's tables, and which format of them this zlm reads and writes.

use rusqlite::{Connection, ErrorCode};

use crate::error::{Error, Kind, Result};

/// The format that this zlm writes. Older ones are brought up to it; a newer one is refused.
pub(super) const FORMAT: i64 = 1;

const TABLES: &str = "
CREATE TABLE run (
    run TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    email TEXT,
    began INTEGER NOT NULL,
    ended INTEGER,
    version TEXT NOT NULL,
    pinned TEXT NOT NULL,
    subject TEXT,
    switched INTEGER NOT NULL DEFAULT 0,
    error TEXT
) STRICT;
CREATE INDEX run_email ON run (email);
CREATE TABLE operation (
    run TEXT NOT NULL REFERENCES run (run),
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    what TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    undo TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    error TEXT,
    undone INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, number),
    UNIQUE (run, name, what, ordinal)
) STRICT;
";

/// Sets a connection up, and makes the tables where they are not there.
///
/// Fails with [`Kind::Config`] for a newer format, [`Kind::Data`] for what is damaged or no journal, [`Kind::Io`].
pub(super) fn prepare(db: &Connection, name: &str) -> Result<()> {
    let (sound, format) = look(db).map_err(|error| broken(name, error))?;
    if sound != "ok" {
        return Err(damaged(name).because(sound));
    }
    match format {
        FORMAT => Ok(()),
        0 => create(db).map_err(|error| broken(name, error)),
        newer => {
            Err(Error::new(Kind::Config, format!("journal {name}: has format {newer}, and this zlm knows {FORMAT}"))
                .hint("a newer zlm wrote it: use that one"))
        }
    }
}

/// What SQLite says of the file, and its format.
fn look(db: &Connection) -> rusqlite::Result<(String, i64)> {
    db.busy_timeout(std::time::Duration::from_secs(30))?;
    // Readers go on while a run writes; what is committed survives a power cut.
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    let sound = db.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
    Ok((sound, db.query_row("PRAGMA user_version", [], |row| row.get(0))?))
}

fn broken(name: &str, error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => damaged(name).because(error),
        _ => Error::new(Kind::Io, format!("journal {name}: opening")).because(error),
    }
}

fn damaged(name: &str) -> Error {
    Error::new(Kind::Data, format!("journal {name}: is damaged, or none"))
        .hint("move the directory away; `zlm reconcile EMAIL` then says how each account that was under way stands")
}

fn create(db: &Connection) -> rusqlite::Result<()> {
    // Two processes may open a new journal at once; the one that comes second finds it made.
    db.execute_batch("BEGIN IMMEDIATE")?;
    let format: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format == 0 {
        db.execute_batch(TABLES)?;
        db.pragma_update(None, "user_version", FORMAT)?;
    }
    db.execute_batch("COMMIT")
}
