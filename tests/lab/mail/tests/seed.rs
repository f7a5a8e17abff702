//! Mailboxes come out as asked: consistent, whole, the same for the same seed, and fast.

#![allow(clippy::unwrap_used)]

mod common;

use common::{ACCOUNT, TestStore};
use lab_mail::seed::{Spec, neighbours, seed};
use mysql::prelude::Queryable;

/// References between rows that the server would have refused, had it looked.
const ORPHANS: &[&str] = &[
    "mail_item a LEFT JOIN G.mail_item b ON b.mailbox_id = a.mailbox_id AND b.id = a.folder_id WHERE a.folder_id IS NOT NULL",
    "mail_item a LEFT JOIN G.mail_item b ON b.mailbox_id = a.mailbox_id AND b.id = a.parent_id WHERE a.parent_id IS NOT NULL",
    "tagged_item a LEFT JOIN G.mail_item b ON b.mailbox_id = a.mailbox_id AND b.id = a.item_id WHERE 1",
    "tagged_item a LEFT JOIN G.tag b ON b.mailbox_id = a.mailbox_id AND b.id = a.tag_id WHERE 1",
    "open_conversation a LEFT JOIN G.mail_item b ON b.mailbox_id = a.mailbox_id AND b.id = a.conv_id WHERE 1",
    "appointment a LEFT JOIN G.mail_item b ON b.mailbox_id = a.mailbox_id AND b.id = a.item_id WHERE 1",
    "appointment_dumpster a LEFT JOIN G.mail_item_dumpster b ON b.mailbox_id = a.mailbox_id AND b.id = a.item_id WHERE 1",
    "revision a LEFT JOIN G.mail_item b ON b.mailbox_id = a.mailbox_id AND b.id = a.item_id WHERE 1",
    "revision_dumpster a LEFT JOIN G.mail_item_dumpster b ON b.mailbox_id = a.mailbox_id AND b.id = a.item_id WHERE 1",
    "imap_message a LEFT JOIN G.imap_folder b ON b.mailbox_id = a.mailbox_id AND b.item_id = a.imap_folder_id WHERE 1",
];

fn count(store: &mut TestStore, query: &str) -> i64 {
    store.conn.query_first(query).unwrap().unwrap_or(0)
}

fn check_consistent(store: &mut TestStore, spec: &Spec) {
    let group = format!("mboxgroup{}", spec.group);
    let id = spec.mailbox;
    for orphan in ORPHANS {
        let orphan = orphan.replace("G.", &format!("{group}."));
        let query = format!("SELECT COUNT(*) FROM {group}.{orphan} AND a.mailbox_id = {id} AND b.mailbox_id IS NULL");
        assert_eq!(count(store, &query), 0, "{query}");
    }
    let wrong_folders = format!(
        "SELECT COUNT(*) FROM {group}.mail_item f LEFT JOIN (SELECT folder_id, COUNT(*) n, SUM(IFNULL(unread, 0)) u \
         FROM {group}.mail_item WHERE mailbox_id = {id} AND type NOT IN (1, 2, 4, 13) GROUP BY folder_id) i \
         ON i.folder_id = f.id WHERE f.mailbox_id = {id} AND f.type = 1 \
         AND (f.size <> IFNULL(i.n, 0) OR f.unread <> IFNULL(i.u, 0))"
    );
    assert_eq!(count(store, &wrong_folders), 0);
    let wrong_tags = format!(
        "SELECT COUNT(*) FROM {group}.tag t LEFT JOIN (SELECT tag_id, COUNT(*) n FROM {group}.tagged_item \
         WHERE mailbox_id = {id} GROUP BY tag_id) i ON i.tag_id = t.id WHERE t.mailbox_id = {id} \
         AND t.item_count <> IFNULL(i.n, 0)"
    );
    assert_eq!(count(store, &wrong_tags), 0);
    let wrong_row = format!(
        "SELECT COUNT(*) FROM zimbra.mailbox m WHERE id = {id} AND (size_checkpoint <> (SELECT SUM(size) FROM \
         {group}.mail_item WHERE mailbox_id = {id} AND type NOT IN (1, 2, 4, 13)) OR contact_count <> \
         (SELECT COUNT(*) FROM {group}.mail_item WHERE mailbox_id = {id} AND type = 6))"
    );
    assert_eq!(count(store, &wrong_row), 0);
}

