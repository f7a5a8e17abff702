//! Mailbox groups: databases over which mailboxes are spread.

use crate::clients::db::{Session, name};
use crate::error::{Context, Error, Kind, Result};

/// What the databases of groups are named, before their number.
pub const GROUP_PREFIX: &str = "mboxgroup";

/// What stands for the database's name in Zimbra's own `create_database.sql`.
const PLACE: &str = "${DATABASE_NAME}";

/// The group that a new mailbox goes to, on a store with this many.
pub fn group_id(mailbox: u32, groups: u32) -> u32 {
    mailbox.saturating_sub(1) % groups.max(1) + 1
}

/// The name of a group's database.
pub fn group_name(group: u32) -> String {
    format!("{GROUP_PREFIX}{group}")
}

/// The databases of groups that are there.
pub fn groups(session: &mut Session) -> Result<Vec<String>> {
    let sql =
        format!("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE _utf8mb3'{GROUP_PREFIX}%'");
    Ok(session.all::<(String,)>(&sql, ())?.into_iter().map(|(name,)| name).collect())
}

/// Whether the group's database is there.
pub(super) fn exists(session: &mut Session, database: &str) -> Result<bool> {
    name(database)?;
    let sql = format!("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = _utf8mb3'{database}'");
    Ok(session.one::<(u32,)>(&sql, ())?.0 > 0)
}

/// Creates a group's database from the text of the store's own `create_database.sql`, unless it is there.
/// Returns whether it was created. What was begun is dropped again when a statement fails.
pub(super) fn create(session: &mut Session, database: &str, text: Option<&str>) -> Result<bool> {
    // Two runs may need one new group at the same moment.
    alone(session, database, |session| create_held(session, database, text))
}

/// Waits for who is in the middle of creating a group's database: its tables come one by one.
///
/// Fails with [`Kind::Held`] when that does not end within a minute.
pub fn await_group(session: &mut Session, database: &str) -> Result<()> {
    alone(session, database, |_| Ok(()))
}

fn alone<T>(session: &mut Session, database: &str, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
    let lock = format!("zlm.group.{database}");
    let (held,): (Option<u8>,) = session.one("SELECT GET_LOCK(?, 60)", (&lock,))?;
    if held != Some(1) {
        let message = format!("{}: database {database}: somebody else is creating it", session.store());
        return Err(Error::new(Kind::Held, message).retryable());
    }
    let done = work(session);
    session.exec("DO RELEASE_LOCK(?)", (&lock,))?;
    done
}

fn create_held(session: &mut Session, database: &str, text: Option<&str>) -> Result<bool> {
    if exists(session, database)? {
        if crate::rows::Layout::read(session, database, "mail_item")?.is_none() {
            let message = format!("{}: database {database}: is there, but has no table mail_item", session.store());
            return Err(Error::new(Kind::Refused, message));
        }
        return Ok(false);
    }
    let Some(text) = text else {
        let message = format!("{}: database {database}: does not exist", session.store());
        return Err(Error::new(Kind::Refused, message).hint("give the store's db/create_database.sql"));
    };
    let statements = statements(&text.replace(PLACE, &name(database)?));
    // Names and defaults in the text are text, not bytes.
    session.run("SET NAMES utf8mb3")?;
    let made = statements.iter().try_for_each(|statement| session.run(statement).map(drop));
    session.run("SET NAMES binary")?;
    if let Err(error) = made {
        if error.peer_code() != Some("1007") {
            session.run(&format!("DROP DATABASE IF EXISTS {}", name(database)?))?;
        }
        return Err(error).context(Kind::Peer, || format!("{}: database {database}: create", session.store()));
    }
    Ok(true)
}

/// The statements of a script, without comments.
fn statements(text: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let comment = quote.is_none() && (c == '#' || c == '-' && chars.peek() == Some(&'-'));
        if comment {
            while chars.next_if(|c| *c != '\n').is_some() {}
            continue;
        }
        match quote {
            Some(q) if q == c => quote = None,
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            None if c == ';' => {
                statements.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = statements.last_mut() {
            last.push(c);
        }
    }
    statements.iter().map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_go_round() {
        assert_eq!(group_id(1, 100), 1);
        assert_eq!(group_id(100, 100), 100);
        assert_eq!(group_id(101, 100), 1);
        assert_eq!(group_name(group_id(1407, 100)), "mboxgroup7");
    }

    #[test]
    fn a_script_is_its_statements() {
        let text = "-- a; b\nCREATE TABLE t (a INT DEFAULT ';', -- why\n b INT);\n# no;\nCREATE TABLE u (c INT);\n";
        assert_eq!(statements(text), ["CREATE TABLE t (a INT DEFAULT ';', \n b INT)", "CREATE TABLE u (c INT)"]);
    }
}
