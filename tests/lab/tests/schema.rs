//! The databases of a booted store are the ones the tables of `schema/` say, to every column and key.

use std::collections::BTreeSet;

use mysql::Conn;
use mysql::prelude::Queryable;
use zlm_lab::{STORES, ScratchLab, UTF8MB4_GROUP, groups};

type Lines = BTreeSet<String>;

#[test]
fn databases_are_as_the_tables_say() {
    let lab = ScratchLab::boot_without_mailboxd().expect("a lab");
    for store in STORES {
        let mut connection = lab.host(store).expect("a store").mysql().expect("MariaDB");
        for database in ["zimbra", "chat"] {
            check(&mut connection, store, database, database, &[]);
        }
        for group in groups(store) {
            let converted: &[&str] =
                if group == UTF8MB4_GROUP { &["mail_item", "mail_item_dumpster", "tag"] } else { &[] };
            check(&mut connection, store, &format!("mboxgroup{group}"), "mboxgroup", converted);
        }
        check_databases(&mut connection, store);
        check_converted(&mut connection, store);
        check_rows(&mut connection, store);
    }
}

/// Compares one database with what the tables say of `kind`, but for the texts of `converted` tables.
fn check(connection: &mut Conn, store: &str, database: &str, kind: &str, converted: &[&str]) {
    let is_other = |line: &String| !converted.contains(&line.split('\t').next().unwrap_or_default());
    let compare = |what: &str, expected: Lines, found: Lines| {
        let missing: Vec<_> = expected.difference(&found).collect();
        let extra: Vec<_> = found.difference(&expected).collect();
        assert!(!expected.is_empty(), "{database}: no {what} expected");
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{store} {database} {what}\nmissing {missing:#?}\nextra {extra:#?}"
        );
    };
    let columns = expected(include_str!("../schema/columns.tsv"), kind);
    compare(
        "columns",
        columns.into_iter().filter(is_other).collect(),
        found_columns(connection, database).into_iter().filter(is_other).collect(),
    );
    compare("keys", expected(include_str!("../schema/keys.tsv"), kind), found_keys(connection, database));
    compare("tables", expected(include_str!("../schema/tables.tsv"), kind), found_tables(connection, database));
}

/// The lines of a table about one database, without its name.
fn expected(table: &str, kind: &str) -> Lines {
    table.lines().skip(1).filter_map(|line| line.strip_prefix(&format!("{kind}\t")).map(str::to_owned)).collect()
}

fn found_columns(connection: &mut Conn, database: &str) -> Lines {
    lines(
        connection,
        database,
        "SELECT CONCAT_WS('\t', table_name, ordinal_position, column_name, column_type, COALESCE(collation_name, '-'),
                is_nullable, COALESCE(column_default, '-'), IF(extra = '', '-', extra))
         FROM information_schema.columns WHERE table_schema = ?",
    )
}

fn found_tables(connection: &mut Conn, database: &str) -> Lines {
    lines(
        connection,
        database,
        "SELECT CONCAT_WS('\t', table_name, engine) FROM information_schema.tables WHERE table_schema = ?",
    )
}

fn found_keys(connection: &mut Conn, database: &str) -> Lines {
    let mut keys = lines(
        connection,
        database,
        "SELECT CONCAT_WS('\t', table_name,
                IF(index_name = 'PRIMARY', 'PRIMARY', IF(non_unique, 'INDEX', 'UNIQUE')), index_name,
                GROUP_CONCAT(column_name, IF(sub_part IS NULL, '', CONCAT('(', sub_part, ')')) ORDER BY seq_in_index),
                '-', '-')
         FROM information_schema.statistics WHERE table_schema = ? GROUP BY table_name, index_name, non_unique",
    );
    keys.extend(lines(
        connection,
        database,
        "SELECT CONCAT_WS('\t', u.table_name, 'FOREIGN', u.constraint_name,
                GROUP_CONCAT(u.column_name ORDER BY u.ordinal_position),
                CONCAT(REGEXP_REPLACE(u.referenced_table_schema, '^mboxgroup[0-9]+$', 'mboxgroup'), '.',
                       u.referenced_table_name, '(',
                       GROUP_CONCAT(u.referenced_column_name ORDER BY u.ordinal_position), ')'),
                r.delete_rule)
         FROM information_schema.key_column_usage u
         JOIN information_schema.referential_constraints r
           ON r.constraint_schema = u.constraint_schema AND r.table_name = u.table_name
          AND r.constraint_name = u.constraint_name
         WHERE u.table_schema = ? AND u.referenced_table_name IS NOT NULL
         GROUP BY u.table_name, u.constraint_name",
    ));
    keys
}

fn lines(connection: &mut Conn, database: &str, query: &str) -> Lines {
    let rows: Vec<String> = connection.exec(query, (database,)).expect("information_schema");
    rows.into_iter().collect()
}

/// The groups that exist, and that every database is utf8 unless told otherwise.
fn check_databases(connection: &mut Conn, store: &str) {
    let found: Vec<(String, String)> = connection
        .query(
            "SELECT schema_name, default_character_set_name FROM information_schema.schemata
             WHERE schema_name NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')",
        )
        .expect("databases");
    let mut expected: BTreeSet<String> = ["zimbra", "chat"].map(str::to_owned).into();
    expected.extend(groups(store).map(|group| format!("mboxgroup{group}")));
    assert!(found.iter().all(|(_, set)| set == "utf8mb3"), "{found:?}");
    assert_eq!(found.into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), expected);
}

/// In one group the tables with names and subjects hold four bytes a character.
fn check_converted(connection: &mut Conn, store: &str) {
    let found: Vec<(String, String)> = connection
        .exec(
            "SELECT DISTINCT table_name, character_set_name FROM information_schema.columns
             WHERE table_schema = ? AND character_set_name = 'utf8mb4' ORDER BY 1",
            (format!("mboxgroup{UTF8MB4_GROUP}"),),
        )
        .expect("columns");
    let tables: Vec<&str> = found.iter().map(|(table, _)| table.as_str()).collect();
    assert_eq!(tables, ["mail_item", "mail_item_dumpster", "tag"], "{store}");
}

fn check_rows(connection: &mut Conn, store: &str) {
    let counter: Vec<(u8, u8, u8, u32)> = connection
        .query("SELECT message_volume_id, secondary_message_volume_id, index_volume_id, next_mailbox_id FROM zimbra.current_volumes")
        .expect("current volumes");
    assert_eq!(counter, [if store == "store1" { (1, 3, 2, 200) } else { (1, 4, 2, 101) }]);
    let version: Option<String> =
        connection.query_first("SELECT value FROM zimbra.config WHERE name = 'db.version'").expect("config");
    assert_eq!(version.as_deref(), Some("118"));
}
