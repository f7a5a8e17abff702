//! What users and servers do between two looks of zlm: a program of a store waits in between, or does it itself.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use zlm_lab::poll;

use crate::site::{Mailbox, Site, site};

/// A program of store1 with a script in its place, which finds it as `/var/tmp/real.NAME`.
struct Wrapped<'a> {
    site: &'a Site,
    name: &'static str,
}

impl<'a> Wrapped<'a> {
    fn new(site: &'a Site, name: &'static str, script: &str) -> Self {
        let _ = fs::remove_file(tmp(site, "hold"));
        fs::write(tmp(site, &format!("wrapped.{name}")), format!("#!/bin/bash\n{script}")).unwrap();
        let there = format!("/var/tmp/real.{name}");
        site.shell("store1", &format!("cp /usr/bin/{name} {there}; chmod 755 {there} /var/tmp/wrapped.{name}"));
        site.shell("store1", &format!("mount --bind /var/tmp/wrapped.{name} /usr/bin/{name}"));
        Self { site, name }
    }
}

impl Drop for Wrapped<'_> {
    fn drop(&mut self) {
        self.site.shell("store1", &format!("umount /usr/bin/{}", self.name));
    }
}

fn tmp(site: &Site, name: &str) -> PathBuf {
    site.host("store1").unwrap().dir.join("tmp").join(name)
}

/// Waits in the first list of blobs that is made while `hold` is there.
const HOLD: &str = r#"if [[ "$*" == */msg* && -e /var/tmp/hold ]] && mkdir /var/tmp/held 2>/dev/null; then
    until [ -e /var/tmp/deleted ]; do sleep 0.02; done
fi
exec /var/tmp/real.find "$@""#;

/// Deletes a message as a user does: its row, then its file.
fn delete(site: &Site, mailbox: &Mailbox) {
    let group = (mailbox.number - 1) % 100 + 1;
    let of = format!("mboxgroup{group}.mail_item WHERE mailbox_id = {} AND type = 5", mailbox.number);
    let item = site.number("store1", &format!("SELECT MAX(id) FROM {of} AND locator = '1'")).unwrap();
    site.sql("store1", &format!("DELETE FROM {of} AND id = {item}"));
    let name = format!("/{item}-");
    let blob = site.blobs("store1", mailbox.number).into_iter().find(|path| path.to_string_lossy().contains(&name));
    fs::remove_file(blob.expect("the message has a blob")).unwrap();
}

/// Lets the next list of blobs wait, once rows were read for it, until a message was deleted.
fn delete_in_between(site: &Site, mailbox: &Mailbox, go_on: impl FnOnce()) {
    let _ = fs::remove_dir(tmp(site, "held"));
    let _ = fs::remove_file(tmp(site, "deleted"));
    fs::write(tmp(site, "hold"), "").unwrap();
    go_on();
    let held = poll(Duration::from_secs(60), || Ok(tmp(site, "held").exists().then_some(())));
    assert!(held.unwrap().is_some(), "no list of blobs was made");
    delete(site, mailbox);
    fs::remove_file(tmp(site, "hold")).unwrap();
    fs::write(tmp(site, "deleted"), "").unwrap();
}

