//! A store's MariaDB: installed as Zimbra has it, with the databases `zimbra`, `chat` and some mailbox groups.

use anyhow::{Context, Result};
use mysql::prelude::Queryable;

use crate::host::Host;
use crate::layout::write_zimbra_file;
use crate::process::output;

/// What a mailbox group's database is made from, for whoever meets a group that does not exist yet.
pub const CREATE_DATABASE: &str = include_str!("../schema/create_database.sql");

/// The group whose tables with text hold four bytes a character, on both stores.
pub const UTF8MB4_GROUP: u32 = 5;

/// The mailbox groups a new store has. A mailbox that moves from group 7 of store1 meets no such group on store2.
pub fn groups(store: &str) -> std::ops::RangeInclusive<u32> {
    if store == "store1" { 1..=10 } else { 1..=6 }
}

/// Writes the configuration and makes an empty data directory.
pub(crate) fn install(store: &Host) -> Result<()> {
    write_zimbra_file(store, "conf/my.cnf", 0o640, include_str!("etc/my.cnf"))?;
    write_zimbra_file(store, "db/create_database.sql", 0o644, CREATE_DATABASE)?;
    output(&mut store.command(
        "zimbra",
        &[
            "mariadb-install-db",
            "--defaults-file=/opt/zimbra/conf/my.cnf",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
    ))
    .map(drop)
}

/// Fills a running, empty MariaDB: the user `zimbra` and every database.
pub(crate) fn create_databases(store: &Host, password: &str) -> Result<()> {
    let mut connection = store.mysql()?;
    let mut script = String::new();
    for host in ["localhost", "127.0.0.1"] {
        script.push_str(&format!(
            "CREATE USER zimbra@'{host}' IDENTIFIED BY '{password}';\n\
             GRANT ALL PRIVILEGES ON *.* TO zimbra@'{host}' WITH GRANT OPTION;\n"
        ));
    }
    run(&mut connection, &script).with_context(|| format!("{}: user zimbra", store.name))?;
    let databases = [
        ("zimbra.sql", include_str!("../schema/zimbra.sql")),
        ("chat.sql", include_str!("../schema/chat.sql")),
        match store.name {
            "store1" => ("store1.sql", include_str!("../schema/store1.sql")),
            _ => ("store2.sql", include_str!("../schema/store2.sql")),
        },
    ];
    for (file, script) in databases {
        run(&mut connection, script).with_context(|| format!("{}: {file}", store.name))?;
    }
    for group in groups(store.name) {
        create_group(&mut connection, group).with_context(|| format!("{}: mboxgroup{group}", store.name))?;
    }
    for table in ["mail_item", "mail_item_dumpster", "tag"] {
        let convert = format!("ALTER TABLE mboxgroup{UTF8MB4_GROUP}.{table} CONVERT TO CHARACTER SET utf8mb4");
        connection.query_drop(convert).with_context(|| format!("{}: {table}", store.name))?;
    }
    Ok(())
}

/// Makes the database of one mailbox group.
pub fn create_group(connection: &mut mysql::Conn, group: u32) -> Result<()> {
    run(connection, &CREATE_DATABASE.replace("${DATABASE_NAME}", &format!("mboxgroup{group}")))
}

/// Runs a script of many statements, each of which must succeed.
fn run(connection: &mut mysql::Conn, script: &str) -> Result<()> {
    let mut results = connection.query_iter(script)?;
    while let Some(rows) = results.iter() {
        for row in rows {
            row?;
        }
    }
    Ok(())
}
