//! The oracle finds a right move right, and every kind of damage by name.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{ACCOUNT, TestStore, ldap, move_mailbox};
use lab_mail::journal::{Event, Fate, Journal};
use lab_mail::oracle::{After, Before, Report, check_moved, check_rolled_back};
use lab_mail::seed::{Spec, neighbours, seed};
use mysql::prelude::Queryable;

const SOURCE: &str = "store1.lab.test";
const DEST: &str = "store2.lab.test";
const SOURCE_ID: u32 = 7;
const DEST_ID: u32 = 12;

/// A moved mailbox on two stores, and what was there before.
struct Moved {
    source: TestStore,
    dest: TestStore,
    before: Before,
}

fn seeded(hurts: bool) -> (TestStore, TestStore, Spec) {
    let (mut source, mut dest) = (TestStore::start(SOURCE), TestStore::start(DEST));
    let mut spec = Spec::new(SOURCE_ID, ACCOUNT, "user@lab.test");
    if hurts {
        spec = spec.hurting();
    }
    spec.items = 300;
    spec.blob_bytes = Some(3000);
    seed(&mut source.conn, &source.home, &spec).unwrap();
    neighbours(&mut source.conn, &source.home, &spec, 1).unwrap();
    let other = Spec { items: 40, ..Spec::new(3, "ffffffff-0000-4000-8000-000000000003", "other@lab.test") };
    seed(&mut dest.conn, &dest.home, &other).unwrap();
    (source, dest, spec)
}

impl Moved {
    fn new() -> Self {
        let (mut source, mut dest, spec) = seeded(true);
        let before = take(&mut source, &mut dest);
        move_mailbox(&mut source, &mut dest, &spec, DEST_ID);
        // What a caller stores and reads back must say the same.
        let text = serde_json::to_string(&before).unwrap();
        let before = serde_json::from_str(&text).unwrap();
        Self { source, dest, before }
    }

    fn check(&mut self) -> Report {
        self.check_with(&ldap(DEST), None)
    }

    fn check_with(&mut self, ldap: &lab_mail::oracle::Ldap, journal: Option<&Journal>) -> Report {
        let after = After { ldap, journal, items_changed: false };
        check_moved(&self.before, &mut self.source.oracle(), &mut self.dest.oracle(), &after).unwrap()
    }

    /// Does damage by SQL at the destination or the source, and takes it back afterwards.
    fn after_sql(&mut self, at_dest: bool, sql: &str) -> Report {
        for store in [&mut self.source, &mut self.dest] {
            store.conn.query_drop("SET SESSION foreign_key_checks = 0").unwrap();
            store.conn.query_drop("START TRANSACTION").unwrap();
        }
        let store = if at_dest { &mut self.dest } else { &mut self.source };
        store.conn.query_drop(sql).unwrap();
        assert!(store.conn.affected_rows() > 0, "nothing damaged: {sql}");
        let report = self.check();
        self.source.conn.query_drop("ROLLBACK").unwrap();
        self.dest.conn.query_drop("ROLLBACK").unwrap();
        report
    }

    /// The file of some blob at the destination.
    fn blob(&mut self, condition: &str) -> PathBuf {
        let volumes = self.dest.volumes();
        let (item, mod_content, locator): (u32, u32, String) = self
            .dest
            .conn
            .query_first(format!(
                "SELECT id, mod_content, locator FROM mboxgroup12.mail_item WHERE mailbox_id = {DEST_ID} \
                 AND blob_digest IS NOT NULL AND {condition} ORDER BY id LIMIT 1"
            ))
            .unwrap()
            .unwrap();
        volumes.at(&locator).unwrap().blob_path(DEST_ID, item, mod_content)
    }
}

fn take(source: &mut TestStore, dest: &mut TestStore) -> Before {
    Before::take(ACCOUNT, &mut source.oracle(), &mut dest.oracle(), &ldap(SOURCE), &[]).unwrap()
}

fn says(report: &Report, what: &str) {
    assert!(!report.is_clean(), "not found: {what}");
    assert!(report.lines.iter().any(|line| line.contains(what)), "{what}: {report}");
}

