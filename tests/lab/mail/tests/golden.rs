//! Golden mailboxes are loaded as they are, and whatever becomes of one is seen.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use common::TestStore;
use lab_mail::golden::{Archive, Golden, Picture};
use lab_mail::volume::OWNER;
use mysql::prelude::Queryable;

struct Loaded {
    store: TestStore,
    golden: Golden,
    mailbox: u32,
    _dir: tempfile::TempDir,
}

impl Loaded {
    fn new(archive: Archive, store: &'static str, mailbox: u32, group: u32) -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let golden = Golden::unpack(archive, dir.path()).unwrap();
        let mut store = TestStore::start(store);
        golden.load(&mut store.conn, &store.home, mailbox, group).unwrap();
        Self { store, golden, mailbox, _dir: dir }
    }

    fn differences(&mut self) -> Vec<String> {
        let now = Picture::of_store(&mut self.store.conn, &self.store.home, &self.golden.manifest.account_id).unwrap();
        Picture::of_archive(&self.golden).unwrap().differences(&now)
    }

    fn blob(&mut self, item: u32, mod_content: u32) -> PathBuf {
        self.store.volumes().current_message().blob_path(self.mailbox, item, mod_content)
    }
}

#[test]
fn a_golden_mailbox_is_loaded_as_it_is() {
    for (archive, store, mailbox, group) in
        [(Archive::Small, "store1.lab.test", 200, 100), (Archive::Large, "store2.lab.test", 4105, 5)]
    {
        let mut loaded = Loaded::new(archive, store, mailbox, group);
        assert_eq!(loaded.differences(), Vec::<String>::new(), "{archive}");
        let next: Option<u32> =
            loaded.store.conn.query_first("SELECT next_mailbox_id FROM zimbra.current_volumes").unwrap();
        assert_eq!(next, Some(mailbox + 1));
        let again = loaded.golden.load(&mut loaded.store.conn, &loaded.store.home, mailbox, group).unwrap_err();
        assert_eq!(again.to_string(), format!("mailbox {mailbox} exists: cannot load {archive} as {mailbox}"));
    }
}

#[test]
fn copies_stay_one_file_and_files_are_zimbras() {
    let mut loaded = Loaded::new(Archive::Small, "store1.lab.test", 200, 100);
    let (original, copy) = (loaded.blob(290, 41), loaded.blob(334, 92));
    let (original, copy) = (fs::metadata(original).unwrap(), fs::metadata(copy).unwrap());
    assert_eq!((original.ino(), original.nlink()), (copy.ino(), 2));
    assert_eq!((original.uid(), original.gid(), original.mode() & 0o7777), (OWNER, OWNER, 0o640));
}

/// The comparison must be able to fail: by one column of a row, a row, a byte of a blob, a byte of the index, a file.
#[test]
fn each_kind_of_damage_is_seen() {
    let mut loaded = Loaded::new(Archive::Small, "store1.lab.test", 200, 100);
    let mut seen = Vec::new();
    for (damage, mend) in [
        ("UPDATE mboxgroup100.mail_item SET flags = flags + 1 WHERE id = 290", "SET flags = flags - 1 WHERE id = 290"),
        ("UPDATE mboxgroup100.tag SET name = 'Blau' WHERE id = 258", "SET name = 'blau' WHERE id = 258"),
        ("UPDATE zimbra.mailbox SET change_checkpoint = 199", "SET change_checkpoint = 200"),
        ("UPDATE mboxgroup100.mail_item SET locator = '1' WHERE id = 299", "SET locator = '3' WHERE id = 299"),
    ] {
        loaded.store.conn.query_drop(damage).unwrap();
        seen.push(loaded.differences());
        let table = damage.split(" SET ").next().unwrap();
        loaded.store.conn.query_drop(format!("{table} {mend}")).unwrap();
    }
    let counts: Vec<usize> = seen.iter().map(Vec::len).collect();
    assert_eq!(counts, [2, 2, 1, 2], "{seen:#?}");
    assert_eq!(loaded.differences(), Vec::<String>::new());

    let index = loaded.store.volumes().current_index().index_dir(loaded.mailbox).join("segments.gen");
    for (path, named) in
        [(loaded.blob(290, 41), "file primary/msg/0/290-41.msg"), (index, "file index/index/0/segments.gen")]
    {
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        let found = loaded.differences();
        assert!(found.contains(&format!("{named}: content differs")), "{found:#?}");
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        fs::write(path.with_extension("new"), b"").unwrap();
        assert_eq!(loaded.differences().len(), 1);
        fs::remove_file(path.with_extension("new")).unwrap();
    }
    loaded.store.conn.query_drop("DELETE FROM mboxgroup100.watch LIMIT 1").unwrap();
    assert_eq!(loaded.differences().len(), 1);
}

/// What mail that came since explains is no difference, and nothing else is explained by it.
#[test]
fn mail_explains_what_counts_it() {
    let mut loaded = Loaded::new(Archive::Small, "store1.lab.test", 200, 100);
    let last = loaded.golden.manifest.last_item_id;
    let told = |loaded: &mut Loaded| {
        let now =
            Picture::of_store(&mut loaded.store.conn, &loaded.store.home, &loaded.golden.manifest.account_id).unwrap();
        Picture::of_archive(&loaded.golden).unwrap().differences_but_for_mail(&now, last)
    };
    loaded.store.conn.query_drop("SET foreign_key_checks = 0").unwrap();
    for mail in [
        "UPDATE mboxgroup100.mail_item SET size = size + 1, unread = unread + 1, metadata = '' WHERE id = 2",
        "UPDATE mboxgroup100.mail_item SET parent_id = 401, mod_metadata = 400 WHERE id = 290",
        "INSERT INTO mboxgroup100.mail_item (mailbox_id, id, type, date, size, mod_metadata, mod_content) VALUES (200, 400, 5, 1, 1, 400, 400)",
        "UPDATE zimbra.mailbox SET size_checkpoint = size_checkpoint + 1, change_checkpoint = 400",
    ] {
        loaded.store.conn.query_drop(mail).unwrap();
    }
    assert!(!loaded.differences().is_empty());
    assert_eq!(told(&mut loaded), Vec::<String>::new());
    for (n, wrong) in [
        "UPDATE mboxgroup100.mail_item SET size = size + 1 WHERE id = 291",
        "UPDATE mboxgroup100.mail_item SET name = 'x' WHERE id = 3",
        "DELETE FROM mboxgroup100.mail_item WHERE id = 292",
        "INSERT INTO mboxgroup100.mail_item (mailbox_id, id, type, date, size, mod_metadata, mod_content) VALUES (200, 256, 5, 1, 1, 400, 400)",
    ]
    .into_iter()
    .enumerate()
    {
        loaded.store.conn.query_drop(wrong).unwrap();
        assert!(told(&mut loaded).len() > n, "{wrong}");
    }
}
