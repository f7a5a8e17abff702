//! A freeze that may not be longer than so much: where it would be, the account is open again at its source.

use mysql::prelude::Queryable;
use rustix::process::Signal;

use crate::site::{Mailbox, Site, site};

/// The account is in use at its source.
#[track_caller]
fn assert_open(site: &Site, mailbox: &Mailbox) {
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").as_deref(), Some("active"));
    assert_eq!(site.attribute(&mailbox.local, "zimbraMailHost").as_deref(), Some("store1.lab.test"));
    assert_eq!(site.tell("store1", &format!("locked {}", mailbox.id)), "no");
}

#[test]
fn too_little_time_leaves_everything_as_it_was() {
    let site = site();
    let mailbox = site.mailbox();
    let deliveries = site.start_deliveries(&[&mailbox.local], 10.0).unwrap();
    let more = ["--max-frozen", "0.001", "--tries", "3", "--pause", "4"];
    let mut zlm = site.start_move_with(&mailbox, &more);
    zlm.wait_for("try 1 of 3");
    assert_open(&site, &mailbox);
    let accepted = |site: &Site| {
        let counters = site.tell("store1", "deliveries");
        let number: String = counters.chars().filter(char::is_ascii_digit).collect();
        number
    };
    let before = accepted(&site);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_ne!(before, accepted(&site), "mail is accepted between two tries");
    let ended = zlm.end();
    ended.assert(1, &["would be frozen for ", "and may be for 0.001 s", "try 2 of 3", "status active"]);
    assert_eq!(ended.err.matches("opened again at its source after ").count(), 3, "{}", ended.err);
    assert_open(&site, &mailbox);
    let journal = deliveries.end().unwrap();
    let report = site.check_rolled_back(&mailbox.before, "store1", "store2", Some(&journal), true).unwrap();
    assert!(report.is_clean() && report.messages > 10, "{report}");
    site.assert_untouched(&mailbox);
}

#[test]
fn enough_time_is_not_noticed() {
    let site = site();
    let mailbox = site.mailbox();
    let ended = site.start_move_with(&mailbox, &["--max-frozen", "60s"]).end();
    ended.assert(0, &[]);
    assert!(!ended.err.contains("opened again"), "{}", ended.err);
    site.assert_moved(&mailbox);
}

/// A difference that cannot be written is broken off when the time is over, and copied by the second try.
#[test]
fn difference_that_drags_on_is_broken_off() {
    let site = site();
    let mailbox = site.mailbox_of(150, &[]);
    let more = ["--max-frozen", "4", "--pause", "1"];
    let mut zlm = site.start_paused_move_with(&mailbox, "step(\"freeze\"", &more);
    zlm.wait_for("paused");
    site.tell("store1", &format!("act {} 40 7", mailbox.email));
    let staged = format!("SELECT id FROM zimbra.mailbox WHERE account_id LIKE 'zlm:{}:%'", mailbox.id);
    let staged = site.number("store2", &staged).unwrap();
    let mut holder = site.host("store2").unwrap().mysql().unwrap();
    holder.query_drop("BEGIN").unwrap();
    let group = (staged - 1) % 100 + 1;
    holder
        .query_drop(format!("SELECT id FROM mboxgroup{group}.mail_item WHERE mailbox_id = {staged} FOR UPDATE"))
        .unwrap();
    site.go_on();
    zlm.wait_for("try 1 of 5");
    holder.query_drop("ROLLBACK").unwrap();
    let ended = zlm.end();
    ended.assert(0, &["opened again at its source after 4."]);
    assert_eq!(ended.err.matches("opened again").count(), 1, "{}", ended.err);
    let report = site.check_moved(&mailbox.before, "store1", "store2", None, true).unwrap();
    assert!(report.is_clean(), "{report}");
}

/// A run that was killed in its second try goes on: what the first one did was undone, and is not taken for done.
#[test]
fn killed_in_the_second_try() {
    let site = site();
    let mailbox = site.mailbox();
    site.fault("store1", "LockoutMailboxRequest apply-then-hang 4 1");
    let more = ["--max-frozen", "3", "--pause", "1"];
    let mut zlm = site.start_paused_move_with(&mailbox, "let proof", &more);
    zlm.wait_for("paused");
    zlm.signal(Signal::KILL);
    let ended = zlm.end();
    assert!(ended.err.contains("try 1 of 5"), "{}", ended.err);
    site.tell("store1", "fault clear");
    assert_eq!(site.attribute(&mailbox.local, "zimbraAccountStatus").as_deref(), Some("maintenance"));
    site.wait_unheld(&mailbox);
    site.forget_run_dirs();
    site.go_on();
    let run = site.died_run();
    let resumed = site.zlm("store1", &["resume", &run]);
    resumed.assert(0, &[]);
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}