#[test]
fn a_mailbox_that_hurts_is_consistent_and_has_it_all() {
    let mut store = TestStore::start("store1.lab.test");
    let spec = Spec::new(7, ACCOUNT, "user@lab.test").hurting();
    let seeded = seed(&mut store.conn, &store.home, &spec).unwrap();
    check_consistent(&mut store, &spec);
    for table in [
        "mail_item",
        "mail_item_dumpster",
        "revision",
        "revision_dumpster",
        "tag",
        "tagged_item",
        "open_conversation",
        "appointment",
        "appointment_dumpster",
        "tombstone",
        "pop3_message",
        "imap_folder",
        "imap_message",
        "data_source_item",
        "purged_conversations",
        "purged_messages",
        "event",
        "watch",
    ] {
        let query = format!("SELECT COUNT(*) FROM mboxgroup7.{table} WHERE mailbox_id = 7");
        assert!(count(&mut store, &query) > 0, "{table}");
    }
    for table in [
        "mailbox_metadata",
        "out_of_office",
        "scheduled_task",
        "mobile_devices",
        "pending_acl_push",
        "zmg_devices",
        "volume_blobs",
    ] {
        let query = format!("SELECT COUNT(*) FROM zimbra.{table} WHERE mailbox_id = 7");
        assert!(count(&mut store, &query) > 0, "{table}");
    }
    let one = |query: &str| format!("SELECT COUNT(*) FROM mboxgroup7.mail_item WHERE mailbox_id = 7 AND {query}");
    for query in [
        "OCTET_LENGTH(metadata) > 15 * 1024 * 1024",
        "tag_names LIKE '\\0%\\0'",
        "subject LIKE '%(7,%'",
        "metadata LIKE '%(7,%'",
        "metadata LIKE '=?UTF-8?B?%'",
        "LENGTH(blob_digest) = 28",
        "size = 0 AND blob_digest IS NOT NULL",
        "locator = '3'",
        "date = 0",
        "date = 4294967295",
        "HEX(subject) LIKE '%E697A5%'",
    ] {
        let query = one(query);
        assert!(count(&mut store, &query) > 0, "{query}");
    }
    assert_eq!(count(&mut store, "SELECT next_mailbox_id FROM zimbra.current_volumes"), 8);
    // Characters that a table cannot hold come in as question marks.
    assert_eq!(count(&mut store, &one("subject LIKE '%????%'")), 0);
    assert!(seeded.blobs > 500 && seeded.rows > 1800, "{seeded:?}");

    let others = neighbours(&mut store.conn, &store.home, &spec, 3).unwrap();
    let ids: Vec<u32> = others.iter().map(|other| other.mailbox).collect();
    assert_eq!(ids, [107, 207, 307]);
    let again = seed(&mut store.conn, &store.home, &spec).unwrap_err();
    assert_eq!(again.to_string(), "mailbox 7 exists: cannot seed mailbox 7 of user@lab.test");
}

#[test]
fn groups_ids_and_characters_at_their_edges() {
    let mut store = TestStore::start("store2.lab.test");
    let mut spec = Spec::new((1 << 20) + 100 * 7 + 29, ACCOUNT, "high@lab.test").hurting();
    assert_eq!(spec.group, 5);
    spec.items = 60;
    seed(&mut store.conn, &store.home, &spec).unwrap();
    check_consistent(&mut store, &spec);
    let found = count(
        &mut store,
        "SELECT COUNT(*) FROM mboxgroup5.mail_item WHERE HEX(subject) LIKE '%F09F9880%' AND HEX(name) LIKE '%F09F9880%'",
    );
    assert_eq!(found, 1);
    let volumes = store.volumes();
    let dir = volumes.current_message().msg_dir(spec.mailbox);
    assert!(dir.starts_with(store.home.join("store/0")) && dir.is_dir(), "{}", dir.display());
}

#[test]
fn the_same_seed_makes_the_same_mailbox() {
    let sums = |name| {
        let mut store = TestStore::start(name);
        let mut spec = Spec::new(9, ACCOUNT, "user@lab.test").hurting();
        spec.items = 300;
        seed(&mut store.conn, &store.home, &spec).unwrap();
        let tables = "mboxgroup9.mail_item, mboxgroup9.tagged_item, zimbra.mailbox_metadata, mboxgroup9.tombstone";
        let sums: Vec<(String, u64)> = store.conn.query(format!("CHECKSUM TABLE {tables}")).unwrap();
        sums
    };
    assert_eq!(sums("store1.lab.test"), sums("store1.lab.test"));
}