#[test]
fn a_right_move_is_right_and_damaged_rows_are_found() {
    let mut moved = Moved::new();
    let report = moved.check();
    assert!(report.is_clean(), "{report}");
    assert!(report.rows > 500 && report.blobs > 200, "{report}");

    let item = "UPDATE mboxgroup12.mail_item SET";
    for (sql, what) in [
        ("subject = CONCAT(subject, 'x') WHERE mailbox_id = 12 AND type = 5 LIMIT 1", "I3 mail_item ("),
        ("subject = UPPER(subject) WHERE mailbox_id = 12 AND type = 5 AND id = 262", "mail_item (262): row differs"),
        ("metadata = REPLACE(metadata, '(7,', '(12,') WHERE mailbox_id = 12", "row differs"),
        (
            "metadata = CONCAT(LEFT(metadata, 9000000), 'x', SUBSTR(metadata, 9000002)) WHERE mailbox_id = 12 AND LENGTH(metadata) > 10000000",
            "row differs",
        ),
        ("tag_names = REPLACE(tag_names, '\\0', '') WHERE mailbox_id = 12", "row differs"),
        ("locator = '1' WHERE mailbox_id = 12 AND locator = '4' LIMIT 1", "row differs"),
        ("locator = '3' WHERE mailbox_id = 12 AND locator = '4' LIMIT 1", "its locator names no volume"),
        ("flags = flags ^ 1 WHERE mailbox_id = 12 AND id = 262", "mail_item (262)"),
        ("index_id = 0 WHERE mailbox_id = 12 AND id = 262", "mail_item (262)"),
        ("index_id = 262 WHERE mailbox_id = 12 AND id = 263", "mail_item (263)"),
        ("parent_id = NULL WHERE mailbox_id = 12 AND parent_id IS NOT NULL LIMIT 1", "row differs"),
        ("size = size + 1 WHERE mailbox_id = 12 AND id = 2", "mail_item (2)"),
    ] {
        says(&moved.after_sql(true, &format!("{item} {sql}")), what);
    }
    for (sql, what) in [
        ("DELETE FROM mboxgroup12.mail_item WHERE mailbox_id = 12 AND id = 270", "mail_item (270): row is missing"),
        ("INSERT INTO mboxgroup12.watch VALUES (12, 'x', 1)", "watch (x,1): row is new"),
        ("DELETE FROM mboxgroup12.tombstone WHERE mailbox_id = 12 LIMIT 1", "tombstone"),
        (
            "INSERT INTO mboxgroup12.tombstone SELECT * FROM mboxgroup12.tombstone WHERE mailbox_id = 12 LIMIT 1",
            "tombstone (): row is new",
        ),
        ("DELETE FROM mboxgroup12.event WHERE mailbox_id = 12 LIMIT 1", "event"),
        ("DELETE FROM mboxgroup12.tagged_item WHERE mailbox_id = 12 AND tag_id < 0 LIMIT 1", "tagged_item (-"),
        ("UPDATE mboxgroup12.tag SET color = 3 WHERE mailbox_id = 12 LIMIT 1", "tag ("),
        (
            "UPDATE mboxgroup12.appointment SET start_time = start_time + INTERVAL 1 HOUR WHERE mailbox_id = 12 AND start_time > '2024-01-01' LIMIT 1",
            "appointment (",
        ),
        ("UPDATE mboxgroup12.revision SET version = version + 10 WHERE mailbox_id = 12 LIMIT 1", "revision ("),
        ("DELETE FROM mboxgroup12.mail_item_dumpster WHERE mailbox_id = 12 LIMIT 1", "mail_item_dumpster ("),
        ("DELETE FROM mboxgroup12.purged_messages WHERE mailbox_id = 12 LIMIT 1", "purged_messages ("),
        (
            "DELETE FROM zimbra.mailbox_metadata WHERE mailbox_id = 12 AND section = 'own id'",
            "zimbra.mailbox_metadata (own id): row is missing",
        ),
        ("DELETE FROM zimbra.pending_acl_push WHERE mailbox_id = 12 LIMIT 1", "zimbra.pending_acl_push"),
        (
            "UPDATE zimbra.out_of_office SET sent_on = sent_on + INTERVAL 1 HOUR WHERE mailbox_id = 12 AND sent_to LIKE 'some%'",
            "zimbra.out_of_office",
        ),
        (
            "UPDATE zimbra.mobile_devices SET update_time = '2020-01-01' WHERE mailbox_id = 12 LIMIT 1",
            "zimbra.mobile_devices",
        ),
        ("UPDATE zimbra.zmg_devices SET reg_id = 'x' WHERE mailbox_id = 12", "zimbra.zmg_devices"),
        (
            "UPDATE zimbra.scheduled_task SET exec_time = NULL WHERE mailbox_id = 12 AND exec_time IS NOT NULL LIMIT 1",
            "zimbra.scheduled_task",
        ),
        (
            "INSERT INTO zimbra.volume_blobs (volume_id, mailbox_id, item_id, revision) VALUES (1, 12, 1, 1)",
            "volume_blobs",
        ),
        ("UPDATE zimbra.mailbox SET item_id_checkpoint = item_id_checkpoint - 100 WHERE id = 12", "item_id_checkpoint"),
        ("UPDATE zimbra.mailbox SET change_checkpoint = change_checkpoint - 80 WHERE id = 12", "change_checkpoint"),
        ("UPDATE zimbra.mailbox SET tracking_sync = 1 WHERE id = 12", "tracking_sync"),
        ("UPDATE zimbra.mailbox SET last_backup_at = 1 WHERE id = 12", "last_backup_at"),
        ("UPDATE zimbra.mailbox SET index_volume_id = 1 WHERE id = 12", "index volume"),
        (
            "UPDATE zimbra.mailbox SET group_id = 13 WHERE id = 12",
            "I7 store2.lab.test: mboxgroup12.mail_item: rows of mailbox 12",
        ),
        ("UPDATE zimbra.mailbox SET account_id = 'zlm-placeholder' WHERE id = 12", "I1 store2.lab.test: no mailbox"),
        ("UPDATE zimbra.current_volumes SET next_mailbox_id = 12", "I10"),
        (
            "INSERT INTO zimbra.mailbox SELECT 99, 99, 'ffffffff-0000-4000-8000-000000000099', index_volume_id, 1,1,1,1,0,0,NULL,'',1,1,1,NULL,'2.7',1,1 FROM zimbra.mailbox WHERE id = 3",
            "I7 store2.lab.test: mailbox of ffffffff-0000-4000-8000-000000000099 came",
        ),
        (
            "INSERT INTO mboxgroup12.event SELECT 77, account_id, item_id, folder_id, op, ts, version, user_agent, arg FROM mboxgroup12.event LIMIT 1",
            "rows of mailbox 77",
        ),
        (
            "UPDATE mboxgroup3.mail_item SET flags = flags + 1 WHERE mailbox_id = 3 LIMIT 1",
            "I6 store2.lab.test neighbour ffffffff-0000-4000-8000-000000000003: mboxgroup3.mail_item changed",
        ),
        (
            "UPDATE zimbra.mailbox SET comment = 'x' WHERE id = 3",
            "I6 store2.lab.test neighbour ffffffff-0000-4000-8000-000000000003: zimbra.mailbox changed",
        ),
    ] {
        says(&moved.after_sql(true, sql), what);
    }
    for (sql, what) in [
        (
            "DELETE FROM mboxgroup7.mail_item WHERE mailbox_id = 7 AND id = 270",
            "against before: mail_item (270): row is missing",
        ),
        ("DELETE FROM mboxgroup7.tombstone WHERE mailbox_id = 107 LIMIT 1", "I6 store1.lab.test neighbour"),
        ("UPDATE zimbra.mailbox SET comment = 'x' WHERE id = 7", "against before: zimbra.mailbox.comment"),
    ] {
        says(&moved.after_sql(false, sql), what);
    }
    let report = moved.check();
    assert!(report.is_clean(), "the damage was taken back: {report}");
    // What a server does by itself once the mailbox is open.
    for sql in [
        "UPDATE mboxgroup12.mail_item SET index_id = id WHERE mailbox_id = 12 AND index_id IN (0, 1)",
        "UPDATE zimbra.mailbox SET last_purge_at = last_purge_at + 1 WHERE id = 12",
    ] {
        let report = moved.after_sql(true, sql);
        assert!(report.is_clean(), "{sql}: {report}");
    }
}

