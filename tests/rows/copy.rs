//! Copying rows: everything arrives as it was, or the copy says why not.

use std::collections::BTreeMap;

use zlm::cancel::Cancel;
use zlm::error::{Kind, Result};
use zlm::rows::{Dump, InjectOptions, Injected, Rewrite, dump_table, inject, rewrite_ids};

use crate::servers::{Pair, Server};

/// Moves mailbox `from` to `to` in table `mboxgroup1.TABLE`, volume 1 becoming 3.
pub fn dump(table: &str, from: u32, to: i64) -> Dump {
    let dump = dump_table("mboxgroup1", table).mailbox(from);
    let mut rewrites = BTreeMap::from([("mailbox_id".to_string(), Rewrite::Constant(to))]);
    if ["mail_item", "mail_item_dumpster", "revision", "revision_dumpster"].contains(&table) {
        rewrites.insert("locator".into(), Rewrite::Map(BTreeMap::from([("1".into(), "3".into())])));
    }
    rewrite_ids(dump, rewrites)
}

pub fn copy(pair: &Pair, dump: &Dump) -> Result<Injected> {
    copy_to(&pair.source, &pair.destination, dump, &InjectOptions::default())
}

pub fn copy_to(source: &Server, destination: &Server, dump: &Dump, options: &InjectOptions) -> Result<Injected> {
    let copy = || inject(&source.pool(), &destination.pool(), dump, options, &|_| Ok(()), &Cancel::default());
    // By a thread that holds no other connection: one that does must not wait for any.
    std::thread::scope(|scope| scope.spawn(copy).join().unwrap())
}

/// `count` messages from id 257 on.
pub fn messages(server: &Server, mailbox: u32, count: u32) {
    server.sql(&format!(
        "INSERT INTO mboxgroup1.mail_item (mailbox_id, id, type, parent_id, folder_id, index_id, imap_id, date, size, \
         locator, blob_digest, unread, tag_names, sender, subject, name, metadata, mod_metadata, change_date, \
         mod_content, uuid) SELECT {mailbox}, 256+seq, 5, NULL, 2, 256+seq, 256+seq, 1600000000+seq, 2048, '1', \
         SHA1(seq), 1, IF(seq%10=0, x'00746167003100', NULL), 'sender', CONCAT('see ({mailbox}, ', seq, ')'), \
         CONCAT('name', seq), CONCAT('6:({mailbox},1)', REPEAT(MD5(seq), 8)), 300+seq, 1600000000+seq, 300+seq, UUID() \
         FROM mboxgroup1.seq_1_to_{count}"
    ));
}

/// The rows of a table without its mailbox and volume, in order of their text.
fn contents(server: &Server, table: &str, mailbox: i64) -> Vec<zlm::clients::db::Raw> {
    let columns = server.rows(&format!(
        "SELECT CONCAT('`', GROUP_CONCAT(COLUMN_NAME ORDER BY COLUMN_NAME SEPARATOR '`,`'), '`') \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = _utf8mb3'mboxgroup1' AND TABLE_NAME = _utf8mb3'{table}' \
         AND COLUMN_NAME NOT IN ('mailbox_id', 'locator')"
    ));
    let columns = String::from_utf8(columns[0][0].clone().unwrap()).unwrap();
    let mut rows = server.rows(&format!("SELECT {columns} FROM mboxgroup1.{table} WHERE mailbox_id = {mailbox}"));
    rows.sort();
    rows
}

#[test]
fn a_mailbox_of_messages_arrives_and_again_is_nothing() {
    let pair = Pair::shared();
    messages(&pair.source, 101, 20_000);
    let dump = dump("mail_item", 101, 1101);
    let first = copy(&pair, &dump).unwrap();
    assert_eq!((first.inserted, first.deleted, first.unchanged), (20_000, 0, 0));
    assert_eq!(contents(&pair.source, "mail_item", 101), contents(&pair.destination, "mail_item", 1101));
    let wrong = "SELECT COUNT(*) FROM mboxgroup1.mail_item WHERE mailbox_id = 1101 AND NOT locator <=> '3'";
    assert_eq!(pair.destination.number(wrong), 0);
    let again = copy(&pair, &dump).unwrap();
    assert_eq!((again.inserted, again.deleted, again.unchanged), (0, 0, 20_000));
}

