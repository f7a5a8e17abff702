//! Rows that Zimbra's own tasks delete although the mailbox is locked: shares yet to be published, and reminders.

use zlm_lab::account_dn;
use zlm_lab::lab_mail::seed::Spec;

use crate::site::{Mailbox, Site, site};

const SHARES: &str = "pending_acl_push";
const TASKS: &str = "scheduled_task";
const REMINDER: (&str, &str) = ("com.zimbra.cs.mailbox.calendar.CalItemEmailReminderTask", "emailReminderTask300");

/// A mailbox with three shares to publish and two reminders.
fn mailbox(site: &Site) -> Mailbox {
    let mailbox = site.shaped_mailbox(&[], |spec| Spec { items: 60, pending_acl_push: 3, ..spec });
    for name in [REMINDER.1, "emailReminderTask301"] {
        site.sql(
            "store1",
            &format!(
                "INSERT INTO zimbra.scheduled_task (class_name, name, mailbox_id, exec_time, metadata) \
                 VALUES ('{}', '{name}', {}, '2031-01-01 09:00:00', 'd10:calItemId3:300e')",
                REMINDER.0, mailbox.number
            ),
        );
    }
    site.again(&mailbox)
}

/// Somebody else's reminder of the same name was sent.
fn remind_somebody_else(site: &Site, store: &str) -> String {
    site.tell(store, &format!("task-done {} {}", REMINDER.0, REMINDER.1))
}

fn rows(site: &Site, store: &str, table: &str, mailbox: &Mailbox) -> u64 {
    let sql = format!(
        "SELECT COUNT(*) FROM zimbra.{table} WHERE mailbox_id = (SELECT id FROM zimbra.mailbox WHERE account_id = '{}')",
        mailbox.id
    );
    site.number(store, &sql).unwrap()
}

#[track_caller]
fn assert_all_there(site: &Site, mailbox: &Mailbox) {
    assert_eq!((rows(site, "store2", SHARES, mailbox), rows(site, "store2", TASKS, mailbox)), (3, 2));
    site.assert_let_go(mailbox);
}

#[test]
fn lost_at_the_source_before_the_difference() {
    lost_at_the_source("step(\"delta\"");
}

#[test]
fn lost_at_the_source_before_the_proof() {
    lost_at_the_source("let proof");
}

#[test]
fn lost_at_the_source_before_the_switch() {
    lost_at_the_source("switch_to(");
}

fn lost_at_the_source(line: &str) {
    let site = site();
    let mailbox = mailbox(&site);
    let mut zlm = site.start_paused_move(&mailbox, line);
    zlm.wait_for("paused");
    site.tell("store1", "push-acl");
    remind_somebody_else(&site, "store1");
    assert_eq!((rows(&site, "store1", SHARES, &mailbox), rows(&site, "store1", TASKS, &mailbox)), (0, 1));
    site.go_on();
    zlm.end().assert(0, &[]);
    assert_all_there(&site, &mailbox);
    // The new home publishes them.
    site.tell("store2", "push-acl");
    let entries = site.ldap_get(&account_dn(&mailbox.local)).unwrap();
    assert_eq!(entries[0].values("zimbraSharedItem").len(), 3);
}

#[test]
fn lost_at_the_destination_before_the_switch() {
    let site = site();
    let mailbox = mailbox(&site);
    let mut zlm = site.start_paused_move(&mailbox, "switch_to(");
    zlm.wait_for("paused");
    site.tell("store2", "push-acl");
    remind_somebody_else(&site, "store2");
    site.go_on();
    zlm.end().assert(0, &[]);
    assert_all_there(&site, &mailbox);
}

#[test]
fn forgotten_by_the_destination_right_after_the_switch() {
    let site = site();
    let mailbox = mailbox(&site);
    let mut zlm = site.start_paused_move(&mailbox, "switch_to(");
    zlm.wait_for("paused");
    site.make_forgetful("store2");
    site.go_on();
    zlm.end().assert(0, &[]);
    site.crash_mariadb("store2");
    assert_all_there(&site, &mailbox);
}

#[test]
fn undone_with_the_rest() {
    let site = site();
    let mailbox = mailbox(&site);
    let mut zlm = site.start_paused_move(&mailbox, "switch_to(");
    zlm.wait_for("paused");
    site.fault("store1", "ModifyAccountRequest fail service.PERM_DENIED 1");
    site.go_on();
    zlm.end().assert(1, &[]);
    site.assert_rolled_back(&mailbox);
}

#[cfg(feature = "failpoints")]
#[test]
fn lost_while_the_run_was_dead() {
    let site = site();
    let mailbox = mailbox(&site);
    site.kill_move_at(&mailbox, "open_mailbox.before=kill");
    site.tell("store1", "push-acl");
    site.tell("store2", "push-acl");
    assert_eq!(rows(&site, "store2", SHARES, &mailbox), 0);
    site.zlm("store1", &["resume", &site.run_of(&mailbox)]).assert(0, &[]);
    assert_all_there(&site, &mailbox);
}

#[cfg(feature = "failpoints")]
#[test]
fn lost_between_proof_and_switch_while_the_run_was_dead() {
    let site = site();
    let mailbox = mailbox(&site);
    site.kill_move_at(&mailbox, "switch_to:4.before=kill");
    site.tell("store2", "push-acl");
    remind_somebody_else(&site, "store2");
    site.zlm("store1", &["resume", &site.run_of(&mailbox)]).assert(0, &[]);
    assert_all_there(&site, &mailbox);
}

#[cfg(feature = "failpoints")]
#[test]
fn finished_without_a_journal() {
    let site = site();
    let mailbox = mailbox(&site);
    site.kill_move_at(&mailbox, "open_mailbox.before=kill");
    site.tell("store2", "push-acl");
    site.zlm("store2", &["reconcile", &mailbox.email]).assert(0, &[]);
    site.zlm("store2", &["finish", &site.run_of(&mailbox)]).assert(0, &[]);
    assert_all_there(&site, &mailbox);
}