/// Damages a file, checks, and puts it back as it was.
fn with_file(moved: &mut Moved, path: &Path, what: &str, damage: impl Fn(&Path)) {
    let aside = tempfile::tempdir().unwrap();
    let kept = aside.path().join("kept");
    if path.exists() {
        assert!(Command::new("cp").arg("-a").arg(path).arg(&kept).status().unwrap().success());
        damage(path);
        let report = moved.check();
        let _ = fs::remove_file(path);
        assert!(Command::new("cp").arg("-a").arg(&kept).arg(path).status().unwrap().success());
        says(&report, what);
    } else {
        damage(path);
        let report = moved.check();
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        says(&report, what);
    }
}

#[test]
fn damaged_files_and_attributes_are_found() {
    let mut moved = Moved::new();
    let message = moved.blob("type = 5 AND locator = '1'");
    let secondary = moved.blob("type = 5 AND locator = '4' AND size > 6000");
    let legacy = moved.blob("LENGTH(blob_digest) = 28");
    for path in [&message, &secondary, &legacy] {
        with_file(&mut moved, path, "digest or size is wrong", |path| {
            let mut bytes = fs::read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            bytes.extend_from_slice(b"x");
            fs::write(path, bytes).unwrap();
        });
        with_file(&mut moved, path, "no file", |path| fs::remove_file(path).unwrap());
    }
    with_file(&mut moved, &message, "owned by 0:0", |path| chown(path, Some(0), Some(0)).unwrap());
    for (mode, what) in [(0o666, "mode 0666"), (0o4640, "mode 4640"), (0o440, "mode 0440")] {
        with_file(&mut moved, &message, what, |path| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        });
    }
    with_file(&mut moved, &message, "not a plain file", |path| {
        fs::remove_file(path).unwrap();
        symlink("/etc/hostname", path).unwrap();
    });
    let stray = message.with_file_name("99999-1.msg");
    with_file(&mut moved, &stray, "no row names it", |path| fs::write(path, "x").unwrap());
    let volumes = moved.dest.volumes();
    let index = volumes.current_index().index_dir(DEST_ID);
    with_file(&mut moved, &index.join("segments_2"), "index segments_2: no file", |path| {
        fs::remove_file(path).unwrap();
    });
    with_file(&mut moved, &index.join("_0.cfs"), "index _0.cfs: content differs", |path| {
        fs::write(path, "x").unwrap();
    });
    with_file(&mut moved, &index.join("write.lock"), "index write.lock: not at the source", |path| {
        fs::write(path, "").unwrap();
    });
    let root = volumes.current_message().root.clone();
    with_file(&mut moved, &root.join("0/555"), "store/0/555: of no mailbox", |path| {
        fs::create_dir_all(path.join("msg")).unwrap();
    });
    with_file(&mut moved, &root.join(".zlm-part"), ".zlm-part: no part of a volume", |path| {
        fs::create_dir(path).unwrap();
    });
    with_file(&mut moved, &root.join("incoming/1.msg"), "left in incoming", |path| {
        fs::write(path, "x").unwrap();
    });
    let temp = moved.source.temp[0].clone();
    with_file(&mut moved, &temp.join("zlm-1234"), "zlm-1234: left behind", |path| {
        fs::create_dir(path).unwrap();
    });

    for (host, what) in [(SOURCE, "I1 zimbraMailHost"), ("store2.lab.test.", "I1 zimbraMailTransport")] {
        let report = moved.check_with(&ldap(host), None);
        says(&report, what);
    }
    let mut changed = ldap(DEST);
    changed.get_mut(ACCOUNT).unwrap().insert("zimbraAccountStatus".into(), vec!["active".into()]);
    says(&moved.check_with(&changed, None), "I4 account 0a1b2c3d");
    let mut changed = ldap(DEST);
    changed.get_mut("someone else").unwrap().remove("zimbraAccountStatus");
    says(&moved.check_with(&changed, None), "I6 account someone else");

    let neighbour = moved.source.volumes().current_message().msg_dir(107);
    let blob = fs::read_dir(neighbour.join("0")).unwrap().next().unwrap().unwrap().path();
    with_file(&mut moved, &blob, "I6 store1.lab.test neighbour", |path| fs::write(path, "x").unwrap());
}