#[test]
fn only_what_differs_is_moved() {
    let pair = Pair::shared();
    messages(&pair.source, 102, 10_000);
    let dump = dump("mail_item", 102, 1102);
    copy(&pair, &dump).unwrap();
    // Vanished, new, changed without mod_metadata, and two that swapped the name that a unique key holds.
    pair.source.sql(
        "DELETE FROM mboxgroup1.mail_item WHERE mailbox_id = 102 AND id IN (300, 5000);\n\
         UPDATE mboxgroup1.mail_item SET index_id = 0, flags = 4 WHERE mailbox_id = 102 AND id BETWEEN 400 AND 404;\n\
         UPDATE mboxgroup1.mail_item SET name = 'x' WHERE mailbox_id = 102 AND id = 600;\n\
         UPDATE mboxgroup1.mail_item SET name = 'name344' WHERE mailbox_id = 102 AND id = 9000;\n\
         UPDATE mboxgroup1.mail_item SET name = 'name8744' WHERE mailbox_id = 102 AND id = 600;\n",
    );
    let delta = copy(&pair, &dump).unwrap();
    assert_eq!((delta.inserted, delta.deleted), (7, 9));
    assert_eq!(contents(&pair.source, "mail_item", 102), contents(&pair.destination, "mail_item", 1102));
}

#[test]
fn what_the_change_number_tells_is_written_over_what_was_there() {
    let pair = Pair::shared();
    messages(&pair.source, 131, 5_000);
    let dump = dump("mail_item", 131, 1131);
    copy(&pair, &dump).unwrap();
    // Changed, new, and changed with a change number of before, which only the comparison finds.
    pair.source.sql(
        "UPDATE mboxgroup1.mail_item SET tag_names = x'0078790000', mod_metadata = 9000 WHERE mailbox_id = 131 AND id % 7 = 0;\n\
         UPDATE mboxgroup1.mail_item SET subject = 'SEE', mod_metadata = 9001 WHERE mailbox_id = 131 AND id = 300;\n\
         UPDATE mboxgroup1.mail_item SET flags = 8 WHERE mailbox_id = 131 AND id = 302;\n\
         INSERT INTO mboxgroup1.mail_item (mailbox_id, id, type, date, size, mod_metadata, mod_content) \
         VALUES (131, 90001, 5, 1, 1, 9002, 9002)",
    );
    let changed =
        "SELECT COUNT(*) FROM mboxgroup1.mail_item WHERE mailbox_id = 131 AND mod_metadata BETWEEN 9000 AND 9001";
    let changed = pair.source.number(changed) as u64;
    let delta = copy(&pair, &dump).unwrap();
    assert_eq!((delta.inserted, delta.deleted), (changed + 2, changed + 1));
    assert_eq!(delta.unchanged, 5_000 - changed - 1);
    assert_eq!(contents(&pair.source, "mail_item", 131), contents(&pair.destination, "mail_item", 1131));
}

#[test]
fn a_new_row_may_have_the_name_of_one_that_is_gone() {
    let pair = Pair::shared();
    messages(&pair.source, 132, 1_000);
    let dump = dump("mail_item", 132, 1132);
    copy(&pair, &dump).unwrap();
    pair.source.sql(
        "DELETE FROM mboxgroup1.mail_item WHERE mailbox_id = 132 AND id = 400;\n\
         INSERT INTO mboxgroup1.mail_item (mailbox_id, id, type, folder_id, date, size, name, mod_metadata, mod_content) \
         VALUES (132, 90001, 5, 2, 1, 1, 'name144', 9000, 9000);\n\
         UPDATE mboxgroup1.mail_item SET name = 'x', mod_metadata = 9001 WHERE mailbox_id = 132 AND id = 500;\n\
         UPDATE mboxgroup1.mail_item SET name = 'name244', mod_metadata = 9001 WHERE mailbox_id = 132 AND id = 501;\n\
         UPDATE mboxgroup1.mail_item SET name = 'name245', mod_metadata = 9001 WHERE mailbox_id = 132 AND id = 500",
    );
    copy(&pair, &dump).unwrap();
    assert_eq!(contents(&pair.source, "mail_item", 132), contents(&pair.destination, "mail_item", 1132));
}

