//! Moves that go well because of a guard: each test fails when its guard is taken out of the program.

use zlm_lab::lab_mail::seed::Spec;

use crate::site::site;

#[test]
fn mailbox_that_nobody_touches() {
    let site = site();
    let mailbox = site.mailbox_of(150, &[]);
    site.move_it(&mailbox).assert(0, &[]);
    site.assert_moved(&mailbox);
    site.assert_let_go(&mailbox);
}

#[test]
fn mailbox_with_blobs_on_every_volume() {
    let site = site();
    let mailbox = site.shaped_mailbox(&[], |spec| Spec { items: 150, ..spec.hurting() });
    site.move_it(&mailbox).assert(0, &[]);
    site.assert_moved(&mailbox);
}

#[test]
fn mailbox_that_its_user_changes_and_empties_meanwhile() {
    let site = site();
    let mailbox = site.mailbox_of(150, &[]);
    let mut zlm = site.start_paused_move(&mailbox, "step(\"freeze\"");
    zlm.wait_for("paused");
    site.tell("store1", &format!("act {} 60 7", mailbox.email));
    let table = format!("mboxgroup{}.mail_item", (mailbox.number - 1) % 100 + 1);
    let count = format!("SELECT COUNT(*) FROM {table} WHERE mailbox_id = {}", mailbox.number);
    let left = site.number("store1", &count).unwrap();
    site.go_on();
    zlm.end().assert(0, &[]);
    let new = format!("SELECT id FROM zimbra.mailbox WHERE account_id = '{}'", mailbox.id);
    let new = site.number("store2", &new).unwrap();
    let there = format!("SELECT COUNT(*) FROM mboxgroup{}.mail_item WHERE mailbox_id = {new}", (new - 1) % 100 + 1);
    assert_eq!(site.number("store2", &there), Some(left));
    let report = site.check_moved(&mailbox.before, "store1", "store2", None, true).unwrap();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn frozen_mailbox_is_locked() {
    let site = site();
    let mailbox = site.mailbox();
    let mut zlm = site.start_paused_move(&mailbox, "step(\"delta\"");
    zlm.wait_for("paused");
    assert_eq!(site.tell("store1", &format!("locked {}", mailbox.id)), "yes");
    site.go_on();
    zlm.end().assert(0, &[]);
    site.assert_moved(&mailbox);
}