#[test]
fn mail_is_there_once() {
    let (mut source, mut dest, spec) = seeded(false);
    let before = take(&mut source, &mut dest);
    let message = |id: &str| format!("Message-ID: {id}\r\nSubject: x\r\n\r\nbody\r\n").into_bytes();
    deliver(&mut source, SOURCE_ID, 5000, &message("<early@w>"));
    move_mailbox(&mut source, &mut dest, &spec, DEST_ID);
    deliver(&mut dest, DEST_ID, 6000, &message("<late@w>"));
    let mut moved = Moved { source, dest, before };

    let fate = |event, lost_answers| Fate { rcpt: "user@lab.test".into(), event, reply: "250 ok".into(), lost_answers };
    let journal = |extra: &[(&str, Event, u32)]| Journal {
        messages: [("<early@w>", Event::Accepted, 0), ("<late@w>", Event::Accepted, 0)]
            .iter()
            .chain(extra)
            .map(|(id, event, lost)| ((*id).to_owned(), fate(*event, *lost)))
            .collect::<BTreeMap<_, _>>(),
        summary: None,
    };
    let report = moved.check_with(&ldap(DEST), Some(&journal(&[])));
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.messages, 2);
    says(&moved.check(), "mail_item (6000): row is new");
    for (extra, what) in [
        (("<gone@w>", Event::Accepted, 0), "I2 message <gone@w>: accepted (250 ok) and lost"),
        (("<back@w>", Event::Bounced, 0), "I2 message <back@w>: bounced"),
    ] {
        let report = moved.check_with(&ldap(DEST), Some(&journal(&[extra])));
        says(&report, what);
        assert_eq!(report.lost, u64::from(extra.1 == Event::Accepted), "{report}");
    }
    deliver(&mut moved.dest, DEST_ID, 6001, &message("<late@w>"));
    says(&moved.check_with(&ldap(DEST), Some(&journal(&[]))), "I2 message <late@w>: there 2 times");
    let report = moved.check_with(&ldap(DEST), Some(&journal(&[("<late@w>", Event::Accepted, 1)])));
    assert!(report.is_clean(), "a lost answer explains a second copy: {report}");
    deliver(&mut moved.dest, DEST_ID, 6002, &message("<unknown@w>"));
    let lost = journal(&[("<late@w>", Event::Accepted, 1)]);
    says(&moved.check_with(&ldap(DEST), Some(&lost)), "<unknown@w> was never sent");
    // An answer makes a conversation that the first message joins; nothing else may.
    let adopt = |parent: u32, id: u32| {
        format!(
            "UPDATE mboxgroup12.mail_item SET parent_id = {parent}, mod_metadata = 9999 WHERE mailbox_id = 12 AND id = {id}"
        )
    };
    moved.dest.conn.query_drop("DELETE FROM mboxgroup12.mail_item WHERE mailbox_id = 12 AND id = 6002").unwrap();
    moved
        .dest
        .conn
        .query_drop(
            "UPDATE mboxgroup12.mail_item SET size = size - 1, unread = unread - 1 WHERE mailbox_id = 12 AND id = 2",
        )
        .unwrap();
    let path = moved.dest.volumes().current_message().blob_path(DEST_ID, 6002, 15002);
    fs::remove_file(path).unwrap();
    moved.dest.conn.query_drop("INSERT INTO mboxgroup12.mail_item (mailbox_id, id, type, folder_id, date, size, mod_metadata, mod_content) VALUES (12, 6003, 4, 9, 1, 2, 1, 1)").unwrap();
    moved.dest.conn.query_drop(adopt(6003, 267)).unwrap();
    let report = moved.check_with(&ldap(DEST), Some(&lost));
    assert!(report.is_clean(), "{report}");
    moved.dest.conn.query_drop(adopt(257, 268)).unwrap();
    says(&moved.check_with(&ldap(DEST), Some(&lost)), "mail_item (268): row differs");
    // Mail that only the source's copy has is lost to the user.
    deliver(&mut moved.source, SOURCE_ID, 5001, &message("<stranded@w>"));
    let stranded = journal(&[("<stranded@w>", Event::Accepted, 0)]);
    says(&moved.check_with(&ldap(DEST), Some(&stranded)), "mail_item (5001): row is missing");
}