#[test]
fn an_unmapped_locator_stops_the_copy() {
    let pair = Pair::shared();
    messages(&pair.source, 103, 10);
    pair.source.sql("UPDATE mboxgroup1.mail_item SET locator = '2' WHERE mailbox_id = 103 AND id = 260");
    let error = copy(&pair, &dump("mail_item", 103, 1103)).unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.to_string().contains("locator 2 is not mapped"), "{error}");
}

#[test]
fn every_type_arrives_byte_by_byte_whatever_the_order_of_columns() {
    let pair = Pair::start(&[]);
    let columns = "i BIGINT, u BIGINT UNSIGNED, f FLOAT, d DOUBLE, n DECIMAL(20,6), b BIT(10), t TEXT, lt VARCHAR(90) \
                   CHARACTER SET latin1, bl BLOB, e ENUM('x','ü'), s SET('a','b'), dt DATETIME(3), ts TIMESTAMP NULL, \
                   da DATE, ti TIME(2), y YEAR, vb VARBINARY(40), c CHAR(9)";
    pair.source.sql(&format!("CREATE TABLE mboxgroup1.types_ (mailbox_id INT UNSIGNED, id INT NOT NULL, {columns}, PRIMARY KEY (mailbox_id, id))"));
    let mut turned: Vec<&str> = columns.split(", ").collect();
    turned.reverse();
    let turned = turned.join(", ").replace("lt VARCHAR(90) CHARACTER SET latin1", "lt VARCHAR(90)");
    pair.destination.sql(&format!("CREATE TABLE mboxgroup1.types_ ({turned}, id INT NOT NULL, mailbox_id INT UNSIGNED, extra INT DEFAULT 7, PRIMARY KEY (mailbox_id, id))"));
    pair.source.sql(
        "INSERT INTO mboxgroup1.types_ VALUES (1, -5, -9223372036854775808, 18446744073709551615, 0.1, 0.1, -12.345678, b'1000000001', \
         x'00095C0A0D1A272200', x'fce9', x'00ff5c4e0a', 'x', 'a,b', '2024-00-10 00:00:00', '2024-03-31 01:30:00', '0000-00-00', '-838:59:59', 2024, x'', 'a');\n\
         INSERT INTO mboxgroup1.types_ (mailbox_id, id) VALUES (1, 0);\n\
         INSERT INTO mboxgroup1.types_ (mailbox_id, id, t, bl, vb, f, d, i) VALUES (1, 4096, '', '', x'5c4e', 16777217, 1e300, 0)",
    );
    let dump = dump("types_", 1, 2);
    for (name, local) in [("LOAD DATA", 1), ("INSERT", 0)] {
        pair.destination.sql(&format!("DELETE FROM mboxgroup1.types_;\nSET GLOBAL local_infile = {local}"));
        let injected = copy(&pair, &dump).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(injected.inserted, 3, "{name}");
        let read = "SELECT id, i, u, f + 0e0, d, n, b + 0, HEX(t), CONVERT(lt USING utf8mb3), HEX(bl), HEX(e), s + 0, dt, ts, da, ti, y, HEX(vb), c \
                    FROM mboxgroup1.types_ ORDER BY id";
        assert_eq!(pair.source.rows(read), pair.destination.rows(read), "{name}");
        let again = copy(&pair, &dump).unwrap();
        assert_eq!((again.inserted, again.deleted), (0, 0), "{name}");
    }
}