#[track_caller]
fn assert_moved(site: &Site, mailbox: &Mailbox) {
    let report = site.check_moved(&mailbox.before, "store1", "store2", None, true).unwrap();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn deleted_while_preflight_looks() {
    let site = site();
    let mailbox = site.mailbox();
    let _find = Wrapped::new(&site, "find", HOLD);
    for what in ["audit", "move"] {
        let words = ["run", what, "--email", &mailbox.email, "--dest", "store2.lab.test"];
        let mut zlm = None;
        delete_in_between(&site, &mailbox, || zlm = Some(site.start_zlm("store1", &words)));
        zlm.unwrap().end().assert(0, &[", 0 problems"]);
    }
    assert_moved(&site, &mailbox);
}

#[test]
fn deleted_while_blobs_are_compared() {
    let site = site();
    let mailbox = site.mailbox();
    let _find = Wrapped::new(&site, "find", HOLD);
    let code = format!("{} check_blobs(mv);", site.pause());
    let mut zlm = site.start_edited_move(&mailbox, "let limit", &code);
    zlm.wait_for("paused");
    delete_in_between(&site, &mailbox, || site.go_on());
    let ended = zlm.end();
    ended.assert(0, &["0 missing at the source"]);
    assert!(!ended.err.contains("1 missing at the source"), "{}", ended.err);
    assert_moved(&site, &mailbox);
}

/// The index grows by two files after each of the first copies of it, as when Lucene merges.
const GROW: &str = r#"/var/tmp/real.rsync "$@"; status=$?
if [[ "$*" == */index/0/* && -e /var/tmp/hold ]]; then
    for n in 0 1 2; do
        mkdir /var/tmp/grown.$n 2>/dev/null || continue
        cd /opt/zimbra/index/0/NUMBER/index/0; umask 027
        echo merged > _1z$n.fdt; echo $n > _1z_$n.del
        break
    done
fi
exit $status"#;

#[test]
fn index_that_grows_under_the_lock() {
    let site = site();
    let mailbox = site.mailbox();
    let _rsync = Wrapped::new(&site, "rsync", &GROW.replace("NUMBER", &mailbox.number.to_string()));
    let grown = |n: u32| tmp(&site, &format!("grown.{n}"));
    (0..3).for_each(|n| drop(fs::remove_dir(grown(n))));
    let mut zlm = site.start_paused_move(&mailbox, "step(\"freeze\"");
    zlm.wait_for("paused");
    fs::write(tmp(&site, "hold"), "").unwrap();
    site.go_on();
    let ended = zlm.end();
    fs::remove_file(tmp(&site, "hold")).unwrap();
    ended.assert(0, &[]);
    assert!(grown(1).exists(), "it grew once only");
    assert_moved(&site, &mailbox);
}

/// From the first copy on a merge writes for ten seconds; at its end the segments that it has merged go.
const MERGE: &str = r#"/var/tmp/real.rsync "$@"; status=$?
if [[ "$*" == */index/0/* && -e /var/tmp/hold ]] && mkdir /var/tmp/merging 2>/dev/null; then
    cd /opt/zimbra/index/0/NUMBER/index/0; umask 027
    setsid bash -c 'for n in {1..100}; do echo $n >> _2a.fdt; sleep 0.1; done; mv _2a.fdt _2a.cfs; rm -f _0.cfs; touch /var/tmp/merged' \
        >/dev/null 2>&1 </dev/null &
fi
exit $status"#;

#[test]
fn index_that_is_merged_for_long_under_the_lock() {
    let site = site();
    let mailbox = site.mailbox();
    let _rsync = Wrapped::new(&site, "rsync", &MERGE.replace("NUMBER", &mailbox.number.to_string()));
    let _ = (fs::remove_dir(tmp(&site, "merging")), fs::remove_file(tmp(&site, "merged")));
    let mut zlm = site.start_paused_move(&mailbox, "step(\"freeze\"");
    zlm.wait_for("paused");
    fs::write(tmp(&site, "hold"), "").unwrap();
    site.go_on();
    let ended = zlm.end();
    fs::remove_file(tmp(&site, "hold")).unwrap();
    ended.assert(0, &["is written to under the lock; waiting for its end"]);
    assert!(tmp(&site, "merged").exists(), "it did not wait");
    assert_moved(&site, &mailbox);
}

#[test]
fn deleted_after_the_copy_of_a_move_that_dies_behind_its_switch() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "let limit");
    zlm.wait_for("paused");
    delete(&site, &mailbox);
    delete(&site, &mailbox);
    site.fault("store2", "GetMailboxRequest fail service.FAILURE");
    site.go_on();
    zlm.wait_for("zimbraMailHost store1.lab.test -> store2.lab.test: done");
    zlm.signal(Signal::KILL);
    assert_eq!(zlm.end().code, None);
    site.fault("store2", "clear");
    site.wait_unheld(&mailbox);
    site.forget_run_dirs();
    site.zlm("store1", &["resume", &site.died_run()]).assert(0, &[]);
    assert_moved(&site, &mailbox);
}

#[test]
fn mail_that_comes_to_a_volume_that_the_move_does_not_know() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"pre-copy\"");
    zlm.wait_for("paused");
    let columns = "type, name, path, file_bits, file_group_bits, mailbox_bits, mailbox_group_bits, compress_blobs, \
                   compression_threshold, metadata, store_type, store_manager_class";
    let values = columns.replace("name, path", "'late', '/opt/zimbra/late'");
    site.sql(
        "store1",
        &format!("INSERT INTO zimbra.volume (id, {columns}) SELECT 11, {values} FROM zimbra.volume WHERE id = 1"),
    );
    let of = format!("mboxgroup{}.mail_item WHERE mailbox_id = {}", (mailbox.number - 1) % 100 + 1, mailbox.number);
    let item = site.number("store1", &format!("SELECT MAX(id) FROM {of} AND type = 5 AND locator = '1'")).unwrap();
    let set = |locator: u8| {
        let table = of.replace(" WHERE", &format!(" SET locator = '{locator}' WHERE"));
        site.sql("store1", &format!("UPDATE {table} AND id = {item}"));
    };
    set(11);
    site.go_on();
    let ended = zlm.end();
    set(1);
    site.sql("store1", "DELETE FROM zimbra.volume WHERE id = 11");
    ended.assert(1, &["locator 11 is not mapped", "start the move again", "status active"]);
    site.assert_rolled_back(&mailbox);
}