/// Delivers a message into the Inbox as a server does.
fn deliver(store: &mut TestStore, mailbox: u32, item: u32, bytes: &[u8]) {
    let blob = store.volumes().current_message().write_blob(mailbox, item, 9000 + item, bytes).unwrap();
    let group = format!("mboxgroup{mailbox}");
    store
        .conn
        .exec_drop(
            format!(
                "INSERT INTO {group}.mail_item (mailbox_id, id, type, folder_id, date, size, locator, blob_digest, \
                 unread, mod_metadata, mod_content) VALUES (?, ?, 5, 2, 1, ?, '1', ?, 1, ?, ?)"
            ),
            (mailbox, item, blob.size, blob.digest, 9000 + item, 9000 + item),
        )
        .unwrap();
    store
        .conn
        .query_drop(format!(
            "UPDATE {group}.mail_item SET size = size + 1, unread = unread + 1 WHERE mailbox_id = {mailbox} AND id = 2"
        ))
        .unwrap();
    store
        .conn
        .query_drop(format!(
            "UPDATE zimbra.mailbox SET size_checkpoint = size_checkpoint + {}, item_id_checkpoint = {item}, \
             change_checkpoint = {} WHERE id = {mailbox}",
            blob.size,
            9000 + item
        ))
        .unwrap();
}