#[test]
fn text_that_would_be_lost_is_an_error() {
    let pair = Pair::shared();
    pair.source.sql("CREATE TABLE mboxgroup1.text_ (mailbox_id INT UNSIGNED, id INT, t TEXT CHARACTER SET utf8mb4, PRIMARY KEY (mailbox_id, id))");
    pair.destination.sql("CREATE TABLE mboxgroup1.text_ (mailbox_id INT UNSIGNED, id INT, t TEXT CHARACTER SET utf8mb3, PRIMARY KEY (mailbox_id, id))");
    pair.source.sql("INSERT INTO mboxgroup1.text_ VALUES (1, 1, 'plain ü'), (1, 2, x'736563726574f09f9880')");
    let error = copy(&pair, &dump("text_", 1, 2)).unwrap_err();
    assert_eq!((error.kind(), error.peer_code()), (Kind::Data, Some("1366")), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(pair.destination.number("SELECT COUNT(*) FROM mboxgroup1.text_"), 0);
}

#[test]
fn what_does_not_fit_is_refused_with_every_reason() {
    let pair = Pair::shared();
    pair.source.sql("CREATE TABLE mboxgroup1.fit_ (mailbox_id INT UNSIGNED, id INT, a BIGINT, b VARCHAR(50), only_ INT, PRIMARY KEY (mailbox_id, id))");
    pair.destination.sql("CREATE TABLE mboxgroup1.fit_ (mailbox_id INT UNSIGNED, id INT, a INT, b VARCHAR(10), must INT NOT NULL, PRIMARY KEY (mailbox_id, id))");
    pair.source.sql("INSERT INTO mboxgroup1.fit_ VALUES (1, 1, 1, 'more than ten', 5), (9, 1, 1, '', NULL)");
    let error = copy(&pair, &dump("fit_", 1, 2)).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    // Whether a narrower text column holds what is there is asked of the texts, not of the columns.
    for reason in ["fit_.a:", "fit_.must:", "fit_.only_:"] {
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(!copy(&pair, &dump("fit_", 9, 2)).unwrap_err().to_string().contains("only_"));
    pair.source.sql(
        "CREATE TABLE mboxgroup1.lone_ (mailbox_id INT UNSIGNED, id INT);\nINSERT INTO mboxgroup1.lone_ VALUES (1, 1)",
    );
    assert_eq!(copy(&pair, &dump("lone_", 1, 2)).unwrap_err().kind(), Kind::Refused);
    assert_eq!(copy(&pair, &dump("lone_", 2, 2)).unwrap().inserted, 0);
}

#[test]
fn a_row_as_large_as_a_packet_goes_through() {
    let pair = Pair::start(&[]);
    let size = 159 * 1024 * 1024 / 10;
    pair.source.sql(&format!(
        "INSERT INTO mboxgroup1.mail_item (mailbox_id, id, type, date, size, metadata, mod_metadata, mod_content) \
         VALUES (104, 300, 5, 1, 1, REPEAT('x', {size}), 1, 1), (104, 301, 5, 1, 1, REPEAT(x'0a', {size} - 5000000), 1, 1)"
    ));
    for local in [1, 0] {
        pair.destination.sql(&format!(
            "DELETE FROM mboxgroup1.mail_item WHERE mailbox_id = 1104;\nSET GLOBAL local_infile = {local}"
        ));
        assert_eq!(copy(&pair, &dump("mail_item", 104, 1104)).unwrap().inserted, 2);
        assert_eq!(copy(&pair, &dump("mail_item", 104, 1104)).unwrap().unchanged, 2);
    }
}

#[test]
fn tables_without_a_number_or_a_key_become_equal() {
    let pair = Pair::shared();
    pair.source.sql(
        "INSERT INTO mboxgroup1.tombstone VALUES (105, 10, 1, 5, '300,301'), (105, 10, 1, 5, '300,301'), (105, 11, 1, NULL, NULL);\n\
         INSERT INTO mboxgroup1.event (mailbox_id, account_id, item_id, folder_id, op, ts) VALUES (105, 'a', 1, 2, 3, 4), (105, 'a', 1, 2, 3, 4);\n\
         INSERT INTO mboxgroup1.tag (mailbox_id, id, name, sequence) VALUES (105, -3, 'flag', 1), (105, 64, 'A', 2), (105, 65, 'B', 2), (106, 64, 'of another', 2);\n\
         INSERT INTO mboxgroup1.tagged_item VALUES (105, 64, 257), (105, 64, 9000), (105, -3, 257);\n\
         INSERT INTO mboxgroup1.open_conversation VALUES (105, 'hash', 300);\n\
         INSERT INTO mboxgroup1.appointment VALUES (105, 'uid', 300, '2024-01-01 10:00:00', NULL);\n\
         INSERT INTO mboxgroup1.watch VALUES (105, 'target', 9)",
    );
    let tables = ["tombstone", "event", "tag", "tagged_item", "open_conversation", "appointment", "watch"];
    let check = || {
        for table in tables {
            copy(&pair, &dump(table, 105, 1105)).unwrap_or_else(|e| panic!("{table}: {e}"));
            assert_eq!(contents(&pair.source, table, 105), contents(&pair.destination, table, 1105), "{table}");
            let again = copy(&pair, &dump(table, 105, 1105)).unwrap();
            assert_eq!((again.inserted, again.deleted), (0, 0), "{table}");
        }
    };
    check();
    pair.source.sql(
        "DELETE FROM mboxgroup1.tombstone WHERE mailbox_id = 105 LIMIT 1;\nDELETE FROM mboxgroup1.event WHERE mailbox_id = 105;\n\
         UPDATE mboxgroup1.tag SET name = 'C' WHERE mailbox_id = 105 AND id = 64;\n\
         UPDATE mboxgroup1.tag SET name = 'A' WHERE mailbox_id = 105 AND id = 65;\n\
         UPDATE mboxgroup1.tag SET name = 'B' WHERE mailbox_id = 105 AND id = 64;\n\
         DELETE FROM mboxgroup1.tagged_item WHERE mailbox_id = 105 AND item_id = 9000",
    );
    check();
}

#[test]
fn a_key_over_several_mailboxes_meets_rows_of_others() {
    let pair = Pair::shared();
    pair.source
        .sql("INSERT INTO mboxgroup1.pop3_message VALUES (107, 'source', 'uid', 300), (107, 'source', 'uid2', 301)");
    pair.destination.sql("INSERT INTO mboxgroup1.pop3_message VALUES (3, 'source', 'uid', 9)");
    let error = copy(&pair, &dump("pop3_message", 107, 1107)).unwrap_err();
    assert_eq!((error.kind(), error.peer_code()), (Kind::Data, Some("1062")), "{error}");
    assert_eq!(pair.destination.number("SELECT COUNT(*) FROM mboxgroup1.pop3_message"), 1);
}

#[test]
fn swapped_texts_of_one_length_are_seen() {
    let pair = Pair::shared();
    messages(&pair.source, 108, 4000);
    let dump = dump("mail_item", 108, 1108);
    copy(&pair, &dump).unwrap();
    // Every even message takes the subject of its neighbour and the other way round: of plain CRCs neither
    // the XOR nor, often, the sum would change.
    pair.source.sql("UPDATE mboxgroup1.mail_item a JOIN mboxgroup1.mail_item b ON b.mailbox_id = 108 AND b.id = a.id ^ 1 SET a.subject = b.subject WHERE a.mailbox_id = 108 AND a.id = 1000");
    pair.source.sql("UPDATE mboxgroup1.mail_item SET subject = 'see (108, 744)' WHERE mailbox_id = 108 AND id = 1001");
    assert_eq!(copy(&pair, &dump).unwrap().inserted, 2);
}

#[test]
fn a_killed_destination_is_no_loss() {
    let pair = Pair::start(&["--innodb_flush_log_at_trx_commit=0"]);
    messages(&pair.source, 109, 60_000);
    let dump = dump("mail_item", 109, 1109);
    let killed = std::sync::Once::new();
    let options = InjectOptions { batch_bytes: 64 << 10, name_blobs: true, ..InjectOptions::default() };
    let source = pair.source.pool();
    let destination = pair.destination.pool();
    let error = inject(
        &source,
        &destination,
        &dump,
        &options,
        &|progress| {
            if progress.inserted > 5000 {
                killed.call_once(|| pair.destination.kill());
            }
            Ok(())
        },
        &Cancel::default(),
    )
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{error}");
    assert!(error.is_retryable());
    pair.destination.again();
    let second = inject(&source, &destination, &dump, &options, &|_| Ok(()), &Cancel::default()).unwrap();
    assert_eq!(second.inserted + second.unchanged, 60_000);
    assert_eq!(second.blobs.len() as u64, second.inserted);
    assert_eq!(second.blobs[0].locator, "1");
    assert_eq!(contents(&pair.source, "mail_item", 109), contents(&pair.destination, "mail_item", 1109));
    pair.source.kill();
    assert_eq!(copy(&pair, &dump).unwrap_err().kind(), Kind::Unreachable);
}