#[test]
fn a_rollback_leaves_no_trace() {
    let (mut source, mut dest, spec) = seeded(true);
    let before = take(&mut source, &mut dest);
    let attributes = ldap(SOURCE);
    let after = After { ldap: &attributes, journal: None, items_changed: false };
    let check = |source: &mut TestStore, dest: &mut TestStore, after: &After<'_>| {
        check_rolled_back(&before, &mut source.oracle(), &mut dest.oracle(), after).unwrap()
    };
    let report = check(&mut source, &mut dest, &after);
    assert!(report.is_clean(), "{report}");
    let moved = ldap(DEST);
    let report = check(&mut source, &mut dest, &After { ldap: &moved, ..after });
    says(&report, "zimbraMailHost");

    dest.conn.query_drop("CREATE DATABASE zlm").unwrap();
    dest.conn.query_drop("CREATE TABLE zlm.claim (account_id VARCHAR(40))").unwrap();
    says(&check(&mut source, &mut dest, &after), "I7 store2.lab.test: the database zlm is left");
    dest.conn.query_drop("INSERT INTO zlm.claim VALUES ('x')").unwrap();
    says(&check(&mut source, &mut dest, &after), "I7 store2.lab.test zlm.claim: 1 rows, were 0");
    dest.conn.query_drop("DROP DATABASE zlm").unwrap();

    move_mailbox(&mut source, &mut dest, &spec, DEST_ID);
    says(&check(&mut source, &mut dest, &after), "I7 store2.lab.test: mailbox 12 of the account");
    dest.conn.query_drop("SET SESSION foreign_key_checks = 0").unwrap();
    dest.conn.query_drop("DELETE FROM zimbra.mailbox WHERE id = 12").unwrap();
    let report = check(&mut source, &mut dest, &after);
    for what in [
        "mboxgroup12.mail_item: rows of mailbox 12",
        "mboxgroup12.watch: rows of mailbox 12",
        "zimbra.mailbox_metadata: rows of mailbox 12",
        "store/0/12: of no mailbox",
        "index/0/12: of no mailbox",
        "hsm2/0/12: of no mailbox",
    ] {
        says(&report, what);
    }
    dest.conn.query_drop("UPDATE zimbra.current_volumes SET next_mailbox_id = 2").unwrap();
    says(&check(&mut source, &mut dest, &after), "I10 store2.lab.test");

    let volumes = source.volumes();
    let dir = volumes.current_message().msg_dir(SOURCE_ID).join("0");
    let blob = fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&blob).unwrap();
    says(&check(&mut source, &mut dest, &after), "gone");
}
